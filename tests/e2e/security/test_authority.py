"""T18: one host, decided once. Targets and Host fields that name another, several, or none."""

from __future__ import annotations

import pytest

from tests.harness import attack
from tests.harness.gateway import Gateway, Lane


def _request(target: str, *hosts: str, method: str = "GET") -> bytes:
    lines = [f"{method} {target} HTTP/1.1", *(f"Host:{host}" for host in hosts), "", ""]
    return "\r\n".join(lines).encode("latin-1")


HOSTS = {
    "none": [],
    "two-that-differ": [" a.test", " b.test"],
    "two-that-agree": [" a.test", " a.test"],
    "second-empty": [" a.test", ""],
    "space": [" a b"],
    "comma": [" a.test, b.test"],
    "comma-tight": [" a.test,b.test"],
    "slash": [" a.test/b"],
    "backslash": [" a.test\\b"],
    "question": [" a.test?b"],
    "fragment": [" a.test#b"],
    "userinfo": [" user@a.test"],
    "userinfo-with-password": [" user:password@a.test"],
    "semicolon": [" a.test;b"],
    "angle": [" <a.test>"],
    "quote": [' "a.test"'],
    "percent": [" a%2etest"],
    "nul-escape": [" a%00.test"],
    "two-ports": [" a.test:80:80"],
    "port-a-word": [" a.test:http"],
    "port-signed": [" a.test:+80"],
    "port-too-large": [" a.test:65536"],
    "port-huge": [" a.test:99999999999999999999"],
    "port-only": [" :80"],
    "empty-label": [" a..test"],
    "dot-first": [" .test"],
    "dots": [" .."],
    "bracket-open": [" [::1"],
    "bracket-empty": [" []"],
    "bracket-word": [" [zz]"],
    "bracket-then-digits": [" [::1]80"],
    "colons-without-brackets": [" ::1"],
    "scheme": [" http://a.test"],
    "beyond-ascii": [" caf\xc3\xa9.test"],
    "tab-inside": [" a\ttest"],
    "too-long": [" " + "a" * 300],
}


@pytest.mark.parametrize("hosts", HOSTS.values(), ids=HOSTS)
def test_t18_hosts(anyhost: Lane, hosts: list[str]) -> None:
    attack.refused(anyhost, _request("/", *hosts))


def test_t18_an_empty_host_is_nobody(anyhost: Lane) -> None:
    """Valid syntax, but it names nobody: refused, or not found."""
    verdict = attack.launch(anyhost, _request("/", ""))
    assert verdict.status in (400, 404)
    assert verdict.forwarded == []


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        (" A.Test", b"a.test"),
        (" a.test.", b"a.test"),
        (" a.test:80", b"a.test:80"),
        (" [::1]", b"[::1]"),
        (" [::1]:8080", b"[::1]:8080"),
        (" 127.0.0.1", b"127.0.0.1"),
        ("\ta.test \t", b"a.test"),
    ],
)
def test_t18_hosts_that_are_valid_are_sent_as_one(anyhost: Lane, given: str, sent: bytes) -> None:
    client = anyhost.connect()
    client.send(_request("/valid", given))
    assert client.read_response().status == 200
    [request] = attack.forwarded(anyhost)
    [host] = request.all("host")
    assert host.lower().rstrip(b".") == sent
    assert request.get("x-forwarded-host") == host


TARGETS = {
    "other-host": ("http://b.test/", ["a.test"]),
    "other-port": ("http://a.test:81/", ["a.test"]),
    "other-host-in-https": ("https://b.test/", ["a.test"]),
    "longer-host": ("http://a.test.evil.test/", ["a.test"]),
    "no-host-field": ("http://a.test/", []),
    "two-host-fields": ("http://a.test/", ["a.test", "a.test"]),
    "userinfo": ("http://user@a.test/", ["a.test"]),
    "userinfo-like-a-host": ("http://a.test@b.test/", ["a.test"]),
    "password": ("http://user:pw@a.test/", ["a.test"]),
    "fragment": ("/a#b", ["a.test"]),
    "fragment-in-query": ("/a?b#c", ["a.test"]),
    "fragment-in-absolute": ("http://a.test/#b", ["a.test"]),
    "fragment-in-authority": ("http://a.test#@b.test/", ["a.test"]),
    "backslash-in-authority": ("http://a.test\\@b.test/", ["a.test"]),
    "no-authority": ("http:///a", ["a.test"]),
    "no-slashes": ("http:/a", ["a.test"]),
    "only-a-scheme": ("http:", ["a.test"]),
    "other-scheme": ("ftp://a.test/", ["a.test"]),
    "javascript": ("javascript:alert(1)", ["a.test"]),
    "word": ("a", ["a.test"]),
    "relative": ("a/b", ["a.test"]),
    "dots": ("../a", ["a.test"]),
    "only-a-query": ("?a=b", ["a.test"]),
    "authority-form": ("a.test:80", ["a.test"]),
    "asterisk": ("*", ["a.test"]),
    "asterisk-and-more": ("*/a", ["a.test"]),
    "two-authorities": ("http://a.test/http://b.test/ http://a.test/", ["a.test"]),
}


@pytest.mark.parametrize(("target", "hosts"), TARGETS.values(), ids=TARGETS)
def test_t18_targets(anyhost: Lane, target: str, hosts: list[str]) -> None:
    data = _request(target, *(f" {host}" for host in hosts))
    attack.refused(anyhost, data, (400, 421))


@pytest.mark.parametrize("target", ["a.test:443", "/", "http://a.test/", "*", "[::1]:22"])
@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/1.0"])
def test_t18_connect_is_off(anyhost: Lane, target: str, version: str) -> None:
    data = f"CONNECT {target} {version}\r\nHost: a.test:443\r\n\r\n".encode()
    attack.refused(anyhost, data, (400, 405, 501))


def test_t18_the_host_that_was_matched_is_the_host_that_is_sent(
    gateway: Gateway, lane: Lane
) -> None:
    """The target's authority wins where both are given, and both must agree."""
    other = gateway.lanes[0]
    attack.refused(lane, _request(f"http://{other.host}/", f" {lane.host}"), (400, 421))
    attack.refused(lane, _request(f"http://{lane.host}/", f" {other.host}"), (400, 421))
    other.backend.settle()
    assert other.backend.connections == []
    client = lane.connect()
    assert client.get(lane.host.upper(), f"http://{lane.host}/x").status == 200
    [request] = attack.forwarded(lane)
    assert request.get("host") == lane.host.encode()


def test_t18_options_asterisk_goes_where_its_host_says(gateway: Gateway, lane: Lane) -> None:
    client = lane.connect()
    assert client.get(lane.host, "*", method="OPTIONS").status == 200
    assert client.get("nowhere.test", "*", method="OPTIONS").status == 404
    [request] = attack.forwarded(lane)
    assert request.target == b"*"
