"""The language and the engine agree: what a model accepts, the engine takes, byte for byte.

Runs the real engine. Two spellings of one value, or a bound that differs, would show here as a
refused generation or as another digest.
"""

import contextlib
import re
import socket
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError

from proxy.engine_api import EngineApi, PrepareRefusedError
from reconciler.catalog.relations import cluster_of, targets
from schemas.base import OneOf, Plain, later_of, not_there_yet
from schemas.changes.ops import chunks
from schemas.changes.state import EMPTY_DIGEST, State
from schemas.entities.entity import KINDS, NOWHERE, SETTINGS_KEY, Entity, EntityKey, Json
from schemas.kinds.registry import MODELS, inner_model
from schemas.kinds.registry import written as as_written
from schemas.values.regex import check_regex
from tests.schemas.strategies import entities

LEAST: dict[str, dict[str, object]] = {
    "listener": {"address": "127.0.0.1:1"},
    "cluster": {},
    "policy": {},
    "settings": {},
}


@pytest.fixture(scope="module")
def engine() -> Iterator[EngineApi]:
    running = EngineApi(0, None)
    yield running
    running.shutdown(0)


@contextlib.contextmanager
def listening() -> Iterator[int]:
    """Lend a socket such as the reconciler opens; that its address is another does not matter."""
    with socket.socket() as opened:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        opened.bind(("127.0.0.1", 0))
        opened.listen()
        opened.setblocking(False)
        yield opened.fileno()


def prepared_digest(engine: EngineApi, state: State) -> str:
    with listening() as descriptor:
        sockets = dict.fromkeys(state.names("listener"), descriptor)
        try:
            parts = list(chunks(state.entities.values()))
            for number, chunk in enumerate(parts):
                engine.stage(1, number, chunk.ops, {})
            return engine.prepare(1, (0, EMPTY_DIGEST), "0" * 40, len(parts), sockets)
        finally:
            engine.abort(1)


def least(key: EntityKey) -> Entity:
    return Entity(key, MODELS[key.kind].model_validate(LEAST[key.kind]).value(), NOWHERE)


def complete(found: Iterable[Entity]) -> State:
    """Add to some entities what they refer to, so that they are a state."""
    known = {entity.key: entity for entity in found}
    needed = {SETTINGS_KEY}
    for entity in known.values():
        needed.update(targets(entity))
        if entity.key.kind == "backend":
            needed.add(EntityKey("cluster", cluster_of(entity.key)))
    return State([*known.values(), *(least(key) for key in sorted(needed - known.keys()))])


@given(found=st.lists(entities(), max_size=6))
def test_what_is_valid_is_taken_with_the_same_digest(
    engine: EngineApi, found: list[Entity]
) -> None:
    state = complete(found)
    assert prepared_digest(engine, state) == state.digest


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("listener", {"address": "[2001:db8::]:65535", "limits": {"body_bytes": "1024TiB"}}),
        ("listener", {"address": "[::]:1", "limits": {"head_bytes": "64KiB", "header_count": 1}}),
        ("listener", {"address": "0.0.0.0:1", "timeouts": {"keep_alive": "168h"}}),
        ("listener", {"address": "0.0.0.0:1", "trusted_proxies": ["::/0", "0.0.0.0/0", "::1"]}),
        ("cluster", {"keep_alive_connections": 0, "retries": 10, "timeouts": {"connect": "1ms"}}),
        ("cluster", {"keep_alive_connections": 1_000_000}),
        ("settings", {"drain_timeout": "0s", "workers": 1024, "max_requests": 1_000_000}),
        ("settings", {"error_pages": {"599": {"body": '\x7f\x01"\\/é\U0001f600\u2028'}}}),
        ("frontend", {"hostname": "[2001:DB8::1]", "path": {"exact": "/" + "a" * 2047}}),
        ("frontend", {"hostname": "*.xn--caf-dma.fr", "methods": ["M-SEARCH"]}),
        ("frontend", {"headers": {"x": {"exact": "é \t x"}}, "query": {"é": "", "b": " "}}),
        ("frontend", {"path": {"regex": r"/(?P<id>\d+)/[^/]*"}}),
        ("frontend", {"path": {"regex": "/a|b", "ignore_case": True}}),
        ("frontend", {"path": {"suffix": "a" * 2046}}),
        ("frontend", {"hostnames": ["a.test", "*.a.test", "[2001:DB8::1]"]}),
        ("frontend", {"hostnames": ["a.test", "*"]}),
        ("frontend", {"response_headers": {"add": {"Set-Cookie": ["a=1", "b={path}"]}}}),
        ("frontend", {"request_headers": {"add": {"X-A": ["a"], "X-B": ["a", "a"]}}}),
        ("frontend", {"hostnames": ["a.test"], "passthrough": True}),
        ("frontend", {"client_addresses": ["::/0", "0.0.0.0/0", "::1"]}),
        ("frontend", {"cookies": {"__Host-a": {"exact": 'é "\\', "not": True}}}),
        (
            "frontend",
            {
                "path": {"regex": r"/(?P<id>\d+)/([^/]*)"},
                "rewrite": {"path": {"full": "/{2}/{id}{{{0}}}"}, "hostname": "x.{hostname}"},
                "request_headers": {"add": {"X-A": "é {1}{cookie:a}"}},
            },
        ),
    ],
)
def test_bounds_and_odd_spellings(engine: EngineApi, kind: str, fields: dict[str, object]) -> None:
    if kind == "frontend":
        fields = {"cluster": "shop", "listeners": ["public"], **fields}
    name = "settings" if kind == "settings" else "x"
    value = MODELS[kind].model_validate(fields).value()
    state = complete([Entity(EntityKey(kind, name), value, NOWHERE)])
    assert prepared_digest(engine, state) == state.digest


# Values of each kind in which every map of keys is there that may be left out.
WHOLE: list[tuple[str, dict[str, Json]]] = [
    ("settings", {"error_pages": {"503": {"body": "x"}}}),
    ("certificate", {"acme": {}, "hostnames": ["a.test"]}),
    (
        "listener",
        {
            "address": "127.0.0.1:1",
            "error_pages": {"503": {"body": "x"}},
            "protocol": "https",
            "tls": {},
        },
    ),
    (
        "policy",
        {
            "compression": {},
            "error_pages": {"503": {"body": "x"}},
            "forward_auth": {"cluster": "c"},
            "hsts": {"max_age_days": 1},
            "set_cookie": {"a": {"secure": True}},
        },
    ),
    ("cluster", {"tls": {}}),
    ("backend", {"address": "127.0.0.1:1"}),
    (
        "frontend",
        {
            "cluster": "c",
            "compression": {},
            "forward_auth": {"cluster": "a"},
            "hsts": {"max_age_days": 1},
            "listeners": ["l"],
            "mirror": {"cluster": "d"},
            "request_headers": {"remove": ["A"]},
            "response_headers": {"remove": ["A"]},
            "rewrite": {"path": {"full": "/a"}},
            "set_cookie": {"a": {"http_only": True}},
        },
    ),
    ("frontend", {"listeners": ["l"], "redirect": {"hostname": "a.test"}}),
    ("frontend", {"listeners": ["l"], "respond": {}}),
]
# What the reconciler fills in before anything is sent.
COMPLETED = {("certificate", "hostnames")}


def defaults_within(
    model: type[Plain], value: dict[str, Json]
) -> Iterator[tuple[tuple[str, ...], Json]]:
    """Every key that may be left out of a value and is, at whatever depth, and its default."""
    plain = model.of_value(value).in_full()
    for name, field in model.model_fields.items():
        inner, given = inner_model(field), value.get(name)
        mark = later_of(field)
        if mark is not None and mark.has is None:
            continue
        if name not in value:
            yield (name,), plain[name]
        if inner is None or issubclass(inner, OneOf):
            continue
        maps = {(name,): given or {}} if "dict[" not in str(field.annotation) else {}
        maps |= {(name, each): of for each, of in (given or {}).items()} if not maps else {}
        for path, within in maps.items():
            if isinstance(plain[name], dict):
                yield from (
                    ((*path, *step), usual) for step, usual in defaults_within(inner, within)
                )


def with_written(value: dict[str, Json], path: tuple[str, ...], usual: Json) -> dict[str, Json]:
    step, *rest = path
    if not rest:
        return {**value, step: usual}
    inner = value.get(step)
    assert inner is None or isinstance(inner, dict)
    return {**value, step: with_written(inner or {}, tuple(rest), usual)}


DEFAULTS = [
    (kind, whole, path, usual)
    for kind, whole in WHOLE
    for path, usual in defaults_within(MODELS[kind], whole)
    if (kind, *path) not in COMPLETED
]


def test_all_defaults_are_looked_at() -> None:
    paths = {(kind, *path) for kind, _, path, _ in DEFAULTS}
    assert {kind for kind, *_ in DEFAULTS} == set(KINDS)
    assert len(paths) > 80
    assert {
        ("listener", "tls", "profile"),
        ("listener", "error_pages", "503", "content_type"),
        ("cluster", "timeouts", "tunnel"),
        ("certificate", "acme", "directory"),
        ("frontend", "compression", "types"),
        ("frontend", "hsts", "preload"),
        ("frontend", "path"),
        ("frontend", "redirect", "status"),
        ("frontend", "respond", "content_type"),
        ("frontend", "request_headers", "set"),
        ("frontend", "rewrite", "hostname"),
    } <= paths


@pytest.mark.parametrize(
    ("kind", "whole", "path", "usual"),
    DEFAULTS,
    ids=[".".join((kind, *path)) for kind, _, path, _ in DEFAULTS],
)
def test_both_have_the_same_default(
    engine: EngineApi, kind: str, whole: dict[str, Json], path: tuple[str, ...], usual: Json
) -> None:
    """The engine takes a value as it writes it itself: without what is its own default.

    So where it refuses one in which the reconciler's default is written out, and takes that without
    it, the two are the same.
    """
    key = EntityKey(kind, "settings" if kind == "settings" else "c/x" if kind == "backend" else "x")
    state = complete([Entity(key, whole, NOWHERE)])
    assert prepared_digest(engine, state) == state.digest
    explicit = Entity(key, with_written(whole, path, usual), NOWHERE)
    with pytest.raises(PrepareRefusedError, match="disagree about this entity"):
        prepared_digest(engine, complete([explicit]))


@pytest.mark.parametrize(
    ("kind", "written"),
    [
        ("cluster", {"slow_start": 30_000}),
        ("cluster", {"sticky": {"cookie": "A"}}),
        ("cluster", {"limits": {"requests": 5}}),
        ("cluster", {"load_balancing": "maglev"}),
        ("backend", {"address": "127.0.0.1:1", "priority": 1}),
        ("backend", {"address": "app.internal:80"}),
        ("listener", {"address": "127.0.0.1:1", "protocol": "udp"}),
        ("settings", {"resolver": {}}),
    ],
)
def test_the_engine_ignores_nothing_that_does_not_work_yet(
    engine: EngineApi, kind: str, written: dict[str, Json]
) -> None:
    key = EntityKey(kind, "settings" if kind == "settings" else "c/x" if kind == "backend" else "x")
    assert list(not_there_yet(MODELS[kind].model_validate(_in_yaml(kind, written))))
    with pytest.raises(PrepareRefusedError):
        prepared_digest(engine, complete([Entity(key, written, NOWHERE)]))


def _in_yaml(kind: str, value: dict[str, Json]) -> dict[str, Json]:
    return {name: as_written(kind, (name,), each) for name, each in value.items()}


PATTERNS = st.lists(
    st.sampled_from(
        [
            *r"ab/.*+?|()[]^$-~=é,",
            *("{2}", "{2,}", "{1,3}", "(?:", "(?i)", "(?P<n>", "(?<n>", "(?U)", "(?s-m:"),
            *(r"\d", r"\.", r"\pL", r"\p{Greek}", r"\x{41}", r"\b", r"\b{start}", r"\z", r"\n"),
            *("[a-z]", "[^/]", "[[:alpha:]]", "[[", "-[", "&&", "--", r"\-"),
        ]
    ),
    min_size=1,
    max_size=6,
).map("".join)


@given(pattern=PATTERNS)
def test_no_regex_is_refused_that_the_engine_takes(engine: EngineApi, pattern: str) -> None:
    """The other way round the engine has the last word: it refuses what the check overlooks."""
    try:
        check_regex(pattern)
    except PydanticCustomError:
        with pytest.raises(PrepareRefusedError, match=re.compile("regex")):
            prepared_digest(engine, complete([_frontend_of(pattern)]))


def _frontend_of(pattern: str) -> Entity:
    fields = {"cluster": "shop", "listeners": ["public"]}
    value: dict[str, Json] = MODELS["frontend"].model_validate(fields).value()
    return Entity(EntityKey("frontend", "x"), value | {"path": {"regex": pattern}}, NOWHERE)
