"""The keys of clusters and backends: their canonical values, and what of them works."""

from typing import Any

import pytest

from reconciler.language.document import read_document
from reconciler.language.raw import raw_entities
from reconciler.language.validator import validate
from schemas.base import Later, Model, later_of, not_there_yet
from schemas.kinds.registry import MODELS, inner_model
from tests.schemas.refusals import refusal

CHECK = {"http": {"path": "/healthz"}}


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ({"load_balancing": "maglev"}, {"load_balancing": "maglev"}),
        ({"load_balancing": {"maglev": "client_address"}}, {"load_balancing": "maglev"}),
        (
            {"load_balancing": {"rendezvous": {"header": "X-User"}, "bounded_load": "125%"}},
            {"load_balancing": {"rendezvous": {"header": "x-user"}, "bounded_load": 125}},
        ),
        ({"health_check": CHECK}, {"health_check": CHECK}),
        (
            {"health_check": {"tcp": {"send": "PING\r\n"}, "interval": "5s", "timeout": "1s"}},
            {"health_check": {"tcp": {"send": "PING\r\n"}, "timeout": 1000}},
        ),
        (
            {"health_check": {"grpc": {}, "initial": "unchecked", "port": 81}},
            {"health_check": {"grpc": {}, "initial": "unchecked", "port": 81}},
        ),
        ({"ejection": {}}, {"ejection": {}}),
        ({"ejection": {"success_rate": "90%"}}, {"ejection": {"success_rate": 90}}),
        (
            {"retry": {"attempts": 2, "when": {"errors": ["reset", "connect", "reset"]}}},
            {"retry": {"when": {"errors": ["connect", "reset"]}}},
        ),
        ({"retry": {"methods": ["PUT", "GET"]}}, {"retry": {"methods": ["GET", "PUT"]}}),
        ({"fallback": {"cluster": "a"}}, {"fallback": {"cluster": "a"}}),
        (
            {"fallback": {"respond": {"status": 503}}},
            {"fallback": {"respond": {"status": 503}}},
        ),
        (
            {"limits": {"requests": 5, "queue": 1, "queue_timeout": "1s", "head_bytes": "64KiB"}},
            {"limits": {"requests": 5, "queue": 1, "queue_timeout": 1000}},
        ),
        ({"slow_start": "30s", "panic": "30%"}, {"slow_start": 30_000, "panic": 30}),
        ({"sticky": {"cookie": "KAKEHI"}}, {"sticky": {"cookie": "KAKEHI"}}),
        ({"retries": 2, "retry": None}, {}),
    ],
)
def test_a_value_has_no_default(written: dict[str, Any], value: dict[str, Any]) -> None:
    cluster = MODELS["cluster"].model_validate(written)
    assert cluster.value() == value
    assert MODELS["cluster"].of_value(value) == cluster


@pytest.mark.parametrize(
    ("kind", "written", "places"),
    [
        ("cluster", {"load_balancing": "random", "retries": 5, "tls": {"verify": False}}, []),
        ("cluster", {"load_balancing": "maglev"}, [("load_balancing",)]),
        ("cluster", {"limits": {"queue": None, "head_bytes": "1KiB"}}, []),
        ("cluster", {"limits": {"requests": 5}}, [("limits", "requests")]),
        ("cluster", {"health_check": {"h2": {}}, "sticky": None}, [("health_check", "h2")]),
        ("backend", {"address": "127.0.0.1:1", "backup": False, "priority": 0}, []),
        ("backend", {"address": "app:1", "priority": 1}, [("address",), ("priority",)]),
        ("listener", {"address": "[::]:1", "protocol": "https", "tls": {"alpn": []}}, []),
        ("listener", {"address": "[::]:1", "protocol": "tls", "tls": {"alpn": ["imap"]}}, []),
        (
            "listener",
            {"address": "[::]:1", "protocol": "udp", "udp": {"answers": 1}},
            [("protocol",), ("udp",)],
        ),
        ("settings", {"resolver": {}}, [("resolver",)]),
    ],
)
def test_what_does_not_work_is_found(
    kind: str, written: dict[str, Any], places: list[tuple[str, ...]]
) -> None:
    found = not_there_yet(MODELS[kind].model_validate(written))
    assert sorted(place for place, _, _ in found) == places


def marked(model: type[Model], path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Later]]:
    found = []
    for name, field in model.model_fields.items():
        mark, inner = later_of(field), inner_model(field)
        if mark is not None:
            found.append(((*path, name), mark))
        elif inner is not None:
            found += marked(inner, (*path, name))
    return found


@pytest.mark.parametrize("kind", sorted(MODELS))
def test_nobody_is_shown_what_is_refused(kind: str) -> None:
    shown: Any = MODELS[kind].model_construct().in_full()
    for path, mark in marked(MODELS[kind]):
        if MODELS[kind].model_fields[path[0]].is_required():
            continue
        inner = shown
        for step in path[:-1]:
            inner = (inner or {}).get(step)
        assert (path[-1] in (inner or {})) == (mark.has is not None and inner is not None), path


def test_a_key_that_does_not_work_is_refused_with_all_others() -> None:
    text = b"clusters:\n  a: {ejection: {failures: 5}, slow_start: 30s, sticky: {cookie: A}}\n"
    (raw,) = raw_entities(read_document("a.yaml", text))
    assert validate(raw) is None
    said = [each.message for each in raw.document.diagnostics]
    assert [each.split(": ")[-1] for each in said] == [
        "ejection is not there yet",
        "slow_start is not there yet",
        "sticky is not there yet",
    ]


@pytest.mark.parametrize(
    ("kind", "value", "sentence"),
    [
        ("cluster", {"retries": 1, "retry": {}}, "retries: is short for retry: {attempts: N}"),
        ("cluster", {"panic": "101%"}, "from 0% to 100%"),
        ("cluster", {"slow_start": "10ms"}, "from 1s to 1h"),
        ("cluster", {"limits": {"queue": -1}}, "too small"),
        ("cluster", {"retry": {"attempts": 11}}, "too large"),
        ("cluster", {"health_check": {"interval": "1s"}}, "expected exactly one of"),
        ("cluster", {"health_check": {"tcp": {"send": "x" * 1025}}}, "at most 1024 bytes"),
        ("cluster", {"sticky": {"cookie": "a b"}}, "expected the name of a cookie"),
        ("backend", {"address": "1.2.3:80"}, "expected an address"),
        ("backend", {"address": "app.internal"}, "expected an address"),
        ("backend", {"address": "app.internal:65536"}, "no valid port"),
        ("backend", {"address": "unix:/run/app/"}, "expected a socket"),
        ("backend", {"address": "unix:/run/../app"}, "expected a socket"),
        ("backend", {"address": "unix:/run/\x01"}, "expected a socket"),
        ("backend", {"address": "srv:_http.app.internal"}, "expected an SRV record"),
        ("backend", {"address": "a:1", "priority": 8}, "too large"),
    ],
)
def test_bounds(kind: str, value: dict[str, Any], sentence: str) -> None:
    assert sentence in refusal(kind, value)


def test_addresses_have_one_spelling() -> None:
    def canonical(text: str) -> str:
        return str(MODELS["backend"].model_validate({"address": text}).value()["address"])

    assert canonical("App.Internal.:8080") == "app.internal:8080"
    assert canonical("büro.example:80") == "xn--bro-hoa.example:80"
    assert canonical("srv:_HTTP._tcp.app.internal.") == "srv:_http._tcp.app.internal"
    assert canonical("unix:/run/App.sock") == "unix:/run/App.sock"
    assert canonical("[0::1]:80") == "[::1]:80"
