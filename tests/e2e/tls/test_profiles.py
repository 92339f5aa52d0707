"""The two profiles, by what OpenSSL can agree on with them: versions, suites, groups (T31).

Every version and suite of OpenSSL is tried against the list here; `suites/test_sslyze` judges by
Mozilla's own.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.harness import ports, tls
from tests.harness.tlssite import TlsSite

# Everything that the client can be made to offer, old and broken ones too.
_ALL = "ALL:COMPLEMENTOFALL:@SECLEVEL=0"
_VERSIONS = {"-tls1": "", "-tls1_1": "", "-tls1_2": "TLSv1.2", "-tls1_3": "TLSv1.3"}
# Mozilla's server-side TLS 5.7, intermediate; DHE is in it too, and nobody needs it.
_INTERMEDIATE_TLS12 = {
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
}
_TLS13 = {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsSite]:
    with TlsSite(tmp_path_factory.mktemp("profiles"), workers=1) as made:
        pairs = {"ecdsa": made.leaf("www.test"), "rsa": made.leaf("www.test", kind="rsa")}
        files = made.files(pairs, policy={"profile": "intermediate"})
        document: Any = files["kakehi.yaml"]
        document["listeners"]["modern"] = {
            "address": ports.address(),
            "protocol": "https",
            "tls": {"profile": "modern"},
        }
        document["listeners"]["unsaid"] = {"address": ports.address(), "protocol": "https"}
        made.addresses = {  # type: ignore[attr-defined]
            name: listener["address"] for name, listener in document["listeners"].items()
        }
        made.start(files)
        yield made


def address(site: TlsSite, profile: str) -> str:
    listener = {"intermediate": "secure"}.get(profile, profile)
    return str(site.addresses[listener])  # type: ignore[attr-defined]


@pytest.mark.parametrize("profile", ["intermediate", "unsaid", "modern"])
def test_versions(site: TlsSite, profile: str) -> None:
    where = address(site, profile)
    expected = {**_VERSIONS, **({"-tls1_2": ""} if profile == "modern" else {})}
    found = {
        option: tls.s_client(where, option, "-cipher", _ALL, name="www.test").version
        for option in _VERSIONS
    }
    assert found == expected


@pytest.mark.parametrize("profile", ["intermediate", "modern"])
def test_suites_of_tls_1_2(site: TlsSite, profile: str) -> None:
    agreed = {
        suite
        for suite in _suites_of_openssl()
        if tls.s_client(
            address(site, profile),
            *("-tls1_2", "-cipher", f"{suite}:@SECLEVEL=0"),
            name="www.test",
        ).cipher
    }
    assert agreed == (_INTERMEDIATE_TLS12 if profile == "intermediate" else set())


@pytest.mark.parametrize("profile", ["intermediate", "modern"])
def test_suites_of_tls_1_3(site: TlsSite, profile: str) -> None:
    offered = [*_TLS13, "TLS_AES_128_CCM_SHA256", "TLS_AES_128_CCM_8_SHA256"]
    agreed = {
        suite
        for suite in offered
        if tls.s_client(
            address(site, profile), *("-tls1_3", "-ciphersuites", suite), name="www.test"
        ).cipher
    }
    assert agreed == _TLS13


@pytest.mark.parametrize("group", ["X25519", "prime256v1", "secp384r1"])
def test_the_groups_of_mozilla_are_agreed_on(site: TlsSite, group: str) -> None:
    # In TLS 1.2 the groups are also the curves that a client takes in certificates: so RSA there.
    for options in (["-tls1_2", "-sigalgs", "RSA-PSS+SHA256"], ["-tls1_3"]):
        said = tls.s_client(site.https, *options, "-groups", group, name="www.test")
        assert said.cipher, said


@pytest.mark.parametrize("group", ["secp224r1", "sect283k1", "brainpoolP256r1"])
def test_weak_groups_are_not(site: TlsSite, group: str) -> None:
    options = ("-tls1_2", "-cipher", _ALL, "-groups", group)
    assert not tls.s_client(site.https, *options, name="www.test").cipher


def test_renegotiation_and_compression_are_refused(site: TlsSite) -> None:
    said = tls.s_client(site.https, "-tls1_2", name="www.test")
    assert "Compression: NONE" in said.text
    assert "Secure Renegotiation IS supported" in said.text
    done = subprocess.run(
        ["openssl", "s_client", "-connect", site.https, "-servername", "www.test", "-tls1_2"],
        input=b"R\n",  # the command to renegotiate
        capture_output=True,
        timeout=tls.DEADLINE_S,
    )
    text = (done.stdout + done.stderr).decode("latin-1")
    assert "RENEGOTIATING" in text
    assert "no renegotiation" in text.lower() or done.returncode, text


def test_clear_text_to_a_tls_listener_is_answered_by_nothing_of_a_backend(site: TlsSite) -> None:
    from tests.harness.rawclient import Connection

    with Connection(site.https) as connection:
        connection.send(b"GET / HTTP/1.1\r\nHost: www.test\r\n\r\n")
        rest = connection.read_to_close()
    assert b"red" not in rest
    assert tls.curl(site.https, "www.test", "--insecure").stdout == b"red"


def _suites_of_openssl() -> list[str]:
    done = subprocess.run(
        ["openssl", "ciphers", "-s", "-tls1_2", _ALL], capture_output=True, check=True, text=True
    )
    return done.stdout.strip().split(":")
