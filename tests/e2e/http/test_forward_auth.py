"""Requests pass where somebody says that they may, over every version, and nowhere else.

Who is asked is a real server, of HTTP/1.1 and of HTTP/2: it lets pass who has the cookie `user`,
and sends everybody else to sign in. What counts is what the backend has got.
"""

from __future__ import annotations

import re
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.harness import ports, processes, rawclient, wire
from tests.harness.h2backend import H2Backend, Request
from tests.harness.h2client import H2Client
from tests.harness.rawbackend import Exchange, RawBackend
from tests.harness.tlssite import TlsSite

OVER = ("main", "h2c", "secure")
BODY = bytes(range(256)) * 512
KEPT = {"headers": ["cookie"], "ttl": "1h"}
SIGN_IN = [("Location", "https://sso.test/"), ("Set-Cookie", "back=1"), ("Set-Cookie", "try=2")]


@dataclass
class Answer:
    status: int
    fields: list[tuple[str, str]]
    body: bytes

    def all(self, name: str) -> list[str]:
        return [value for each, value in self.fields if each.lower() == name.lower()]


class GuardedSite(TlsSite):
    """`one` asks a server of HTTP/1.1 by a policy, `two` one of HTTP/2 by its own word."""

    def __init__(self, directory: Path) -> None:
        # What was said is known to the worker that has asked.
        super().__init__(directory, [], workers=1)
        self.behind = RawBackend(self._serve)
        self.sso = RawBackend(self._judge)
        self.streams = H2Backend(self._judge_stream)
        self.gate = RawBackend(self._gate)
        self.h2c, self.guarded, self.admin = ports.address(), ports.address(), ports.address()
        self.settings["admin"] = self.admin
        self.manner = ""
        hosts = ("one", "two", "here", "sent", "round", "set", "kept", "timed")
        self.contents = self.files(
            {"all": self.leaf(*(f"{host}.test" for host in hosts))},
            clusters={
                "behind": [self.behind.address],
                "sso": [self.sso.address],
                "gate": [self.gate.address],
                "round": [self.address],
            },
            frontends={},
        )
        self.document: Any = self.contents["kakehi.yaml"]
        self.document["clusters"]["streams"] = {
            "protocol": "h2",
            "backends": {"b": {"address": self.streams.address}},
        }
        self.document["listeners"] |= {
            "h2c": {"address": self.h2c, "h2c": True},
            "guarded": {"address": self.guarded, "policies": ["gate"]},
        }
        asked = {"path": "/verify?rd=a", "copy_headers": ["X-Groups", "X-User"], "timeout": "2s"}
        self.document["policies"] = {
            "sso": {"forward_auth": {"cluster": "sso", **asked}},
            "gate": {"forward_auth": {"cluster": "gate"}},
            "kept": {"forward_auth": {"cluster": "sso", **asked, "cache": KEPT}},
            "timed": {"forward_auth": {"cluster": "sso", "cache": {**KEPT, "ttl": "2s"}}},
        }
        shared = {"policies": ["sso"]}
        self.document["frontends"] = {
            "one": self._frontend("one", shared),
            "two": self._frontend("two", {"forward_auth": {"cluster": "streams", **asked}}),
            "here": self._frontend("here", shared, respond={"status": 200, "body": "here"}),
            "sent": self._frontend("sent", shared, redirect={"path": {"full": "/new{path}"}}),
            "kept": self._frontend("kept", {"policies": ["kept"]}),
            "timed": self._frontend("timed", {"policies": ["timed"]}),
            "round": self._frontend("round", {"forward_auth": {"cluster": "round"}}),
            "set": self._frontend(
                "set", {**shared, "request_headers": {"set": {"X-User": "{client_address}"}}}
            ),
        }
        self.start(self.contents)

    @staticmethod
    def _frontend(host: str, keys: dict[str, Any], **end: Any) -> dict[str, Any]:
        on = {"hostname": f"{host}.test", "listeners": ["guarded", *OVER]}
        return {**on, **keys, **(end or {"cluster": "behind"})}

    def __exit__(self, kind: object, *rest: object) -> None:
        super().__exit__(kind, *rest)
        for backend in (self.behind, self.sso, self.streams, self.gate):
            backend.stop()

    def _serve(self, exchange: Exchange) -> None:
        exchange.read_body()
        exchange.send(wire.response(b"behind"))

    def _judge(self, exchange: Exchange) -> None:
        cookie = b"; ".join(exchange.request.all("cookie")).decode()
        match self.manner:
            case "slow":
                exchange.wait_for_end()
            case "fails":
                exchange.send(wire.response(b"no", status="500 No"))
            case "closes":
                exchange.close()
            case _:
                exchange.send(verdict(cookie))

    def _judge_stream(self, request: Request) -> None:
        found = re.search(r"user=(\w+)", request.get("cookie") or "")
        if found:
            request.answer(b"", 200, ("x-user", found[1]), ("x-more", "no"))
        else:
            lower = [(name.lower(), value) for name, value in SIGN_IN]
            request.answer(b"sign in", 302, *lower)

    def _gate(self, exchange: Exchange) -> None:
        stranger = exchange.request.all("x-stranger")
        exchange.send(wire.response(b"", status="403 No" if stranger else "200 OK"))

    def reset(self) -> None:
        self.manner = ""
        for backend in (self.behind, self.sso, self.gate):
            backend.reset()

    def ask(
        self, host: str, over: str, *fields: tuple[str, str], body: bytes | None = None
    ) -> Answer:
        """What a client gets for a path of a host."""
        name, path = f"{host}.test", "/a%2Fb?c=d"
        if over == "h2c":
            with H2Client(self.h2c) as client:
                if body is None:
                    stream = client.get(name, *fields, path=path)
                else:
                    stream = client.post(name, body, path, *fields)
                client.read_until(lambda: stream in client.ended | client.reset)
                lines = client.lines[stream]
                return Answer(client.statuses[stream], lines, client.bodies.get(stream, b""))
        address = {"main": self.address, "guarded": self.guarded}.get(over)
        made = rawclient.Connection(address) if address else self.connect(name)
        lines_out = [f"{each}: {value}" for each, value in fields]
        with made as client:
            if body is None:
                response = client.get(name, path, *lines_out)
            else:
                response = client.post(name, body, path, *lines_out)
        found = [(each.decode(), value.decode()) for each, value in response.fields]
        return Answer(response.status, found, response.body)

    def counted(self, name: str) -> float:
        with urllib.request.urlopen(f"http://{self.admin}/metrics", timeout=15) as response:
            text = response.read().decode()
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == f"kakehi_{name}"
        )


def verdict(cookie: str) -> bytes:
    found = re.search(r"user=(\w+)", cookie)
    if found:
        fields = [("X-User", found[1]), ("X-User", "too"), ("X-More", "no")]
        if "once" in cookie:
            fields.append(("Cache-Control", "private, no-store"))
        return wire.response(b"you may", fields=fields)
    return wire.response(b"sign in", status="302 Found", fields=SIGN_IN)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedSite]:
    with GuardedSite(tmp_path_factory.mktemp("guarded")) as site:
        yield site


@pytest.fixture
def site(made: GuardedSite) -> GuardedSite:
    made.reset()
    return made


ALICE = ("cookie", "a=b; user=alice")


@pytest.mark.parametrize("over", OVER)
@pytest.mark.parametrize("host", ["one", "two"])
def test_who_may_pass_is_known_to_the_backend(site: GuardedSite, host: str, over: str) -> None:
    spoofed = [("x-user", "root"), ("x-groups", "wheel"), ("x_user", "root")]
    answer = site.ask(host, over, ALICE, *spoofed)
    assert (answer.status, answer.body) == (200, b"behind")
    [got] = site.behind.requests
    assert got.all("x-user") == ([b"alice", b"too"] if host == "one" else [b"alice"])
    assert got.all("x-groups") == [] and got.all("x_user") == [] and got.all("x-more") == []
    sent = b"".join(bytes(each.received) for each in site.behind.connections)
    assert b"root" not in sent and b"wheel" not in sent


@pytest.mark.parametrize("over", OVER)
@pytest.mark.parametrize("host", ["one", "two", "here", "sent"])
def test_who_may_not_is_told_what_to_do(site: GuardedSite, host: str, over: str) -> None:
    answer = site.ask(host, over)
    assert (answer.status, answer.body) == (302, b"sign in")
    assert answer.all("location") == ["https://sso.test/"]
    assert answer.all("set-cookie") == ["back=1", "try=2"]
    assert site.behind.requests == []


@pytest.mark.parametrize("over", OVER)
def test_a_body_waits_and_is_not_lost(site: GuardedSite, over: str) -> None:
    before = site.counted("authorisations_total"), site.counted("authorisations_refused_total")
    assert site.ask("one", over, ALICE, body=BODY).body == b"behind"
    [got] = site.behind.requests
    assert got.body == BODY
    [asked] = site.sso.requests
    assert asked.method == b"GET" and asked.target == b"/verify?rd=a"
    assert asked.all("content-length") == asked.all("transfer-encoding") == []
    assert asked.all("x-forwarded-method") == [b"POST"]
    # One that is refused before its body leaves all of it.
    assert site.ask("one", over, body=BODY[:100]).status == 302
    assert len(site.behind.requests) == 1
    after = site.counted("authorisations_total"), site.counted("authorisations_refused_total")
    assert (after[0] - before[0], after[1] - before[1]) == (2, 1)


@pytest.mark.parametrize("over", OVER)
def test_what_the_configuration_answers_comes_behind(site: GuardedSite, over: str) -> None:
    assert site.ask("here", over, ALICE).body == b"here"
    answer = site.ask("sent", over, ALICE)
    assert answer.status == 302 and answer.all("location")[0].endswith("/new/a%2Fb?c=d")
    assert site.behind.requests == []


@pytest.mark.parametrize("manner", ["slow", "fails", "closes"])
@pytest.mark.parametrize("over", OVER)
def test_no_verdict_lets_nobody_pass(site: GuardedSite, over: str, manner: str) -> None:
    before = site.counted("authorisations_failed_total")
    site.manner = manner
    assert site.ask("one", over, ALICE).status == 503
    assert site.behind.requests == []
    assert site.counted("authorisations_failed_total") == before + 1
    reasons = {"slow": "authoriser_timeout", "fails": "authoriser_status"}
    reason = reasons.get(manner, "authoriser_failed")
    [record] = site.daemon.wait_for_access(
        lambda each: (each["listener"], each["reason"]) == (over, reason)
    )
    assert record["outcome"] == "authorisation_failed" and record["status"] == 503
    assert record["cluster"] is None and record["frontend"] == "one"


def test_each_level_has_to_let_it_pass(site: GuardedSite) -> None:
    assert site.ask("one", "guarded", ALICE).body == b"behind"
    assert (len(site.gate.requests), len(site.sso.requests)) == (1, 1)
    # The listener's word is asked for first, and no frontend takes it back.
    stranger = site.ask("one", "guarded", ALICE, ("X-Stranger", "1"))
    assert (stranger.status, stranger.body) == (403, b"")
    assert (len(site.gate.requests), len(site.sso.requests)) == (2, 1)
    assert site.ask("one", "guarded").status == 302
    assert len(site.behind.requests) == 1


TRICKS = [
    [("Connection", "Cookie, X-User"), ("X-User", "root")],
    [("X-Original-URL", "/public"), ("X-Forwarded-Uri", "/public"), ("X-Rewrite-URL", "/public")],
    [("X-Forwarded-Method", "OPTIONS"), ("X-HTTP-Method-Override", "OPTIONS")],
    [("X-Forwarded-Host", "here.test"), ("X-Forwarded-For", "127.0.0.1")],
    [("Expect", "100-continue")],
    [("Authorization", "Basic YTpi"), ("Proxy-Authorization", "Basic YTpi")],
    [("If-None-Match", "*"), ("Range", "bytes=0-0")],
]


@pytest.mark.parametrize("trick", TRICKS)
def test_no_trick_of_headers_gets_through(site: GuardedSite, trick: list[tuple[str, str]]) -> None:
    assert site.ask("one", "main", *trick).status == 302
    [asked] = site.sso.requests
    assert asked.all("x-forwarded-uri") == [b"/a%2Fb?c=d"]
    assert asked.all("x-original-url") == [b"http://one.test/a%2Fb?c=d"]
    assert asked.all("x-forwarded-method") == [b"GET"]
    assert asked.all("x-forwarded-host") == [b"one.test"]
    for gone in ("x-user", "if-none-match", "range", "expect", "x-rewrite-url"):
        assert asked.all(gone) == [], gone
    assert site.behind.requests == []


@pytest.mark.parametrize(
    ("target", "seen"),
    [
        ("//a/../b//c", "/b/c"),
        ("/%61/./b;x", "/a/b;x"),
        ("/a%2fb%3f", "/a%2Fb%3F"),
        ("http://one.test/x/%2e%2e/y", "/y"),
    ],
)
def test_the_path_that_is_authorised_is_the_one_that_is_forwarded(
    site: GuardedSite, target: str, seen: str
) -> None:
    with rawclient.Connection(site.address) as client:
        client.send(f"GET {target} HTTP/1.1\r\nHost: one.test\r\nCookie: user=a\r\n\r\n".encode())
        assert client.read_response().body == b"behind"
    [asked], [got] = site.sso.requests, site.behind.requests
    assert asked.all("x-forwarded-uri") == [seen.encode()]
    assert got.target == seen.encode()


@pytest.mark.parametrize("over", OVER)
def test_a_word_counts_for_the_same_client_and_question(site: GuardedSite, over: str) -> None:
    known = site.counted("authorisations_known_total")
    asked = site.counted("authorisations_total")
    who = ("cookie", f"user={over}")
    for _ in range(3):
        assert site.ask("kept", over, who, ("x-user", "root")).body == b"behind"
        assert site.behind.last.all("x-user") == [over.encode(), b"too"]
    assert site.ask("kept", over, who, body=BODY).body == b"behind"
    assert site.behind.last.body == BODY
    assert len(site.sso.requests) == 2, "a POST is another question than a GET"
    assert site.counted("authorisations_known_total") == known + 2
    assert site.counted("authorisations_total") == asked + 2
    # Nobody passes by the word about somebody else, nor by a refusal that was given once.
    others = [[("cookie", f"user={over}2")], [who, ("authorization", "Basic YTpi")]]
    for number, fields in enumerate(others, 3):
        assert site.ask("kept", over, *fields).body == b"behind"
        assert len(site.sso.requests) == number
    for _ in range(2):
        assert site.ask("kept", over, ("cookie", "user=")).status == 302
        assert site.ask("kept", over).status == 302
    assert len(site.sso.requests) == 8


def test_a_word_ends_with_its_time(site: GuardedSite) -> None:
    before = time.monotonic()
    site.ask("timed", "main", ALICE)
    processes.wait_until(
        lambda: bool(site.ask("timed", "main", ALICE).body) and len(site.sso.requests) == 2,
        "it is asked again",
        20,
    )
    assert time.monotonic() - before > 1.9
    for _ in range(2):
        site.ask("kept", "main", ("cookie", "user=once"))
    assert len(site.sso.requests) == 4, "who is asked says that it counts once"


def test_a_word_goes_with_its_policy(site: GuardedSite) -> None:
    site.ask("kept", "main", ("cookie", "user=before"))
    said = site.document["policies"]["kept"]["forward_auth"]
    said["path"] = "/else"
    site.commit(site.contents)
    for _ in range(2):
        assert site.ask("kept", "main", ("cookie", "user=before")).body == b"behind"
    assert [each.target for each in site.sso.requests] == [b"/verify?rd=a", b"/else"]
    said["path"] = "/verify?rd=a"
    site.commit(site.contents)


def test_a_header_that_is_set_here_goes_before_what_was_said(site: GuardedSite) -> None:
    assert site.ask("set", "main", ALICE).body == b"behind"
    assert site.behind.last.all("x-user") == [b"127.0.0.1"]


def test_who_asks_itself_ends(site: GuardedSite) -> None:
    assert site.ask("round", "main").status == 503
    assert site.behind.requests == []


def test_those_who_leave_while_they_wait_leave_nothing(site: GuardedSite) -> None:
    site.manner = "slow"
    clients = [rawclient.Connection(site.address) for _ in range(40)]
    head = "POST / HTTP/1.1\r\nHost: one.test\r\nContent-Length: 9\r\nX-Pad: " + "x" * 2000
    for client in clients:
        client.send(f"{head}\r\n\r\nhalf".encode())
    site.sso.wait_for_requests(40)
    assert site.counted("worker_requests") == 40
    assert site.counted("worker_buffered_bytes") > 40 * 2000
    for client in clients:
        client.close()
    site.sso.wait_for_ended(40)
    processes.wait_until(lambda: site.counted("worker_requests") == 0, "they are gone", 10)
    processes.wait_until(lambda: site.counted("worker_buffered_bytes") == 0, "so is theirs", 10)
    assert site.behind.requests == []


def test_a_request_ends_by_the_policies_that_it_began_with(site: GuardedSite) -> None:
    """Also where its authoriser leaves the configuration while it is asked."""
    waits = threading.Event()

    def answers_late(exchange: Exchange) -> None:
        waits.set()
        exchange.wait_for_go()
        exchange.send(verdict("user=late"))

    site.sso.reset()
    site.sso.script = answers_late
    document = site.document
    with rawclient.Connection(site.address) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: one.test\r\n\r\n")
        assert waits.wait(10)
        before = document["policies"]["sso"]
        document["policies"]["sso"] = {"forward_auth": {"cluster": "gate", "copy_headers": ["A"]}}
        site.commit(site.contents)
        site.sso.go.set()
        assert client.read_response().body == b"behind"
        assert site.behind.last.all("x-user") == [b"late", b"too"]
        # The next one is asked about elsewhere.
        assert client.get("one.test").body == b"behind"
        assert len(site.gate.requests) == 1 and site.behind.last.all("x-user") == []
    document["policies"]["sso"] = before
    site.sso.reset()
    site.commit(site.contents)


def test_plan_and_explain_say_who_is_asked(site: GuardedSite) -> None:
    port = site.guarded.rpartition(":")[2]
    told = site.daemon.json("explain", f"http://one.test:{port}/")
    asked = [stage for stage in told["stages"] if stage["key"] == "forward_auth"]
    assert [stage["by"]["name"] for stage in asked] == ["gate", "sso"]
    assert "cluster sso is asked for /verify?rd=a" in asked[1]["words"]
    site.document["clusters"]["sso"]["retries"] = 5
    site.repo.write(site.contents)
    plan = site.daemon.json("plan", str(site.repo.directory))
    del site.document["clusters"]["sso"]["retries"]
    site.repo.write(site.contents)
    [change] = plan["changes"]
    assert set(change["frontends"]) == {"one", "here", "sent", "set", "kept", "timed"}


def test_a_cluster_that_is_asked_cannot_go(site: GuardedSite) -> None:
    gone = site.document["clusters"].pop("sso")
    sha = site.repo.commit(site.contents, "remove it")
    outcome = site.daemon.ask("wait", commit=sha, timeout_s=30)
    site.document["clusters"]["sso"] = gone
    assert outcome["outcome"] == "refused", outcome
    assert "there is no cluster" in str(outcome)
    site.commit(site.contents)
