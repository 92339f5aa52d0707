"""Listeners with `protocol: tls`: TLS ends here, and what is within goes on as it comes."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.harness import ports, tls
from tests.harness.lines import LineClient, LineServer
from tests.harness.tlssite import TlsSite


class WithinTls(TlsSite):
    """`one.test` and `two.test` at a listener of that kind."""

    def __init__(self, directory: Path, one: str, two: str) -> None:
        super().__init__(directory)
        self.inner = ports.address()
        self.one, self.two = one, two
        self.pair = self.leaf("one.test", "two.test", "other.test")
        self.repo.commit(self.within())
        self.daemon.start()

    def within(self, **policy: Any) -> dict[str, Any]:
        files = self.files({"all": self.pair}, frontends={"www": "main"})
        document: Any = files["kakehi.yaml"]
        document["listeners"]["lines"] = {"address": self.inner, "protocol": "tls", "tls": policy}
        for name, address in (("one", self.one), ("two", self.two)):
            document["clusters"][name] = {"backends": {"b": {"address": address}}}
            document["frontends"][name] = {
                "listeners": ["lines"],
                "hostname": f"{name}.test",
                "cluster": name,
            }
        return files

    def __enter__(self) -> WithinTls:
        return self

    def talk(self, name: str, *alpn: str) -> Inner:
        return Inner(self.inner, tls.trusting(self.authority), name, alpn)


class Inner(LineClient):
    """A client of lines within TLS."""

    def __init__(
        self, address: str, context: ssl.SSLContext, name: str, alpn: Sequence[str]
    ) -> None:
        context.set_alpn_protocols(list(alpn))
        super().__init__(address)
        self._file.close()
        self.secure = context.wrap_socket(self.socket, server_hostname=name)
        self.socket = self.secure
        self._file = self.secure.makefile("rb")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[WithinTls]:
    with (
        LineServer("one") as one,
        LineServer("two") as two,
        WithinTls(tmp_path, one.address, two.address) as made,
    ):
        yield made


def test_the_name_decides_and_the_server_speaks_first(site: WithinTls) -> None:
    for name in ("one", "two"):
        with site.talk(f"{name}.test") as client:
            assert client.hear() == f"{name} ready"
            assert client.say("hello") == f"{name} heard hello"
            assert client.secure.version() == "TLSv1.3"
            assert client.secure.selected_alpn_protocol() is None
    entry = site.daemon.wait_for_access(lambda entry: entry["frontend"] == "two")[-1]
    assert (entry["protocol"], entry["host"], entry["backend"]) == ("TCP", "two.test", "two/b")
    assert entry["bytes_in"] == len("hello\n")
    explained = site.daemon.json("explain", f"tls://one.test:{site.inner.rpartition(':')[2]}")
    assert explained["frontend"]["name"] == "one"
    assert "bytes pass unread; one/b serves it" in explained["message"]


def test_a_name_that_is_nobodys_is_closed_behind_the_handshake(site: WithinTls) -> None:
    with site.talk("other.test") as client:
        assert client.is_ended()
    site.daemon.wait_for_access(lambda entry: entry["outcome"] == "no_frontend")


def test_what_is_spoken_within_is_agreed_on(site: WithinTls) -> None:
    with site.talk("one.test", "whatever") as client:
        assert client.hear() == "one ready"
    site.daemon.commit(site.within(alpn=["imap", "lines"]))
    with site.talk("one.test", "lines") as client:
        assert client.secure.selected_alpn_protocol() == "lines"
        assert client.hear() == "one ready"
    with site.talk("one.test") as client:
        assert client.hear() == "one ready"
    for offered in ("http/1.1", "h2", "other"):
        with pytest.raises(ssl.SSLError, match=r"(?i)application.protocol"):
            site.talk("one.test", offered)


def test_a_commit_moves_newcomers_alone(site: WithinTls) -> None:
    with site.talk("one.test") as before:
        assert before.hear() == "one ready"
        site.one, site.two = site.two, site.one
        site.daemon.commit(site.within())
        with site.talk("one.test") as behind:
            assert behind.hear() == "two ready"
        assert before.say("still there?") == "one heard still there?"
