"""TLS to backends: verified by authority and name, and known to them by our own certificate."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import pki, ports
from tests.harness.nginx import NginxProcess
from tests.harness.pki import Pair
from tests.harness.rawclient import Connection
from tests.harness.repo import Content
from tests.harness.tlssite import TlsSite

_NGINX = """\
    server {{
        listen {address} ssl;
        ssl_certificate {prefix}/server.crt;
        ssl_certificate_key {prefix}/server.key;
        ssl_protocols {protocols};
        {more}
        root {prefix}/files;
        location = / {{
            return 200 "$ssl_protocol|$ssl_server_name|$ssl_client_verify|$ssl_client_s_dn";
        }}
        location = /reused {{ return 200 "$connection|$connection_requests"; }}
        location = /put {{ dav_methods PUT; client_max_body_size 0; }}
    }}
"""
_MIB = 1 << 20


class TlsBackend(NginxProcess):
    """nginx over TLS; use as a context manager."""

    def __init__(
        self, prefix: Path, pair: Pair, *, protocols: str = "TLSv1.2 TLSv1.3", more: str = ""
    ) -> None:
        self.files = prefix / "files"
        self.files.mkdir(parents=True)
        self.address = ports.address()
        (prefix / "server.crt").write_bytes(pair.chain)
        (prefix / "server.key").write_bytes(pair.key)
        http = _NGINX.format(prefix=prefix, address=self.address, protocols=protocols, more=more)
        super().__init__(prefix, http, [self.address])


class Upstream:
    """A site whose one cluster is a TLS backend, and the ways to be wrong about it."""

    def __init__(self, site: TlsSite, directory: Path) -> None:
        self.site = site
        self.directory = directory
        self.ca = pki.make("backends' authority", is_ca=True)
        self.started = False
        self._stack = contextlib.ExitStack()

    def backend(self, *names: str, issuer: Pair | None = None, **options: Any) -> TlsBackend:
        """A backend with a certificate for these names."""
        pair = pki.make(*names, issuer=issuer or self.ca)
        prefix = self.directory / f"backend-{len(list(self.directory.iterdir()))}"
        return self._stack.enter_context(TlsBackend(prefix, pair, **options))

    def close(self) -> None:
        self._stack.close()

    def apply(
        self, backend: TlsBackend, policy: dict[str, Any], more: dict[str, Content] | None = None
    ) -> None:
        """Commit a cluster with this `tls`, and wait for it."""
        files = self.site.files(
            {},
            clusters={"main": [backend.address]},
            tls=policy,
            retries=0,
        )
        document: Any = files["kakehi.yaml"]
        document["listeners"].pop("secure")
        document["frontends"]["www"]["listeners"] = ["main"]
        document.pop("certificates")
        whole = {**files, "tls/ca.pem": self.ca.pem.decode(), **(more or {})}
        if self.started:
            self.site.commit(whole)
        else:
            self.site.begin(whole)
            self.started = True

    def answers(self, path: str = "/") -> set[str]:
        """What every worker answers: a body, or the status if it is not 200."""
        return self.site.everywhere("www.test", path)

    def errors(self) -> set[str]:
        """The errors of the last requests, by the access log."""
        entries = self.site.daemon.wait_for_access(lambda entry: entry["status"] == 502)
        return {str(entry.get("error") or entry.get("outcome")) for entry in entries}


@pytest.fixture
def upstream(shared: TlsSite, tmp_path: Path) -> Iterator[Upstream]:
    directory = tmp_path / "upstreams"
    directory.mkdir()
    with contextlib.closing(Upstream(shared, directory)) as made:
        yield made


_RIGHT = {"ca": "tls/ca.pem", "server_name": "shop.internal"}


def test_a_backend_with_the_right_authority_and_name_serves(upstream: Upstream) -> None:
    backend = upstream.backend("shop.internal")
    upstream.apply(backend, _RIGHT)
    assert upstream.answers() == {"TLSv1.3|shop.internal|NONE|"}


@pytest.mark.parametrize("protocol", ["TLSv1.2", "TLSv1.3"])
def test_both_versions_are_spoken(upstream: Upstream, protocol: str) -> None:
    upstream.apply(upstream.backend("shop.internal", protocols=protocol), _RIGHT)
    assert {answer.split("|")[0] for answer in upstream.answers()} == {protocol}


def test_an_old_version_is_not(upstream: Upstream) -> None:
    old = upstream.backend(
        "shop.internal", protocols="TLSv1 TLSv1.1", more="ssl_ciphers ALL:@SECLEVEL=0;"
    )
    upstream.apply(old, _RIGHT)
    assert upstream.answers() == {"502"}


def test_a_backend_of_another_authority_is_refused(upstream: Upstream) -> None:
    stranger = pki.make("somebody else", is_ca=True)
    upstream.apply(upstream.backend("shop.internal", issuer=stranger), _RIGHT)
    assert upstream.answers() == {"502"}
    assert upstream.errors()


def test_an_authority_with_the_same_name_and_another_key_is_refused(upstream: Upstream) -> None:
    impostor = pki.make("backends' authority", is_ca=True)
    upstream.apply(upstream.backend("shop.internal", issuer=impostor), _RIGHT)
    assert upstream.answers() == {"502"}


def test_a_self_signed_backend_is_refused_unless_it_is_the_authority(upstream: Upstream) -> None:
    upstream.apply(upstream.backend("shop.internal"), {"server_name": "shop.internal"})
    assert upstream.answers() == {"502"}, "the system trusts nobody of ours"


def test_a_backend_of_another_name_is_refused(upstream: Upstream) -> None:
    backend = upstream.backend("other.internal")
    upstream.apply(backend, _RIGHT)
    assert upstream.answers() == {"502"}
    upstream.apply(backend, {**_RIGHT, "server_name": "other.internal"})
    assert upstream.answers() == {"TLSv1.3|other.internal|NONE|"}


def test_an_expired_backend_is_refused(upstream: Upstream, tmp_path: Path) -> None:
    expired = pki.make("shop.internal", issuer=upstream.ca, days=-0.1)
    with TlsBackend(tmp_path / "expired", expired) as backend:
        upstream.apply(backend, _RIGHT)
        assert upstream.answers() == {"502"}


def test_without_a_name_the_certificate_must_have_the_address(upstream: Upstream) -> None:
    named, numbered = upstream.backend("shop.internal"), upstream.backend("127.0.0.1")
    upstream.apply(named, {"ca": "tls/ca.pem"})
    assert upstream.answers() == {"502"}
    upstream.apply(numbered, {"ca": "tls/ca.pem"})
    assert upstream.answers() == {"TLSv1.3||NONE|"}


def test_without_verification_anybody_serves(upstream: Upstream) -> None:
    stranger = pki.make("somebody else", is_ca=True)
    backend = upstream.backend("whoever.internal", issuer=stranger)
    upstream.apply(backend, {"verify": False})
    assert {answer.split("|")[0] for answer in upstream.answers()} == {"TLSv1.3"}
    # And turned on again, the pooled connections of before do not go on serving.
    upstream.apply(backend, {**_RIGHT, "verify": True})
    assert upstream.answers() == {"502"}


def test_the_authority_is_rotated_by_a_commit(upstream: Upstream) -> None:
    new = pki.make("the next authority", is_ca=True)
    backend = upstream.backend("shop.internal", issuer=new)
    upstream.apply(backend, _RIGHT)
    assert upstream.answers() == {"502"}
    both = (upstream.ca.pem + new.pem).decode()
    upstream.apply(backend, _RIGHT, {"tls/ca.pem": both})
    assert upstream.answers() == {"TLSv1.3|shop.internal|NONE|"}
    upstream.apply(backend, _RIGHT)
    assert upstream.answers() == {"502"}, "who is no longer trusted is no longer spoken to"


def test_a_backend_that_asks_gets_our_certificate(upstream: Upstream) -> None:
    clients = pki.make("clients' authority", is_ca=True)
    authority = upstream.directory.parent / "clients.pem"
    authority.write_bytes(clients.pem)
    backend = upstream.backend(
        "shop.internal",
        more=f"ssl_client_certificate {authority}; ssl_verify_client on;",
    )
    # nginx answers 400 to whoever has none.
    upstream.apply(backend, _RIGHT)
    assert upstream.answers() == {"400"}
    own, foreign = pki.make("proxy.test", issuer=clients), pki.make("proxy.test")
    policy = {**_RIGHT, "certificate": "tls/own.crt", "private_key": "tls/own.key"}

    def pems(pair: Pair) -> dict[str, Content]:
        return {"tls/own.crt": pair.chain.decode(), "tls/own.key": pair.key.decode()}

    upstream.apply(backend, policy, pems(own))
    assert upstream.answers() == {"TLSv1.3|shop.internal|SUCCESS|CN=proxy.test"}
    upstream.apply(backend, policy, pems(foreign))
    assert upstream.answers() == {"400"}
    upstream.apply(backend, policy, pems(pki.make("proxy-2.test", issuer=clients)))
    assert upstream.answers() == {"TLSv1.3|shop.internal|SUCCESS|CN=proxy-2.test"}


def test_a_backend_in_clear_text_is_not_spoken_to_in_tls_and_the_other_way_round(
    upstream: Upstream,
) -> None:
    backend = upstream.backend("shop.internal")
    upstream.apply(backend, _RIGHT)
    clear = upstream.site.backends.address["red"]
    backend.address, secure = clear, backend.address
    upstream.apply(backend, _RIGHT)
    assert upstream.answers() == {"502"}
    backend.address = secure
    upstream.apply(backend, {**_RIGHT})
    assert upstream.answers() == {"TLSv1.3|shop.internal|NONE|"}


def test_connections_are_kept_and_large_bodies_pass(upstream: Upstream) -> None:
    backend = upstream.backend("shop.internal")
    content = os.urandom(_MIB) * 32
    (backend.files / "large").write_bytes(content)
    upstream.apply(backend, _RIGHT)
    with Connection(upstream.site.address) as connection:
        first = connection.get("www.test", "/reused").body.split(b"|")
        second = connection.get("www.test", "/reused").body.split(b"|")
        assert first[0] == second[0], "another connection to the backend"
        assert int(second[1]) == int(first[1]) + 1
        assert connection.get("www.test", "/large").body == content
        lines = f"PUT /put HTTP/1.1\r\nHost: www.test\r\nContent-Length: {len(content)}\r\n\r\n"
        connection.send(lines.encode() + content)
        assert connection.read_response("PUT").status in (201, 204)
    assert (backend.files / "put").read_bytes() == content


@pytest.mark.parametrize(
    ("policy", "files", "message"),
    [
        ({"ca": "tls/nowhere.pem"}, {}, "not in the commit"),
        ({"ca": "tls/junk.pem"}, {"tls/junk.pem": "junk\n"}, "no PEM certificate"),
        ({"certificate": "tls/ca.pem"}, {}, "belong together"),
        ({"server_name": "*.internal"}, {}, "one name"),
    ],
)
def test_a_broken_policy_is_refused(
    upstream: Upstream, policy: dict[str, Any], files: dict[str, Content], message: str
) -> None:
    backend = upstream.backend("shop.internal")
    upstream.apply(backend, _RIGHT)
    text = upstream.site.repo.show("HEAD", "kakehi.yaml").decode()
    document = json.loads(text)
    document["clusters"]["main"]["tls"] |= policy
    bad = upstream.site.repo.commit({"kakehi.yaml": document, **files})
    assert upstream.site.daemon.outcome(bad) == "refused"
    error = upstream.site.daemon.ask("status")["last_error"]
    assert message in error["message"], error
    assert (error["file"], bool(error["line"])) == ("kakehi.yaml", True)
    assert upstream.answers() == {"TLSv1.3|shop.internal|NONE|"}
