"""Limits, shares and headers that go by who asks: by a token, a password or another server's word.

They are decided when that is known, and what a client says of itself in the same headers counts
nowhere. What goes by an address is decided before anybody is asked.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.http.test_basic_auth import BCRYPT
from tests.e2e.http.test_jwt import ES256, JWT, claims
from tests.harness import ports, processes, rawclient, wire
from tests.harness.h2client import H2Client
from tests.harness.rawbackend import Exchange, RawBackend, answer
from tests.harness.tlssite import TlsSite
from tests.harness.tokens import jwks

ONCE = {"requests": 1, "per": "1h"}
BY_USER = {"rate_limit": ONCE | {"by": {"header": "X-User"}}}
TOKEN = {"jwt": JWT | {"headers": {"X-User": "sub"}}}
SSO = {"forward_auth": {"cluster": "sso", "copy_headers": ["X-User"]}}
PASSWORD = {"basic_auth": {"realm": "r", "users": "users.htpasswd", "header": "X-User"}}
WHO = {"response_headers": {"set": {"X-Who": "<{header:X-User}>"}}}
LEFT = {"requests": 9, "per": "1h", "fields": "all", "name": "before"}
LATE = LEFT | {"by": {"header": "X-User"}, "name": "behind"}
FRONTENDS: dict[str, dict[str, Any]] = {
    "left-token": TOKEN | {"rate_limit": [LEFT, LATE]},
    "left-password": PASSWORD | {"rate_limit": [LEFT, LATE]},
    "left-sso": SSO | {"rate_limit": [LEFT, LATE]},
    "left-certificate": {"client_certificate": "required", "rate_limit": LEFT},
    "left-cors": {"cors": {"origins": ["https://a.test"]}, "rate_limit": LEFT},
    "token": TOKEN | BY_USER,
    "sso": SSO | BY_USER,
    "password": PASSWORD | BY_USER,
    "claim": {"jwt": JWT, "rate_limit": ONCE | {"by": {"claim": "tenant"}}},
    "both": TOKEN | {"policies": ["every", "each"]},
    "cheap": SSO | {"rate_limit": ONCE},
    "split": SSO | {"split": {"one": 50, "two": 50}, "split_by": {"header": "X-User"}},
    "drawn": TOKEN | {"split": {"one": 50, "two": 50}, "split_by": {"header": "X-User"}},
    "crowd": SSO | {"concurrency": {"requests": 1, "by": {"header": "X-User"}}},
    "crowd-token": {"jwt": JWT, "concurrency": {"requests": 1, "by": {"claim": "sub"}}},
    "words": TOKEN
    | {
        "request_headers": {"set": {"X-Who": "<{header:X-User}>"}, "remove": ["X-User"]},
        "response_headers": {"set": {"X-Who": "<{header:X-User}>"}},
        "rewrite": {"query": {"full": "u={header:X-User}"}},
    },
    "asked": SSO | {"response_headers": {"set": {"X-Who": "<{header:X-User}>"}}},
    "moved": SSO | {"redirect": {"path": {"full": "/of/{header:X-User}"}}},
    "near": PASSWORD | {"policies": ["sso"]},
    "own-password": PASSWORD,
    "plain": {},
    # What the proxy answers itself, and each with what its client is told of himself.
    "own-token": TOKEN | BY_USER | WHO | {"respond": {"body": "ok"}},
    "own-sso": SSO | BY_USER | WHO | {"respond": {"body": "ok"}},
    "own-both": SSO
    | {"policies": ["token"]}
    | BY_USER
    | WHO
    | {"redirect": {"hostname": "b.test"}},
}


def token(user: str, **more: Any) -> str:
    return f"Authorization: Bearer {ES256.token(claims(sub=user, **more))}"


def password(user: str) -> str:
    return f"Authorization: Basic {base64.b64encode(f'{user}:secret'.encode()).decode()}"


class KnownSite(TlsSite):
    """One worker, since each counts by itself."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, workers=1)
        self.release = threading.Event()
        self.behind = {name: RawBackend(self._named(name)) for name in ("one", "two")}
        self.sso = RawBackend(self._judge)
        self.h2c, self.lets = ports.address(), ports.address()
        files = self.files(
            {"all": self.leaf(*(f"{name}.test" for name in FRONTENDS))},
            clusters={
                **{name: [backend.address] for name, backend in self.behind.items()},
                "sso": [self.sso.address],
            },
            frontends={},
        )
        document: Any = files["kakehi.yaml"]
        document["listeners"]["h2c"] = {"address": self.h2c, "h2c": True}
        document["listeners"]["lets"] = {"address": self.lets, "policies": ["lets"]}
        document["policies"] = {
            "lets": {"jwt": JWT, "overridable": True},
            "every": {"rate_limit": {"requests": 2, "per": "1h"}},
            "each": BY_USER,
            "sso": SSO,
            "token": {"jwt": JWT},
        }
        document["frontends"] = {
            name: {"listeners": ["h2c", "lets", "main", "secure"], "hostname": f"{name}.test"}
            | ({} if {"split", "redirect", "respond"} & keys.keys() else {"cluster": "one"})
            | keys
            for name, keys in FRONTENDS.items()
        }
        files["keys.json"] = jwks(ES256)
        files["users.htpasswd"] = "".join(f"{name}:{BCRYPT}\n" for name in ("mia", "léo", "ina"))
        self.start(files)

    def __exit__(self, kind: object, *rest: object) -> None:
        self.release.set()
        super().__exit__(kind, *rest)
        for backend in (*self.behind.values(), self.sso):
            backend.stop()

    def _named(self, name: str) -> Any:
        def serve(exchange: Exchange) -> None:
            if "/held" in exchange.request.path:
                self.release.wait(20)
            exchange.send(wire.response(name.encode()))

        return serve

    @staticmethod
    def _judge(exchange: Exchange) -> None:
        user = b"".join(exchange.request.all("x-cookie")).decode()
        if user in ("401", "403", "500"):
            answer(wire.response(b"", status=f"{user} No"))(exchange)
            return
        answer(wire.response(b"", fields=[("X-User", user)]))(exchange)

    def get(self, name: str, *fields: str, path: str = "/") -> wire.Response:
        with rawclient.Connection(self.address) as client:
            return client.get(f"{name}.test", path, *fields)

    def status(self, name: str, *fields: str) -> int:
        return self.get(name, *fields).status

    def told(self, name: str) -> list[bytes]:
        [asked] = self.behind["one"].requests
        self.behind["one"].reset()
        return asked.all(name)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KnownSite]:
    with KnownSite(tmp_path_factory.mktemp("known")) as made:
        yield made


@pytest.fixture(autouse=True)
def _fresh(site: KnownSite) -> None:
    for backend in (*site.behind.values(), site.sso):
        backend.reset()


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("token", token),
        ("sso", "X-Cookie: {}".format),
        ("password", password),
    ],
)
def test_users_are_counted_by_whom_they_have_shown_to_be(
    site: KnownSite, name: str, shown: Any
) -> None:
    lies = "X-User: ina"
    assert [site.status(name, shown("mia"), lies) for _ in range(2)] == [200, 429]
    assert [site.status(name, shown("léo" if name == "password" else "leo"))] == [200]
    assert site.status(name, shown("mia"), "X-User: new") == 429
    # Over HTTP/2 it is the same user.
    with H2Client(site.h2c) as client:
        field, value = shown("mia").split(": ")
        stream = client.get(f"{name}.test", (field.lower(), value))
        client.read_until(lambda: stream in client.ended)
        assert client.statuses[stream] == 429
    # What nobody has said is not charged: she has lied only about her name.
    assert site.status(name, shown("ina")) == 200


PREFLIGHT = "Access-Control-Request-Method: PUT"


@pytest.mark.parametrize(
    ("name", "shown", "status"),
    [
        ("left-token", None, 401),
        ("left-token", "Authorization: Bearer a.b.c", 401),
        ("left-password", None, 401),
        ("left-password", password("nobody"), 401),
        ("left-sso", "X-Cookie: 401", 401),
        ("left-sso", "X-Cookie: 403", 403),
        ("left-sso", "X-Cookie: 500", 503),
        ("left-certificate", None, 403),
        ("left-cors", "Origin: https://b.test", 403),
        ("left-cors", "Origin: https://a.test", 204),
    ],
)
def test_who_is_refused_behind_a_rate_is_told_what_is_left_of_it(
    site: KnownSite, name: str, shown: str | None, status: int
) -> None:
    """And nothing of a rate that goes by who asks, which has not counted."""
    lines = [*([shown] if shown else []), *([PREFLIGHT] if name == "left-cors" else [])]
    method = "OPTIONS" if name == "left-cors" else "GET"
    with rawclient.Connection(site.address) as client:
        refused = client.get(f"{name}.test", "/", *lines, method=method)
    assert refused.status == status
    [told], [policy] = refused.all("ratelimit"), refused.all("ratelimit-policy")
    assert (told.partition(b";")[0], policy) == (b'"before"', b'"before";q=9;w=3600')
    with H2Client(site.h2c) as client:
        pairs = [tuple(line.split(": ", 1)) for line in lines]
        fields = [(each.lower(), value) for each, value in pairs]
        stream = client.get(f"{name}.test", *fields, method=method)
        client.read_until(lambda: stream in client.ended)
        assert client.statuses[stream] == status
        assert client.heads[stream]["ratelimit"].startswith('"before";r=')


def test_a_refusal_is_logged_with_its_limit(site: KnownSite) -> None:
    site.status("sso", "X-Cookie: log")
    site.status("sso", "X-Cookie: log")

    def found() -> list[Any]:
        lines = site.daemon.access_log.read_text().splitlines()
        logged = [json.loads(line) for line in lines]
        return [it for it in logged if it.get("reason") == "frontend/sso/header:x-user"]

    processes.wait_until(lambda: bool(found()), "the line")
    assert found()[-1]["status"] == 429


def test_a_claim_counts_whoever_has_it(site: KnownSite) -> None:
    assert site.status("claim", token("a", tenant="t1")) == 200
    assert site.status("claim", token("b", tenant="t1")) == 429
    assert site.status("claim", token("b", tenant="t2")) == 200
    assert site.status("claim", token("b", tenant=["t1", "t2"])) == 200
    assert site.status("claim", token("a", tenant=["t1", "t2"])) == 429
    assert site.status("claim", token("a")) == 200
    assert site.status("claim", token("b")) == 429, "without it all are one"


def test_what_goes_by_the_address_is_decided_before_anybody_is_asked(site: KnownSite) -> None:
    assert [site.status("cheap", "X-Cookie: a") for _ in range(2)] == [200, 429]
    assert len(site.sso.requests) == 1
    # A rate of all, and one of each behind it.
    users = ("mia", "mia", "leo")
    assert [site.status("both", token(user)) for user in users] == [200, 429, 429]


@pytest.mark.parametrize("name", ["split", "drawn"])
def test_a_user_stays_on_one_side(site: KnownSite, name: str) -> None:
    def side(user: str) -> bytes:
        shown = token(user) if name == "drawn" else f"X-Cookie: {user}"
        return site.get(name, shown, "X-User: lie").body

    users = [f"user{number}" for number in range(12)]
    first = {user: side(user) for user in users}
    assert set(first.values()) == {b"one", b"two"}
    for _ in range(3):
        assert {user: side(user) for user in users} == first


@pytest.mark.parametrize(
    ("name", "shown"), [("crowd", "X-Cookie: {}".format), ("crowd-token", token)]
)
def test_requests_in_flight_are_counted_by_user(site: KnownSite, name: str, shown: Any) -> None:
    site.release.clear()
    with rawclient.Connection(site.address) as held:
        held.send(f"GET /held HTTP/1.1\r\nHost: {name}.test\r\n{shown('mia')}\r\n\r\n".encode())
        processes.wait_until(lambda: bool(site.behind["one"].requests), "the request")
        assert site.status(name, shown("mia")) == 429
        assert site.status(name, shown("leo")) == 200
        site.release.set()
        assert held.read_response().status == 200
    processes.wait_until(lambda: site.status(name, shown("mia")) == 200, "her to have left")


def test_templates_have_what_is_said_of_a_request(site: KnownSite) -> None:
    got = site.get("words", token("mia"), "X-User: lie")
    assert got.all("x-who") == [b"<mia>"]
    [asked] = site.behind["one"].requests
    assert asked.all("x-who") == [b"<mia>"]
    assert asked.all("x-user") == []
    assert asked.path == "/?u=mia"
    assert site.get("asked", "X-Cookie: mia").all("x-who") == [b"<mia>"]
    [place] = site.get("moved", "X-Cookie: m/a").all("location")
    assert place.endswith(b"/of/m%2Fa")


@pytest.mark.parametrize(
    ("name", "status"), [("own-token", 200), ("own-sso", 200), ("own-both", 302)]
)
def test_answers_of_our_own_go_by_who_asks_as_well(site: KnownSite, name: str, status: int) -> None:
    shown = [token("mia"), "X-User: lie", "X-Cookie: mia"]
    first, second = site.get(name, *shown), site.get(name, *shown)
    assert (first.status, first.all("x-who")) == (status, [b"<mia>"])
    assert (second.status, second.all("x-who")) == (429, [b"<mia>"])
    # Who has not been let pass is nobody.
    with rawclient.Connection(site.address) as client:
        nobody = client.get("own-token.test", "/", "X-User: lie")
    assert (nobody.status, nobody.all("x-who")) == (401, [b"<>"])


def test_the_backend_is_told_the_user_of_a_password(site: KnownSite) -> None:
    assert site.status("near", password("nobody")) == 401
    assert site.status("near", password("léo"), "X-Cookie: far", "X_User: lie") == 200
    assert site.told("x-user") == [b"l%C3%A9o"]


def test_a_rate_is_one_over_tls_and_in_clear_text(site: KnownSite) -> None:
    with site.connect("token.test") as secure:
        assert secure.get("token.test", "/", token("tls")).status == 200
        refused = secure.get("token.test", "/", token("tls"))
        assert (refused.status, refused.all("retry-after")) == (429, [b"3600"])
        assert secure.get("token.test", "/", token("other")).status == 200
    assert site.status("token", token("tls")) == 429


def test_who_asks_in_another_way_replaces_an_overridable_token(site: KnownSite) -> None:
    def at(name: str, *fields: str) -> int:
        with rawclient.Connection(site.lets) as client:
            return client.get(f"{name}.test", "/", *fields).status

    # By its own password, and by nothing else.
    assert at("own-password", password("ina")) == 200
    assert at("own-password", token("ina")) == 401
    # Of its own token, which is the same, one is asked for.
    assert at("words", token("mia")) == 200
    assert at("words") == 401
    # And who has no word of his own asks for what the listener does.
    assert at("plain", token("mia")) == 200
    assert at("plain", password("mia")) == 401
