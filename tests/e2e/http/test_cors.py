"""Pages of other origins: what browsers are told, judged as the Fetch standard has them judge."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.harness import ports, rawclient, wire
from tests.harness.h2client import H2Client
from tests.harness.rawbackend import RawBackend, answer
from tests.harness.tlssite import TlsSite

APP, BELOW, OTHER = "https://app.test", "https://x.y.preview.test:8443", "https://evil.test"
THEIRS = [
    ("Access-Control-Allow-Origin", "https://theirs.test"),
    ("access-control-expose-headers", "x-theirs"),
    ("Vary", "Accept"),
    ("X-Theirs", "1"),
]
CORS: dict[str, Any] = {
    "origins": [APP, "https://*.preview.test:8443"],
    "methods": ["PUT", "DELETE"],
    "headers": ["Authorization", "x-custom"],
    "expose": ["X-Request-Id", "X-Theirs"],
    "credentials": True,
    "max_age": "2h",
}
FRONTENDS: dict[str, dict[str, Any]] = {
    "own": {"cors": CORS},
    "shared": {"policies": ["app"]},
    "public": {"cors": {"origins": ["*"], "methods": ["*"], "headers": ["*"], "expose": ["*"]}},
    "off": {"policies": ["app"], "cors": None},
    "none": {},
    "edited": {"cors": CORS, "response_headers": {"set": {"Vary": "X-A"}, "add": {"X-Out": "1"}}},
    "guarded": {"cors": CORS, "deny": ["127.0.0.0/8"]},
    "answers": {"cors": CORS, "respond": {"status": 200, "body": "here"}},
    "down": {"cors": CORS, "cluster": "down"},
}

Head = Mapping[str, Sequence[str]]


class CorsSite(TlsSite):
    """The same frontends on a listener in clear text with HTTP/2, and over TLS."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.raw = RawBackend(answer(wire.response(b"x", fields=THEIRS)))
        self.h2c = ports.address()
        files = self.files(
            {"all": self.leaf(*(f"{name}.test" for name in FRONTENDS))},
            clusters={"raw": [self.raw.address], "down": [ports.address()]},
            frontends={},
        )
        document: Any = files["kakehi.yaml"]
        document["listeners"]["h2c"] = {"address": self.h2c, "h2c": True}
        document["policies"] = {"app": {"cors": CORS}}
        document["frontends"] = {
            name: {"listeners": ["h2c", "main", "secure"], "hostname": f"{name}.test"}
            | ({} if "respond" in keys else {"cluster": "raw"})
            | keys
            for name, keys in FRONTENDS.items()
        }
        self.start(files)

    def __exit__(self, kind: object, *rest: object) -> None:
        super().__exit__(kind, *rest)
        self.raw.stop()

    def ask(self, by: str, name: str, method: str, *fields: tuple[str, str]) -> tuple[int, Head]:
        """Status and head of an answer; names in lower case."""
        self.raw.reset()
        host = f"{name}.test"
        if by == "h2c":
            with H2Client(self.h2c) as client:
                stream = client.get(host, *((n.lower(), v) for n, v in fields), method=method)
                client.read_until(lambda: stream in client.ended)
                return client.statuses[stream], _by_name(client.lines[stream])
        lines = [f"{field}: {value}" for field, value in fields]
        made = self.connect(host) if by == "secure" else None
        with made or rawclient.Connection(self.address) as connection:
            response = connection.get(host, "/", *lines, method=method)
        pairs = [(field.decode(), value.decode()) for field, value in response.fields]
        return response.status, _by_name(pairs)


def _by_name(pairs: Sequence[tuple[str, str]]) -> Head:
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        found.setdefault(name.lower(), []).append(value)
    return found


def listed(head: Head, name: str) -> set[str]:
    return {each.strip().lower() for line in head.get(name, []) for each in line.split(",")}


def may_send(
    status: int, head: Head, origin: str, method: str, headers: Sequence[str], *, credentials: bool
) -> bool:
    """Whether a browser sends the request behind this answer to its preflight (Fetch, 4.8)."""
    if not 200 <= status <= 299 or not may_read(head, origin, credentials=credentials):
        return False
    methods = {
        each.strip()
        for line in head.get("access-control-allow-methods", [])
        for each in line.split(",")
    }
    named = listed(head, "access-control-allow-headers")
    any_method = "*" in methods and not credentials
    any_header = "*" in named and not credentials
    return (method in {"GET", "HEAD", "POST"} or method in methods or any_method) and all(
        each in named or (any_header and each != "authorization") for each in headers
    )


def may_read(head: Head, origin: str, *, credentials: bool) -> bool:
    """Whether a page may read an answer (Fetch, 4.10, the CORS check)."""
    [allowed] = head.get("access-control-allow-origin", [""]) or [""]
    if allowed == "*" and not credentials:
        return True
    if allowed != origin:
        return False
    return not credentials or head.get("access-control-allow-credentials") == ["true"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CorsSite]:
    with CorsSite(tmp_path_factory.mktemp("cors")) as made:
        yield made


def preflight(origin: str, method: str, *headers: str) -> list[tuple[str, str]]:
    asked = [("Access-Control-Request-Headers", ",".join(headers))] if headers else []
    return [("Origin", origin), ("Access-Control-Request-Method", method), *asked]


BY = pytest.mark.parametrize("by", ["main", "h2c", "secure"])


@BY
@pytest.mark.parametrize(
    ("name", "origin", "method", "headers", "credentials", "sends"),
    [
        ("own", APP, "PUT", ["authorization"], True, True),
        ("own", APP, "PATCH", [], True, False),
        ("own", APP, "PUT", ["x-other"], True, False),
        ("own", BELOW, "POST", ["x-custom"], True, True),
        ("own", "https://preview.test:8443", "GET", [], False, False),
        ("own", "https://x.preview.test", "GET", [], False, False),
        ("own", "http://app.test", "GET", [], False, False),
        ("own", "null", "GET", [], False, False),
        ("own", OTHER, "GET", [], False, False),
        ("shared", APP, "DELETE", [], True, True),
        ("edited", APP, "DELETE", [], True, True),
        ("answers", APP, "DELETE", [], True, True),
        ("down", APP, "DELETE", [], True, True),
        ("public", OTHER, "PATCH", ["x-any"], False, True),
        ("public", OTHER, "GET", ["authorization"], False, False),
        ("public", OTHER, "GET", [], True, False),
        ("guarded", APP, "PUT", [], True, False),
    ],
)
def test_a_browser_sends_what_is_allowed(
    site: CorsSite,
    by: str,
    name: str,
    origin: str,
    method: str,
    headers: list[str],
    credentials: bool,
    sends: bool,
) -> None:
    status, head = site.ask(by, name, "OPTIONS", *preflight(origin, method, *headers))
    assert may_send(status, head, origin, method, headers, credentials=credentials) == sends
    assert site.raw.requests == [], "no backend sees a preflight"
    if name != "public":
        assert "origin" in listed(head, "vary")


@BY
@pytest.mark.parametrize("name", ["own", "shared", "edited", "answers", "down", "guarded"])
def test_a_page_reads_what_is_allowed_and_nobody_elses_word_is_left(
    site: CorsSite, by: str, name: str
) -> None:
    for origin, reads in ((APP, True), (BELOW, True), (OTHER, False)):
        _, head = site.ask(by, name, "GET", ("Origin", origin))
        assert may_read(head, origin, credentials=True) == reads
        exposed = {"x-request-id", "x-theirs"} if reads else set()
        assert listed(head, "access-control-expose-headers") == exposed
        assert "access-control-max-age" not in head
        assert "origin" in listed(head, "vary")
    _, head = site.ask(by, name, "GET")
    assert not [each for each in head if each.startswith("access-control")]
    assert "origin" in listed(head, "vary"), "it is cached for all"


def test_what_else_is_said_of_headers_stays(site: CorsSite) -> None:
    _, head = site.ask("main", "own", "GET", ("Origin", APP))
    assert listed(head, "vary") == {"accept", "origin"}
    assert head["x-theirs"] == ["1"]
    _, head = site.ask("main", "edited", "GET", ("Origin", APP))
    assert (listed(head, "vary"), head["x-out"]) == ({"x-a", "origin"}, ["1"])


def test_any_page_is_told_the_same(site: CorsSite) -> None:
    for fields in ([("Origin", OTHER)], []):
        _, head = site.ask("main", "public", "GET", *fields)
        assert head["access-control-allow-origin"] == ["*"]
        assert listed(head, "vary") == {"accept"}


@pytest.mark.parametrize("name", ["off", "none"])
def test_where_nothing_is_said_backends_are_asked(site: CorsSite, name: str) -> None:
    _, head = site.ask("main", name, "OPTIONS", *preflight(APP, "PUT"))
    assert head["access-control-allow-origin"] == ["https://theirs.test"]
    [asked] = site.raw.requests
    assert asked.get("origin") == APP.encode()


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [("Origin", APP)],
        [("Access-Control-Request-Method", "PUT")],
    ],
)
def test_an_ordinary_options_request_goes_to_the_backend(
    site: CorsSite, fields: list[tuple[str, str]]
) -> None:
    status, _ = site.ask("main", "own", "OPTIONS", *fields)
    assert (status, len(site.raw.requests)) == (200, 1)


def test_of_two_origins_none_is_meant(site: CorsSite) -> None:
    _, head = site.ask("main", "own", "GET", ("Origin", APP), ("Origin", OTHER))
    assert "access-control-allow-origin" not in head


def test_the_log_and_explain_tell_of_preflights(site: CorsSite) -> None:
    site.ask("main", "shared", "OPTIONS", *preflight(APP, "PUT"))
    site.ask("main", "shared", "OPTIONS", *preflight(OTHER, "PUT"))
    entries = site.daemon.wait_for_access(
        lambda each: (
            each["outcome"] in ("preflight_answered", "origin_refused")
            and each["frontend"] == "shared"
            and each["listener"] == "main"
        ),
        3,
    )
    assert {(each["outcome"], each["status"]) for each in entries} == {
        ("preflight_answered", 204),
        ("origin_refused", 403),
    }
    url = f"http://shared.test:{site.address.rpartition(':')[2]}/"
    asked = ["-H", "Access-Control-Request-Method: PUT", "-X", "OPTIONS"]
    told = site.daemon.json("explain", url, *asked, "-H", f"Origin: {APP}")
    assert (told["status"], told["stages"][0]["by"]["name"]) == (204, "app")
    assert told["message"].endswith(f"the preflight of {APP} is answered here: 204")
    told = site.daemon.json("explain", url, *asked, "-H", f"Origin: {OTHER}")
    assert told["status"] == 403
    told = site.daemon.json("explain", url)
    assert told["stages"][0]["words"] == (
        f"preflights are answered here, for pages of https://*.preview.test:8443, {APP}"
    )
