"""Every two keys of the language together, against a model that has none of our code.

Each pair is a frontend of its own. What a key says stands by chance in the frontend, in a policy of
its or in one of its listener. Each is sent the same few requests, over HTTP/1.1, HTTP/2 and TLS;
what its client, its backends and a mirror see is what the model says: nothing is skipped, done
twice or out of order.
"""

from __future__ import annotations

import gzip
import random
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from schemas.kinds.frontend import Frontend
from schemas.policies.effects import Effects
from schemas.routes.matched import Match
from tests.e2e.http.test_basic_auth import SHA512
from tests.e2e.http.test_order import KEYS as TOKEN_KEYS
from tests.harness import ports, wire
from tests.harness.h2client import H2Client
from tests.harness.rawbackend import Exchange, RawBackend
from tests.harness.rawclient import Connection
from tests.harness.tls import TlsConnection
from tests.harness.tlssite import TlsSite

SEED = 11
ORIGIN = "https://app.test"
SHARED: dict[str, Any] = {
    "allow": ["192.0.2.0/24"],
    "bandwidth": {"per_connection": "1GiB"},
    "basic_auth": {"realm": "r", "users": "users.htpasswd"},
    "client_certificate": "required",
    "compression": {"min_bytes": "1B", "private": True, "encodings": ["gzip"]},
    "concurrency": {"requests": 1, "by": "frontend"},
    "cors": {"origins": [ORIGIN]},
    "deny": ["127.0.0.0/8"],
    "error_pages": {
        str(status): {"body": f"page {status}"} for status in (401, 403, 413, 429, 502, 503)
    },
    "forward_auth": {"cluster": "nobody"},
    "hsts": {"max_age_days": 1},
    "intercept": [502],
    "jwt": {"issuer": "i", "audiences": ["a"], "keys": "keys.json"},
    "limits": {"body_bytes": "1B"},
    "rate_limit": {"requests": 1, "per": "24h", "by": "frontend"},
    "request_headers": {"set": {"X-Asked": "ours"}, "remove": ["X-Client"]},
    "response_headers": {"set": {"X-Answered": "ours"}, "remove": ["X-Theirs"]},
    "set_cookie": {"*": {"secure": True}},
    "timeouts": {"request": "60s"},
}
OWN: dict[str, Any] = {
    "early_data": True,
    "mirror": {"cluster": "shadow"},
    "redirect": {"path": {"full": "/moved"}, "status": 301, "hostname": "b.test"},
    "respond": {"status": 200, "body": "here", "content_type": "text/plain"},
    "rewrite": {"path": {"full": "/new{path}"}},
    "split": {"main": 0, "other": 1},
    "to_tls": "https",
    "upgrades": [],
}
"""As of the frontend alone; `to_tls` is the short form of `redirect`."""
NOT_HERE = {"cluster", "passthrough", "policies", "split_by"}
"""Where requests go without another key, who reads none of them, and words about other words."""
ENDS = {"redirect", "respond", "split", "to_tls"}
OF_BACKENDS = {"concurrency", "bandwidth", "intercept", "request_headers", "set_cookie", "timeouts"}
OF_BACKENDS |= {"mirror", "rewrite", "upgrades"}


def may_be(one: str, other: str) -> bool:
    """Whether two keys may stand together in a frontend."""
    pair = {one, other}
    is_own = {"redirect", "respond"} & pair
    return not (len(pair & ENDS) == 2 or (is_own and pair & OF_BACKENDS))


PAIRS = [pair for pair in combinations([*SHARED, *OWN], 2) if may_be(*pair)]


class Asked(NamedTuple):
    """A request that all the keys are about."""

    method: str
    path: str
    body: bytes = b""
    more: tuple[tuple[str, str], ...] = ()


REQUESTS = [
    Asked("POST", "/a?b=c", b"body"),
    Asked("GET", "/bad"),
    Asked("OPTIONS", "/a", more=(("access-control-request-method", "PUT"),)),
    Asked("GET", "/a"),
]
FIELDS = (("x-client", "client"), ("origin", ORIGIN), ("accept-encoding", "gzip"))


@dataclass
class Seen:
    """What client and backends see of one request."""

    status: int
    body: bytes | None = None
    """None: a page of ours that is built in."""
    headers: dict[str, str] = field(default_factory=dict)
    at: list[tuple[str, str, str | None, str | None]] = field(default_factory=list)
    """Which backends, at what path, with what in X-Asked and X-Client."""


def expected(keys: set[str], asked: Asked, *, secure: bool, spent: set[str]) -> Seen:
    """What a request comes to, by the order that the guide has."""
    seen = _answered(keys, asked, secure=secure, spent=spent)
    headers = seen.headers
    if "response_headers" in keys:
        headers.pop("x-theirs", None)
        headers["x-answered"] = "ours"
    if "hsts" in keys and secure:
        headers["strict-transport-security"] = "max-age=86400"
    if "cors" in keys:
        headers["access-control-allow-origin"] = ORIGIN
    if "compression" in keys and seen.body != b"":
        headers["content-encoding"] = "gzip"
    return seen


def _answered(keys: set[str], asked: Asked, *, secure: bool, spent: set[str]) -> Seen:
    """Who answers, and how: the first that has an answer."""
    status = _refused(keys, asked, secure=secure, spent=spent)
    if status == 308:
        return Seen(308, None, {"location": f"https://here{asked.path}"})
    if status == 204:
        return Seen(204, b"")
    if status:
        return Seen(status, _page(keys, status))
    if "redirect" in keys:
        _, mark, query = asked.path.partition("?")
        scheme = "https" if secure else "http"
        return Seen(301, None, {"location": f"{scheme}://b.test/moved{mark}{query}"})
    if "respond" in keys:
        return Seen(200, b"here")
    path = f"/new{asked.path}" if "rewrite" in keys else asked.path
    edits = ("ours", None) if "request_headers" in keys else (None, "client")
    at = [("other" if "split" in keys else "main", path, *edits)]
    if "mirror" in keys:
        at.append(("shadow", path, *edits))
    status = 502 if asked.path.endswith("/bad") else 200
    if status == 502 and "intercept" in keys:
        return Seen(502, _page(keys, 502), at=at)
    cookie = "a=b; Secure" if "set_cookie" in keys else "a=b"
    theirs = {"x-theirs": "theirs", "set-cookie": cookie}
    return Seen(status, at[0][0].encode() * 50, theirs, at)


def _refused(keys: set[str], asked: Asked, *, secure: bool, spent: set[str]) -> int:
    if "limits" in keys and asked.body:
        return 413
    if "to_tls" in keys and not secure:
        return 308
    if {"deny", "allow"} & keys:
        return 403
    if "rate_limit" in keys:
        if "rate_limit" in spent:
            return 429
        spent.add("rate_limit")
    if "cors" in keys and asked.method == "OPTIONS":
        return 204
    ways = {"client_certificate": 403, "basic_auth": 401, "jwt": 401, "forward_auth": 503}
    return next((status for key, status in ways.items() if key in keys), 0)


def _page(keys: set[str], status: int) -> bytes | None:
    return f"page {status}".encode() if "error_pages" in keys else None


class Paired(TlsSite):
    """A frontend for each pair, and listeners whose policies have one of the keys."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, ("red",), workers=1)
        self.notes: dict[str, list[tuple[str, str, str | None, str | None]]] = {}
        self._lock = threading.Lock()
        self.backends_of = {
            name: RawBackend(self._answering(name)) for name in ("main", "other", "shadow")
        }
        chance = random.Random(SEED)
        files = self.files(
            {"all": self.leaf("*.pair.test")},
            clusters={name: [raw.address] for name, raw in self.backends_of.items()},
            frontends={},
        )
        document: Any = files["kakehi.yaml"]
        document["clusters"]["nobody"] = {
            "backends": {"b": {"address": ports.address(), "weight": 0}}
        }
        document["policies"] = {}
        document["listeners"] = {}
        document["frontends"] = {}
        self.plain: dict[str, str] = {}
        self.secure: dict[str, str] = {}
        for at in ("", *SHARED):
            self._listen(document, at)
        self.at: dict[int, str] = {}
        for number, pair in enumerate(PAIRS):
            document["frontends"][f"w{number}"] = self._frontend(document, number, pair, chance)
        users = {"users.htpasswd": f"ann:{SHA512}\n", "keys.json": TOKEN_KEYS}
        self.start({**files, "kakehi.yaml": document, **users})

    def _listen(self, document: Any, at: str) -> None:
        """Two listeners that say one of the keys by a policy, or nothing."""
        self.plain[at], self.secure[at] = ports.address(), ports.address()
        policies = [f"far-{at}"] if at else []
        name = at.replace("_", "-") or "none"
        # A rate is one for all who name its policy: each frontend has its own.
        if at:
            document["policies"][f"far-{at}"] = {at: SHARED[at]}
        both = {"policies": policies}
        document["listeners"][name] = {"address": self.plain[at], "h2c": True, **both}
        secure = {"address": self.secure[at], "protocol": "https", "tls": {}}
        document["listeners"][f"{name}-tls"] = secure | both

    def _frontend(
        self, document: Any, number: int, pair: tuple[str, str], chance: random.Random
    ) -> dict[str, Any]:
        says: dict[str, Any] = {"hostname": f"w{number}.pair.test", "policies": []}
        at = ""
        for key in pair:
            if key in OWN:
                says["redirect" if key == "to_tls" else key] = OWN[key]
                continue
            where = chance.choice(["own", "policy", "listener"])
            if where == "listener" and not at and key != "rate_limit":
                at = key
            elif where == "own":
                says[key] = SHARED[key]
            else:
                document["policies"][f"p{number}-{key}"] = {key: SHARED[key]}
                says["policies"].append(f"p{number}-{key}")
        self.at[number] = at
        name = at.replace("_", "-") or "none"
        says["listeners"] = [name, f"{name}-tls"]
        if not {"redirect", "respond", "split"} & set(pair):
            says["cluster"] = "main"
        return says

    def __exit__(self, kind: object, *rest: object) -> None:
        super().__exit__(kind, *rest)
        for raw in self.backends_of.values():
            raw.stop()

    def _answering(self, name: str) -> Any:
        def script(exchange: Exchange) -> None:
            exchange.read_body()
            asked = exchange.request
            said = [text(asked, each) for each in ("X-Asked", "X-Client")]
            with self._lock:
                noted = self.notes.setdefault(text(asked, "X-Number") or "", [])
                noted.append((name, asked.target.decode(), said[0], said[1]))
            status = "502 Bad Gateway" if b"/bad" in asked.target else "200 OK"
            fields = [("Set-Cookie", "a=b"), ("X-Theirs", "theirs"), ("Content-Type", "text/plain")]
            exchange.send(wire.response(name.encode() * 50, status=status, fields=fields))

        return script

    def ask(self, number: int, asked: Asked, over: str, label: str) -> Seen:
        host, at = f"w{number}.pair.test", self.at[number]
        fields = (*FIELDS, *asked.more, ("x-number", label))
        if over == "h2":
            with H2Client(self.plain[at]) as frames:
                if asked.body:
                    length = ("content-length", str(len(asked.body)))
                    stream = frames.post(host, asked.body, asked.path, *fields, length)
                else:
                    stream = frames.get(host, *fields, path=asked.path, method=asked.method)
                frames.read_until(lambda: stream in frames.ended)
                got = dict(frames.heads[stream])
                status, body = frames.statuses[stream], frames.bodies.get(stream, b"")
            return self._seen(status, got, body, label)
        client = (
            TlsConnection(self.secure[at], self.context, host)
            if over == "tls"
            else Connection(self.plain[at])
        )
        with client:
            lines = [f"{name}: {value}" for name, value in fields]
            if asked.body:
                answer = client.post(host, asked.body, asked.path, *lines)
            else:
                answer = client.get(host, asked.path, *lines, method=asked.method)
        got = {name.decode().lower(): value.decode() for name, value in answer.fields}
        return self._seen(answer.status, got, answer.body, label)

    def _seen(self, status: int, got: dict[str, str], body: bytes, label: str) -> Seen:
        if got.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        is_built_in = BUILT_IN.fullmatch(body) is not None
        headers = {name: value for name, value in got.items() if name in TOLD}
        if "location" in headers:
            headers["location"] = re.sub(r"w\d+[.]pair[.]test(:\d+)?", "here", headers["location"])
        return Seen(status, None if is_built_in else body, headers, self.notes.pop(label, []))


BUILT_IN = re.compile(rb"[0-9]{3} [A-Za-z ]+\n(request [0-9a-f]+\n)?")
TOLD = {
    "access-control-allow-origin",
    "content-encoding",
    "location",
    "set-cookie",
    "strict-transport-security",
    "x-answered",
    "x-theirs",
}


def text(asked: wire.Request, name: str) -> str | None:
    value = asked.get(name)
    return value.decode() if value is not None else None


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Paired]:
    with Paired(tmp_path_factory.mktemp("pairs")) as made:
        yield made


def test_the_model_knows_every_key() -> None:
    assert SHARED.keys() == Effects.model_fields.keys()
    own = {key for key in OWN if key != "to_tls"}
    assert (
        own | NOT_HERE == Frontend.model_fields.keys() - Match.model_fields.keys() - SHARED.keys()
    )


def test_two_keys_together_are_what_the_model_says(site: Paired) -> None:
    wrong: list[str] = []
    spent: dict[int, set[str]] = {}
    for over in ("text", "h2", "tls"):
        for number, pair in enumerate(PAIRS):
            for at, asked in enumerate(REQUESTS):
                label = f"{over}-{number}-{at}"
                seen = site.ask(number, asked, over, label)
                model = expected(
                    set(pair), asked, secure=over == "tls", spent=spent.setdefault(number, set())
                )
                if "mirror" in pair and model.at:
                    # Nobody waits for it.
                    site.backends_of["shadow"].wait_until(
                        lambda it=seen, to=label: len(it.at) + len(site.notes.get(to, [])) > 1
                    )
                    seen.at += site.notes.pop(label, [])
                seen.at.sort()
                if seen != model:
                    wrong.append(f"{pair} {over} {asked}:\n  {seen}\n  {model}")
    assert not wrong, f"{len(wrong)} of {len(PAIRS)}\n" + "\n".join(wrong[:12])
    # Nobody was asked who should not have been.
    assert site.notes == {}
