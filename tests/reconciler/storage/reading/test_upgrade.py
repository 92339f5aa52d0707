"""F24: a state that another version wrote, on disk and in running workers."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from reconciler.catalog.relations import MATCH, USE, relations_of
from reconciler.storage.file.database import FILE_NAME, VERSION
from reconciler.storage.reading.upgrade import LANGUAGE, left_out, upgraded
from reconciler.storage.store import Store
from schemas.entities.entity import Entity, EntityKey, Provenance
from schemas.kinds.registry import full
from tests.harness.ports import address, split
from tests.proxy.worker import state
from tests.reconciler.entities import leave
from tests.reconciler.entities import run as apply
from tests.reconciler.workers.slots.test_supervisor import Plane, alive, until
from tests.schemas.strategies import entities


def of_version_1(entity: Entity) -> Entity:
    """The entity as it was written when a value had every key."""
    return replace(entity, value=full(entity))


@given(entities())
def test_what_is_of_this_version_stays_the_same_object(entity: Entity) -> None:
    assert upgraded(entity) is entity


@given(entities())
def test_what_is_at_its_default_is_left_out(entity: Entity) -> None:
    before = of_version_1(entity)
    assert upgraded(before) == entity
    # Keys that this version has no longer are left out.
    assert upgraded(replace(before, value={**before.value, "of_old": 1})).value == entity.value


def test_keys_within_are_brought_into_form_too() -> None:
    key, where = EntityKey("listener", "web"), Provenance("a.yaml", 1, 1)
    value: dict[str, Any] = {
        "address": "127.0.0.1:1",
        "error_pages": {"404": {"body": "gone", "content_type": "text/html; charset=utf-8"}},
        "limits": {"connections": 10_000, "of_old": 1},
        "protocol": "https",
        "tls": {"profile": "intermediate"},
    }
    assert upgraded(Entity(key, value, where)).value == {
        "address": "127.0.0.1:1",
        "error_pages": {"404": {"body": "gone"}},
        "protocol": "https",
        "tls": {},
    }


FRONTEND = {"listeners": ["web"], "cluster": "c"}
COOKIES = {"a": {"of": 1}, "b": {"exact": "x"}}
RATE = {"requests": 1, "per": 2000}


@pytest.mark.parametrize(
    ("kind", "value", "known", "lost"),
    [
        ("listener", {}, None, ["all of it"]),
        ("gadget", {"size": 1}, None, ["all of it"]),
        ("backend", {"address": "127.0.0.1:1", "new": 1}, {"address": "127.0.0.1:1"}, ["new"]),
        # What only a later version does.
        ("cluster", {"retries": 1, "sticky": {"cookie": "A"}}, {"retries": 1}, ["sticky"]),
        (
            "cluster",
            {"limits": {"requests": 5, "header_count": 9}, "load_balancing": "maglev"},
            {"limits": {"header_count": 9}},
            ["limits.requests", "load_balancing"],
        ),
        ("backend", {"address": "app.internal:80"}, None, ["all of it"]),
        ("listener", {"address": "127.0.0.1:1", "protocol": "udp"}, None, ["all of it"]),
        # A map where a word is known, and the other way round.
        (
            "policy",
            {"rate_limit": {**RATE, "by": {"network": 64}}},
            {"rate_limit": RATE},
            ["rate_limit.by"],
        ),
        ("policy", {"limits": "few", "deny": ["::/0"]}, {"deny": ["::/0"]}, ["limits"]),
        ("policy", {"cors": "any"}, {}, ["cors"]),
        ("policy", {"rate_limit": {"per": 1000}}, {}, ["rate_limit"]),
        ("policy", {"intercept": [502, "all"]}, {}, ["intercept"]),
        ("frontend", {**FRONTEND, "path": {"glob": "/*"}}, FRONTEND, ["path"]),
        ("frontend", {**FRONTEND, "cookies": COOKIES}, FRONTEND, ["cookies"]),
        # Without its end it leads nowhere.
        ("frontend", {"listeners": ["web"], "redirect": {"way": "up"}}, None, ["all of it"]),
        ("frontend", {"listeners": ["web"], "directory": "pub"}, None, ["all of it"]),
    ],
)
def test_what_has_another_form_is_left_out_and_named(
    kind: str, value: Any, known: Any, lost: list[str]
) -> None:
    entity = Entity(EntityKey(kind, "a"), value, Provenance("a.yaml", 1, 1))
    now = upgraded(entity)
    assert (now and now.value, left_out(entity)) == (known, lost)


@given(entities())
def test_nothing_of_this_version_is_left_out(entity: Entity) -> None:
    assert left_out(entity) == []


def test_the_store_takes_over_what_version_1_of_the_digest_wrote(tmp_path: Path) -> None:
    new = state(address(), "127.0.0.1:9")
    old = leave(tmp_path, map(of_version_1, new.entities.values()), "another")
    with contextlib.closing(sqlite3.connect(tmp_path / FILE_NAME)) as database:
        # The tables were the same.
        database.execute("PRAGMA user_version=2")
    store = Store(tmp_path)
    assert store.running.state.digest == new.digest != old
    assert {each.key: each.value for each in store.running.state.values()} == {
        key: each.value for key, each in new.entities.items()
    }
    assert store.former == (1, old)
    assert (store.running.generation, store.running.commit) == (2, f"{1:040x}")
    assert f"another version wrote the state: {len(new)} of" in store.notes.told()[0]
    store.close()
    with contextlib.closing(sqlite3.connect(tmp_path / FILE_NAME)) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (VERSION,)
    again = Store(tmp_path)
    assert (again.running.generation, again.former) == (2, None)
    assert again.running.state.digest == new.digest
    again.close()


def test_what_is_of_a_kind_that_is_not_known_is_left_out_and_told(tmp_path: Path) -> None:
    """An older version stands in for a newer one."""
    known = state(address(), "127.0.0.1:9")
    gadget = Entity(EntityKey("gadget", "g"), {"size": 1}, Provenance("a.yaml", 1, 1))
    leave(tmp_path, [*known.entities.values(), gadget], "newer")
    store = Store(tmp_path)
    assert store.running.state.digest == known.digest
    assert {each.key for each in store.running.state.values()} == set(known.entities)
    assert (store.running.commit, store.running.tree) == (None, None)
    assert any('gadget "g" (all of it)' in note for note in store.notes.told())
    store.close()


def test_a_language_with_one_more_key_changes_nothing(tmp_path: Path) -> None:
    new = state(address(), "127.0.0.1:9")
    digest = leave(tmp_path, new.entities.values(), "without the key")
    store = Store(tmp_path)
    assert (store.running.generation, store.running.state.digest) == (1, digest)
    assert (store.former, store.notes.told()) == (None, [])
    store.close()


def test_what_another_version_has_not_related_is_related(tmp_path: Path) -> None:
    new = state(address(), "127.0.0.1:9")
    leave(tmp_path, new.entities.values(), "with other relations")
    store = Store(tmp_path, relations_of)
    assert store.former is None
    store.close()
    with contextlib.closing(sqlite3.connect(tmp_path / FILE_NAME)) as database:
        found = database.execute("SELECT relation, kind, name FROM relations").fetchall()
    expected = {
        (row.relation, *entity.key)
        for entity in new.entities.values()
        for row in relations_of(entity)
    }
    assert {MATCH, USE} <= {relation for relation, *_ in expected}
    assert set(found) == expected


def test_the_same_language_is_not_looked_through(tmp_path: Path) -> None:
    entity = Entity(EntityKey("listener", "web"), {}, Provenance("a.yaml", 1, 1))
    old = leave(tmp_path, [entity], LANGUAGE)
    store = Store(tmp_path)
    assert store.running.state.digest == old
    store.close()


def test_a_state_of_which_nothing_can_be_read_is_told(tmp_path: Path) -> None:
    leave(tmp_path, [Entity(EntityKey("listener", "web"), {}, Provenance("a.yaml", 1, 1))], "old")
    store = Store(tmp_path)
    assert not list(store.running.state.values())
    assert any('listener "web" (all of it)' in note for note in store.notes.told())
    store.close()


def test_a_worker_of_another_version_serves_until_its_successor_does(tmp_path: Path) -> None:
    async def run() -> None:
        where, slow, asked, go = address(), address(), asyncio.Event(), asyncio.Event()

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            asked.set()
            await go.wait()
            writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
            writer.close()

        backend = await asyncio.start_server(answer, *split(slow))
        first = Plane(tmp_path)
        first.run(state(where, slow))
        first.supervisor.scale(1)
        await until(lambda: first.supervisor.complete)
        [old] = first.pids()
        reader, writer = await asyncio.open_connection(*split(where))
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await asked.wait()
        await first.leave()

        second = Plane(tmp_path)
        running = second.store.running
        second.store.former = (running.generation, running.state.digest)
        apply(second.store, state(where, "127.0.0.1:10").entities.values())
        second.leave_ms = 10_000
        second.supervisor.scale(1)
        await until(lambda: second.supervisor.complete)
        [new] = second.pids()
        assert new != old
        assert second.digests() == {second.store.running.state.digest}
        # What the old one had begun, it ends.
        assert alive(old)
        go.set()
        assert (await reader.readline()).startswith(b"HTTP/1.1 204 ")
        writer.close()
        backend.close()
        await until(lambda: not alive(old))
        await second.end()

    asyncio.run(run())
