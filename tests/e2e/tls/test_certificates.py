"""A committed certificate is in the next handshake, for whoever asks, on every worker."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from tests.harness import pki, tls
from tests.harness.tlssite import TlsSite, pem_files


def test_a_committed_certificate_serves_the_next_handshake_of_any_client(
    shared: TlsSite, tmp_path: Path
) -> None:
    pair = shared.leaf("www.test")
    shared.begin(shared.files({"shop": pair}))
    ca = tls.written(tmp_path, "ca.pem", shared.authority.pem)

    with shared.connect() as connection:
        assert connection.shown == pair.der
        assert connection.socket.version() == "TLSv1.3"
        assert connection.socket.selected_alpn_protocol() == "http/1.1"
        assert connection.get("www.test").body == b"red"
        assert connection.get("www.test").body == b"red"

    said = tls.s_client(shared.https, "-CAfile", ca, name="www.test", host="www.test")
    assert said.code == 0, said
    assert said.verified, said
    assert said.leaf == tls.fingerprints([pair])[0]
    assert "200 OK" in said.text

    done = tls.curl(shared.https, "www.test", "--cacert", ca)
    assert (done.returncode, done.stdout) == (0, b"red"), done
    assert tls.curl(shared.https, "www.test").returncode == 60, "trusted by nobody else"
    assert tls.curl(shared.https, "www.test", "--insecure").stdout == b"red"
    # The plain listener is as it was.
    assert shared.everywhere("www.test") == {"red"}


def test_a_rotation_and_its_revert_leave_open_connections_as_they_are(shared: TlsSite) -> None:
    first, second = shared.leaf("www.test"), shared.leaf("www.test")
    shared.begin(shared.files({"shop": first}))
    identity = shared.identity()
    old = shared.per_worker()
    generation, digest = shared.running()

    shared.wait_by_command(shared.repo.commit(pem_files({"shop": second}), "rotate"))
    assert shared.shown_by_all() == {second.der}
    new = shared.per_worker()
    shared.wait_by_command(shared.repo.revert())
    assert shared.shown_by_all() == {first.der}

    assert shared.running() == (generation + 2, digest)
    assert shared.digest_of() == digest
    assert shared.identity() == identity
    for connections, pair in ((old, first), (new, second)):
        for connection in connections.values():
            with connection:
                assert connection.shown == pair.der
                assert connection.is_open()
                assert connection.get("www.test").body == b"red"


def test_a_certificate_added_and_removed_is_the_only_thing_that_changes(shared: TlsSite) -> None:
    www, other = shared.leaf("www.test"), shared.leaf("other.test")
    shared.begin(shared.files({"shop": www}))
    shared.commit(shared.files({"shop": www, "other": other}))
    assert shared.shown("other.test") == other.der
    kept = shared.per_worker("other.test")
    shared.commit({**shared.files({"shop": www}), "tls/other.crt": None, "tls/other.key": None})
    with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized.name"):
        shared.shown("other.test")
    assert shared.shown_by_all() == {www.der}
    for connection in kept.values():
        with connection:
            assert connection.get("www.test").body == b"red"


def test_a_listener_turns_to_https_and_back(shared: TlsSite) -> None:
    """The same address, in clear text, over TLS and in clear text again."""
    pair = shared.leaf("www.test")
    secure = shared.files({"shop": pair})
    clear = shared.files({"shop": pair})
    document = clear["kakehi.yaml"]
    assert isinstance(document, dict)
    document["listeners"]["secure"] = {"address": shared.https}
    shared.begin(clear)
    for _ in range(2):
        assert set().union(*shared.fresh("www.test", address=shared.https).values()) == {"red"}
        shared.commit(secure)
        assert shared.shown_by_all() == {pair.der}
        shared.commit(clear)
    assert set().union(*shared.fresh("www.test", address=shared.https).values()) == {"red"}


# SNI


def test_the_name_decides_exact_before_wildcard_before_default(shared: TlsSite) -> None:
    pairs = {
        "exact": shared.leaf("www.shop.test"),
        "wild": shared.leaf("*.shop.test"),
        "fallback": shared.leaf("fallback.test"),
    }
    shared.begin(shared.files(pairs, policy={"default_certificate": "fallback"}))
    any_name = tls.trusting(shared.authority, check_hostname=False)

    def name_of(sni: str | None) -> str:
        der = shared.shown(sni, any_name)
        return next(name for name, pair in pairs.items() if pair.der == der)

    assert name_of("www.shop.test") == "exact"
    assert name_of("WWW.Shop.TEST") == "exact"
    assert name_of("api.shop.test") == "wild"
    # A wildcard stands for one label, never for none or two.
    assert name_of("shop.test") == "fallback"
    assert name_of("a.b.shop.test") == "fallback"
    assert name_of("fallback.test") == "fallback"
    assert name_of("unknown.test") == "fallback"
    assert name_of(None) == "fallback"


def test_without_a_default_an_unknown_name_is_refused_by_its_alert(shared: TlsSite) -> None:
    shared.begin(shared.files({"shop": shared.leaf("www.test")}))
    with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized.name"):
        shared.shown("unknown.test")
    said = tls.s_client(shared.https)
    assert said.cipher == "", said
    assert "unrecognized name" in said.text
    with shared.connect() as connection:
        assert connection.get("www.test").body == b"red"


def test_hostnames_narrow_what_a_certificate_is_served_for(shared: TlsSite) -> None:
    pair = shared.leaf("www.test", "more.test")
    shared.begin(shared.files({"shop": pair}, hostnames={"shop": ["www.test"]}))
    assert shared.shown("www.test") == pair.der
    with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized.name"):
        shared.shown("more.test")


def test_the_default_certificate_moves_by_a_commit(shared: TlsSite) -> None:
    pairs = {"one": shared.leaf("one.test"), "two": shared.leaf("two.test")}
    shared.begin(shared.files(pairs, policy={"default_certificate": "one"}))
    any_name = tls.trusting(shared.authority, check_hostname=False)
    kept = shared.per_worker("one.test")
    assert shared.shown(None, any_name) == pairs["one"].der
    shared.commit(shared.files(pairs, policy={"default_certificate": "two"}))
    assert shared.shown(None, any_name) == pairs["two"].der
    # The default's own rotation is one, too.
    pairs["two"] = shared.leaf("two.test")
    shared.commit(pem_files(pairs))
    assert shared.shown(None, any_name) == pairs["two"].der
    for connection in kept.values():
        with connection:
            assert connection.get("www.test").body == b"red"


# Kinds of keys


_ECDSA = "ECDHE-ECDSA-AES128-GCM-SHA256"
_RSA = "ECDHE-RSA-AES128-GCM-SHA256"


def test_of_an_ecdsa_and_an_rsa_certificate_a_client_gets_the_one_that_it_can_verify(
    shared: TlsSite,
) -> None:
    # By name RSA would come first.
    pairs = {"a-rsa": shared.leaf("www.test", kind="rsa"), "b-ecdsa": shared.leaf("www.test")}
    rsa, ecdsa = tls.fingerprints(list(pairs.values()))
    shared.begin(shared.files(pairs))

    def leaf(*options: str) -> str:
        said = tls.s_client(shared.https, *options, name="www.test")
        assert said.cipher, said
        return said.leaf

    assert leaf() == ecdsa, "what can do both gets the shorter one"
    assert leaf("-tls1_3", "-sigalgs", "rsa_pss_rsae_sha256") == rsa
    assert leaf("-tls1_3", "-sigalgs", "ecdsa_secp256r1_sha256") == ecdsa
    assert leaf("-tls1_2", "-sigalgs", "rsa_pss_rsae_sha256") == rsa
    assert leaf("-tls1_2", "-sigalgs", "RSA+SHA256:ECDSA+SHA256") == ecdsa


def test_a_client_of_tls_1_2_whose_suites_know_one_kind_of_key_gets_that_kind(
    shared: TlsSite,
) -> None:
    """The suites of TLS 1.2 name the kind of key; such a client may still know all signatures."""
    pairs = {"a-rsa": shared.leaf("www.test", kind="rsa"), "b-ecdsa": shared.leaf("www.test")}
    rsa, ecdsa = tls.fingerprints(list(pairs.values()))
    shared.begin(shared.files(pairs))
    for cipher, expected in ((_RSA, rsa), (_ECDSA, ecdsa)):
        said = tls.s_client(shared.https, "-tls1_2", "-cipher", cipher, name="www.test")
        assert said.cipher == cipher, said
        assert said.leaf == expected


@pytest.mark.parametrize("form", ["PKCS8", "TraditionalOpenSSL"])
@pytest.mark.parametrize("kind", ["ecdsa", "rsa"])
def test_private_keys_of_every_usual_form_serve(shared: TlsSite, kind: str, form: str) -> None:
    from cryptography.hazmat.primitives import serialization

    pair = shared.leaf("www.test", kind=kind)
    key = pair.private_key.private_bytes(
        serialization.Encoding.PEM,
        getattr(serialization.PrivateFormat, form),
        serialization.NoEncryption(),
    )
    files = shared.files({"shop": pair})
    shared.begin({**files, "tls/shop.key": key.decode()})
    assert shared.shown() == pair.der


def test_a_chain_is_sent_whole(shared: TlsSite) -> None:
    """Clients know the root alone: without the intermediate they could not verify."""
    intermediate = pki.make("Kakehi test intermediate", issuer=shared.authority, is_ca=True)
    pair = pki.make("www.test", issuer=intermediate)
    shared.begin(shared.files({"shop": pair}))
    assert shared.shown() == pair.der
