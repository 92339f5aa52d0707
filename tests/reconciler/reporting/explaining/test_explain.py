"""What is explained, and that workers really do it."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import pytest

from reconciler.catalog.views import MemoryView
from reconciler.reporting.explaining import ranking
from reconciler.reporting.explaining.explain import explain
from reconciler.reporting.explaining.question import UnexplainableError
from schemas.entities.entity import Entity, EntityKey, Provenance
from schemas.kinds.registry import MODELS
from schemas.messages.control import ExplainRequest
from schemas.messages.results import ExplainResult
from tests.harness.rawclient import Connection
from tests.reconciler.live import shop

FRONTENDS: dict[str, dict[str, Any]] = {
    "any": {},
    "exact-host": {"hostname": "a.example.com"},
    "wildcard": {"hostname": "*.example.com"},
    "near-wildcard": {"hostname": "*.b.example.com"},
    "prefix": {"path": {"prefix": "/api"}},
    "long-prefix": {"path": {"prefix": "/api/v1/"}},
    "exact-path": {"path": {"exact": "/api/v1"}},
    "regex": {"hostname": "r.example.com", "path": {"regex": "/item/[0-9]+"}},
    "longer-regex": {"hostname": "r.example.com", "path": {"regex": "/item/[0-9][0-9]+"}},
    "post": {"hostname": "a.example.com", "methods": ["POST"]},
    "header": {"hostname": "a.example.com", "headers": {"x-canary": "always"}},
    "header-regex": {"path": {"prefix": "/api"}, "headers": {"x-canary": {"regex": "[a-z]{3}"}}},
    "query": {"hostname": "a.example.com", "query": {"v": "2 b"}},
    "header-query": {
        "hostname": "a.example.com",
        "headers": {"x-canary": "always"},
        "query": {"v": "2 b"},
    },
    "suffix": {"path": {"suffix": "5"}},
    "folded": {"path": {"suffix": "/V1/X", "ignore_case": True}},
    "cookie": {"hostname": "a.example.com", "cookies": {"beta": {"exact": "1"}}},
    "no-canary": {"hostname": "c.example.com", "headers": {"x-canary": {"present": False}}},
    "not-always": {
        "hostname": "c.example.com",
        "path": {"prefix": "/api"},
        "headers": {"x-canary": {"exact": "always", "not": True}},
    },
    "several": {"hostnames": ["*.example.com", "o"], "path": {"exact": "/"}},
    "near": {"hostname": "o", "client_addresses": ["127.0.0.0/8"]},
    "far": {"hostname": "o", "path": {"exact": "/"}, "client_addresses": ["10.0.0.0/8"]},
}
HOSTS = ["a.example.com", "x.b.example.com", "c.example.com", "example.com", "r.example.com", "o"]
PATHS = [
    *("/", "/api", "/api/", "/apis", "/api/v1", "/api/v1/x", "/item/5", "/item/55", "/item/x"),
    *("/a/../api", "/%61pi", "//api", "/api/v1/..", "/API"),
]
QUERIES = ["", "?v=2+b", "?v=2%20b&v=3", "?v=3&v=2+b", "?w=1"]
COOKIES = ["beta=1", "a=2; beta=1", "beta=2; beta=1", "Beta=1"]
CANARIES = [None, "always", "abc", "abcd"]


def entity(kind: str, name: str, line: int = 1, **value: Any) -> Entity:
    for field in value.keys() & {"cookies", "headers", "query"}:
        value[field] = {
            key: {"exact": each} if isinstance(each, str) else each
            for key, each in value[field].items()
        }
    whole = MODELS[kind].of_value(value).value()
    return Entity(EntityKey(kind, name), whole, Provenance("shop.yaml", line, 3))


def state(**frontends: dict[str, Any]) -> MemoryView:
    return MemoryView(
        [
            entity("settings", "settings"),
            entity("listener", "public", address="127.0.0.1:8080"),
            entity("cluster", "shop"),
            entity("backend", "shop/one", address="127.0.0.1:9001"),
            entity("backend", "shop/two", address="127.0.0.1:9002", weight=0),
            *(
                entity("frontend", name, 10, listeners=["public"], cluster="shop", **value)
                for name, value in frontends.items()
            ),
        ]
    )


def asked(
    url: str, frontends: dict[str, dict[str, Any]] | None = None, **more: Any
) -> ExplainResult:
    request = ExplainRequest(url, **more)
    return explain(request, state(**(FRONTENDS if frontends is None else frontends)), [])


def test_the_way_of_a_request_with_its_lines() -> None:
    result = asked("http://a.example.com:8080/")
    assert result["listeners"][0]["address"] == "127.0.0.1:8080"
    assert result["frontend"] == {
        "name": "exact-host",
        "source": {"file": "shop.yaml", "line": 10},
    }
    assert result["cluster"] is not None
    assert [(each["name"], each["weight"]) for each in result["backends"]] == [
        ("shop/one", 100),
        ("shop/two", 0),
    ]
    assert (result["status"], result["message"]) == (
        None,
        "shop/one serves it",
    )


def test_what_a_null_has_switched_off_is_told_with_whose_word_that_hides() -> None:
    near = entity("policy", "near", 20, hsts=None, compression={"encodings": ["br"]})
    far = entity(
        "policy", "far", 30, compression={}, response_headers={"set": {"X-A": "a", "X-B": "b"}}
    )
    own = {"compression": None, "response_headers": {"add": {"x-a": None}}}
    web = entity("frontend", "web", 10, listeners=["public"], cluster="shop", **own)
    web = Entity(web.key, {**web.value, "policies": ["near"]}, web.provenance)
    public = entity("listener", "public", address="127.0.0.1:8080", policies=["far"])
    view = MemoryView([entity("cluster", "shop"), web, public, near, far])
    stages = explain(ExplainRequest("http://a:8080/"), view, [])["stages"]
    off = {
        each["key"]: (each["words"], each["by"] and each["by"]["name"], each["source"]["line"])
        for each in stages
        if "switched off" in each["words"]
    }
    assert off == {
        "compression": ('switched off, whatever policy "near" says', None, 10),
        "hsts": ("switched off, of which nobody else speaks", "near", 20),
        "response_headers": ('x-a is switched off, whatever policy "far" says', None, 10),
    }
    done = [each["words"] for each in stages if "switched off" not in each["words"]]
    assert done == ["set X-B: b"]


def test_why_the_others_lost() -> None:
    lost = {each["name"]: each["reason"] for each in asked("http://a.example.com:8080/")["lost"]}
    assert lost["any"] == "matches too, but its hostname is less specific"
    assert lost["prefix"] == "path is prefix /api"
    assert lost["near-wildcard"] == "hostname is *.b.example.com"
    assert lost["post"] == "method is POST"
    assert lost["header"] == 'header x-canary is not "always"'
    assert lost["query"] == 'query parameter v is not "2 b"'
    assert lost["cookie"] == 'cookie beta is not "1"'
    assert lost["several"] == "matches too, but its hostname is less specific"
    assert lost["folded"] == "path is suffix /V1/X (ignore_case)"
    assert len(lost) == len(FRONTENDS) - 1


def test_what_is_there_and_who_asks() -> None:
    def lost(url: str, **more: Any) -> dict[str, str]:
        return {each["name"]: each["reason"] for each in asked(url, **more)["lost"]}

    found = lost("http://c.example.com:8080/", headers=[["x-canary", "always"]])
    assert found["no-canary"] == "header x-canary is there"
    found = lost("http://c.example.com:8080/api", headers=[["x-canary", "always"]])
    assert found["not-always"] == 'header x-canary is "always"'
    found = lost("http://o:8080/")
    assert found["far"] == "client is not known to be in 10.0.0.0/8 (--client-address)"
    found = lost("http://o:8080/", client_address="127.0.0.2")
    assert found["far"] == "client 127.0.0.2 is not in 10.0.0.0/8"
    assert found["cookie"] == "hostname is a.example.com"
    result = asked("http://o:8080/", client_address="10.255.0.1")
    assert result["frontend"] is not None
    assert result["frontend"]["name"] == "far"
    with pytest.raises(UnexplainableError, match="is not an IP address"):
        asked("http://o:8080/", client_address="10.0.0.0/8")


@pytest.mark.parametrize(
    "frontend",
    [
        {"path": {"regex": "/(a+)+x?"}},
        {"headers": {"x-long": {"regex": "(a+)+x?"}}},
        {"query": {"q": {"regex": "(a|aa)+x?"}}},
    ],
)
def test_no_expression_takes_longer_than_in_the_engine(frontend: dict[str, Any]) -> None:
    long = "a" * 4000 + "!"
    began = time.monotonic()
    url = f"http://a.example.com:8080/{long}?q={long}"
    result = asked(url, {"slow": frontend}, headers=[["x-long", long]])
    assert time.monotonic() - began < 2
    assert result["frontend"] is None
    assert asked(url.replace("!", ""), {"slow": frontend}, headers=[["x-long", long[:-1]]])[
        "frontend"
    ]


def test_expressions_of_the_engine_alone() -> None:
    found = asked(
        "http://a.example.com:8080/ITEM/7", {"x": {"path": {"regex": "(?i:/item)/[[:digit:]]"}}}
    )
    assert found["frontend"] is not None


def test_a_request_that_nobody_takes() -> None:
    only = {"web": {"hostname": "other.example.com"}}
    result = asked("http://a.example.com:8080/", only)
    assert (result["status"], result["frontend"]) == (404, None)
    assert result["message"] == "no frontend matches: the proxy answers 404"


def test_what_a_listener_has_done_with_requests_that_nobody_takes() -> None:
    policy = {
        "deny": ["192.0.2.0/24"],
        "error_pages": {"404": {"body": "nothing"}, "502": {"body": "later"}},
        "request_headers": {"set": {"X-R": "r"}},
        "response_headers": {"set": {"X-A": "a"}},
    }
    running = MemoryView(
        [
            entity("listener", "public", address="127.0.0.1:8080", policies=["all"]),
            entity("policy", "all", 7, **policy),
            entity("cluster", "shop"),
            entity("frontend", "f", listeners=["public"], path={"exact": "/f"}, cluster="shop"),
            entity(
                "frontend", "g", listeners=["public"], path={"exact": "/g"}, respond={"status": 404}
            ),
        ]
    )
    by = {"name": "all", "source": {"file": "shop.yaml", "line": 7}}
    result = explain(ExplainRequest("http://x:8080/"), running, [])
    assert (result["status"], result["frontend"]) == (404, None)
    page = "the page of 404, where the proxy answers by itself"
    assert [(each["key"], each["words"], each["by"]) for each in result["stages"]] == [
        ("response_headers", "set X-A: a", by),
        ("error_pages", page, by),
    ]
    stages = explain(ExplainRequest("http://x:8080/g"), running, [])["stages"]
    assert ("error_pages", page, by) in [
        (each["key"], each["words"], each["by"]) for each in stages
    ]


def test_a_cluster_without_ready_backends() -> None:
    running = state(web={})
    result = explain(ExplainRequest("http://x:8080/"), running, ["shop/one"])
    assert result["status"] == 503
    assert [each["drained"] for each in result["backends"]] == [True, False]


def test_a_stage_that_answers_is_the_end_and_one_that_may_a_condition() -> None:
    frontends = {
        "shown": {"path": {"exact": "/shown"}, "client_certificate": "required"},
        "asked": {
            "path": {"exact": "/asked"},
            "forward_auth": {"cluster": "shop", "path": "/"},
            "deny": ["192.0.2.0/24"],
        },
        "large": {"path": {"exact": "/large"}, "limits": {"body_bytes": 1}},
    }
    result = asked("http://x:8080/shown", frontends)
    assert (result["status"], result["cluster"], result["backends"]) == (403, None, [])
    assert result["message"] == "in clear text no client shows a certificate: 403"
    result = asked("http://x:8080/asked", frontends)
    may = "if its client may ask (--client-address) and if cluster shop lets it pass"
    assert (result["status"], result["message"]) == (None, f"shop/one serves it, {may}")
    source = {"file": "shop.yaml", "line": 10}
    assert [each["source"] for each in result["stages"]] == [source, source]
    result = asked(
        "http://x:8080/large", frontends, method="POST", headers=[["content-length", "2"]]
    )
    assert result["status"] == 413
    with pytest.raises(UnexplainableError, match="the proxy answers 400 to that"):
        asked("http://x:8080/large", frontends, headers=[["content-length", "x"]])


def test_a_mirror_that_gets_nothing() -> None:
    running = MemoryView(
        [
            *state(web={"mirror": {"cluster": "shadow"}}).values(),
            entity("cluster", "shadow"),
            entity("backend", "shadow/one", address="127.0.0.1:9003"),
        ]
    )
    request = ExplainRequest("http://x:8080/")
    for drained, told in (
        ([], "it goes to cluster shadow as well, whose answer is thrown away"),
        (["shadow/one"], "cluster shadow gets none: it has no backend that takes requests"),
    ):
        stages = explain(request, running, drained)["stages"]
        assert [each["words"] for each in stages if each["key"] == "mirror"] == [told]


def test_a_port_that_nobody_listens_on() -> None:
    result = asked("http://a.example.com:81/")
    assert result["listeners"] == []
    assert result["message"] == "no listener on port 81: there are listeners on 8080"
    assert asked("http://a.example.com/")["frontend"] is not None, "no port: any listener"


def test_a_url_as_people_write_it_is_the_one_that_a_browser_sends() -> None:
    frontends = {
        "web": {"hostname": "xn--bcher-kva.example"},
        "page": {"hostname": "xn--bcher-kva.example", "path": {"exact": "/%C3%BCber"}},
    }
    for url, name in (
        ("http://bücher.example:8080/", "web"),
        ("http://BÜCHER.example./", "web"),
        ("http://xn--bcher-kva.example:8080/", "web"),
        ("http://bücher.example:8080/über?q=ä", "page"),
    ):
        found = asked(url, frontends)["frontend"]
        assert found is not None, url
        assert found["name"] == name
    with pytest.raises(UnexplainableError, match="no hostname that a client can ask for"):
        asked("http://ü..example/")


def test_a_head_that_is_too_large_gets_to_no_frontend() -> None:
    most = 32_768
    for size, headers, status in (
        (most - 100, [], None),
        (most, [], 414),
        (100, [["x-a", "a" * most]], 431),
    ):
        url = f"http://x:8080/{'a' * size}"
        if status is None:
            assert asked(url)["frontend"]
            continue
        with pytest.raises(UnexplainableError, match=f"^the proxy answers {status} ") as refused:
            asked(url, headers=headers)
        assert len(str(refused.value)) < 200


@pytest.mark.parametrize("url", ["", "ftp://x/", "http://", "http://x:99999/", "http://x/../.."])
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(UnexplainableError):
        asked(url)


def test_of_many_frontends_only_those_that_may_match_are_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And it makes no difference to who wins."""
    view = state(**FRONTENDS, **{f"f{n}": {"hostname": f"h{n}.example.com"} for n in range(300)})
    read: list[EntityKey] = []
    getting = MemoryView.__getitem__

    def counted(self: MemoryView, key: EntityKey) -> Entity:
        read.append(key)
        return getting(self, key)

    monkeypatch.setattr(MemoryView, "__getitem__", counted)
    hosts = [*HOSTS, "h7.example.com", "[::1]", "127.0.0.1"]
    paths = [*PATHS, "/" + "x/" * 300]
    urls = [f"http://{a}:8080{b}{c}" for a in hosts for b in paths for c in QUERIES[:3]]
    winners: dict[int, list[str | None]] = {}
    looked_at: dict[int, float] = {}
    for most in (500, 0):
        monkeypatch.setattr(ranking, "_ALL_SHOWN_MAX", most)
        read.clear()
        found = [explain(ExplainRequest(url), view, [])["frontend"] for url in urls]
        winners[most] = [each["name"] if each else None for each in found]
        looked_at[most] = len(read) / len(urls)
    assert winners[0] == winners[500]
    assert len(set(winners[0])) > 8
    assert looked_at[0] < 20
    assert looked_at[500] > 300


def test_host_and_path_are_read_as_a_listener_reads_them() -> None:
    frontends = {
        "six": {"hostname": "[2001:db8::1]"},
        "name": {"hostname": "a.example.com", "path": {"exact": "/b/c"}},
    }
    for url in ("http://[2001:DB8:0:0::1]:8080/", "http://[2001:db8::0001]:8080/x"):
        found = asked(url, frontends)["frontend"]
        assert found is not None
        assert found["name"] == "six"
    for path in ("/b/c", "//b//c", "/x/../b/./c", "/%62/%63"):
        for host in ("A.Example.COM", "a.example.com."):
            found = asked(f"http://{host}:8080{path}", frontends)["frontend"]
            assert found is not None
            assert found["name"] == "name"
    told = {"/a/%00": "400", "/a/..%2fb": "400", "/../x": "400"}
    for path, status in told.items():
        with pytest.raises(UnexplainableError, match=f"answers {status} to .*: invalid_path"):
            asked(f"http://a.example.com:8080{path}")
    with pytest.raises(UnexplainableError, match="invalid_host"):
        asked("http://a,b:8080/")
    with pytest.raises(UnexplainableError, match="answers 501"):
        asked("http://a:8080/", method="CONNECT")
    with pytest.raises(UnexplainableError, match="answers 4"):
        asked("http://a:8080/", headers=[["Host", "a b"]])
    with pytest.raises(UnexplainableError, match="is not a header that a client can send"):
        asked("http://a:8080/", headers=[["Host", "a\r\nX: y"]])


def test_workers_do_what_is_explained(tmp_path: Path) -> None:
    dice = random.Random(7)
    with shop(tmp_path, workers=1) as running:
        files = running.files(0)
        files["shop.yaml"]["frontends"] = {
            name: {"listeners": ["public"], "cluster": "shop", **value}
            for name, value in FRONTENDS.items()
        }
        running.daemon.commit(files)
        port = running.listener.rpartition(":")[2]
        shown = running.daemon.json("show")["entities"]
        held = MemoryView(
            Entity(EntityKey(each["kind"], each["name"]), each["value"], Provenance("f", 1, 1))
            for each in shown
        )
        expected: list[str | None] = []
        with Connection(running.listener) as client:
            for _ in range(400):
                host, path = dice.choice(HOSTS), dice.choice(PATHS) + dice.choice(QUERIES)
                method, canary = dice.choice(["GET", "POST"]), dice.choice(CANARIES)
                headers = [["X-Canary", canary]] if canary else []
                headers += [["Cookie", dice.choice(COOKIES)]] if dice.random() < 0.5 else []
                text = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n"
                text += "".join(f"{name}: {value}\r\n" for name, value in headers)
                text += "Content-Length: 0\r\n" if method == "POST" else ""
                client.send(text.encode() + b"\r\n")
                assert client.read_response(method).status in (200, 404)
                url = f"http://{host}:{port}{path}"
                request = ExplainRequest(url, method, headers, "127.0.0.1")
                found = explain(request, held, [])["frontend"]
                expected.append(found["name"] if found else None)
        entries = running.daemon.wait_for_access(lambda _: True, 400)
        assert [entry["frontend"] for entry in entries] == expected


def test_a_backend_whose_tls_fails_is_not_said_to_serve() -> None:
    request = ExplainRequest("http://a.example.com:8080/")
    faults = {"shop/one": "the certificate has expired"}
    result = explain(request, state(**FRONTENDS), [], faults.get)
    assert result["backends"][0]["tls_fault"] == "the certificate has expired"
    said = "TLS to shop/one failed when it was last tried: 502"
    assert said in str(result["message"])
    assert "serves it" not in str(result["message"])
