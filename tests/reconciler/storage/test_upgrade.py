"""F24: a state that another version wrote, on disk and in running workers."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.errors import MachineError
from reconciler.storage.store import Store
from reconciler.storage.upgrade import LANGUAGE, upgraded
from schemas.entity import Entity, EntityKey, Provenance
from schemas.error_page import ErrorPage
from schemas.kinds import MODELS, defaults
from tests.harness.ports import address, split
from tests.proxy.worker import state
from tests.reconciler.entities import leave
from tests.reconciler.entities import run as apply
from tests.reconciler.workers.test_supervisor import Plane, alive, until
from tests.schemas.strategies import entities


def older(entity: Entity, *keys: str) -> Entity:
    """The entity as a version wrote it that did not have these keys."""
    return replace(entity, value={k: v for k, v in entity.value.items() if k not in keys})


@given(entities())
def test_what_is_of_this_version_stays_the_same_object(entity: Entity) -> None:
    assert upgraded(entity) is entity


@given(entities(), st.data())
def test_missing_keys_get_their_defaults(entity: Entity, data: st.DataObject) -> None:
    given_defaults = defaults(entity.key.kind)
    keys = data.draw(st.sets(st.sampled_from(sorted(given_defaults)))) if given_defaults else set()
    value = upgraded(older(entity, *keys)).value
    assert value == {**entity.value, **{key: given_defaults[key] for key in keys}}
    # Keys that this version has no longer are left out.
    assert upgraded(replace(entity, value={**entity.value, "of_old": 1})).value == entity.value


def test_keys_within_are_completed_too() -> None:
    key, where = EntityKey("listener", "web"), Provenance("a.yaml", 1, 1)
    written = {"address": "127.0.0.1:1", "protocol": "https"}
    value: dict[str, Any] = MODELS["listener"].model_validate(written).value()
    value["error_pages"] = {"404": ErrorPage(body="gone").value()}
    plain = value["error_pages"]["404"]["content_type"]
    del value["timeouts"]["keep_alive"], value["tls"]["profile"]
    del value["error_pages"]["404"]["content_type"]
    completed: Any = upgraded(Entity(key, value, where)).value
    assert completed["timeouts"]["keep_alive"] == 60_000
    assert completed["tls"]["profile"] == "intermediate"
    assert completed["error_pages"] == {"404": {"body": "gone", "content_type": plain}}


def test_what_no_default_stands_for_is_refused() -> None:
    entity = Entity(EntityKey("listener", "web"), {}, Provenance("a.yaml", 1, 1))
    with pytest.raises(ValueError, match="address"):
        upgraded(entity)


def test_the_store_completes_what_it_reads(tmp_path: Path) -> None:
    new = state(address(), "127.0.0.1:9")
    old = leave(
        tmp_path,
        [older(each, "proxy_protocol", "passthrough") for each in new.entities.values()],
        "another",
    )
    store = Store(tmp_path)
    assert store.running.state.digest == new.digest != old
    assert {each.key: each.value for each in store.running.state.values()} == {
        key: each.value for key, each in new.entities.items()
    }
    assert store.former == (1, old)
    assert (store.running.generation, store.running.commit) == (2, f"{1:040x}")
    assert "another version wrote the state: 3 of" in store.notes[0]
    store.close()
    again = Store(tmp_path)
    assert (again.running.generation, again.former) == (2, None)
    assert again.running.state.digest == new.digest
    again.close()


def test_the_same_language_is_not_looked_through(tmp_path: Path) -> None:
    entity = Entity(EntityKey("listener", "web"), {}, Provenance("a.yaml", 1, 1))
    old = leave(tmp_path, [entity], LANGUAGE)
    store = Store(tmp_path)
    assert store.running.state.digest == old
    store.close()


def test_a_state_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    leave(tmp_path, [Entity(EntityKey("listener", "web"), {}, Provenance("a.yaml", 1, 1))], "old")
    with pytest.raises(MachineError, match="of another version"):
        Store(tmp_path)
    # Nobody holds its lock.
    with pytest.raises(MachineError, match="of another version"):
        Store(tmp_path)


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
