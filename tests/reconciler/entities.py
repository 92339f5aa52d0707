"""Entities and begun transactions for the tests of what stores and sends them."""

from __future__ import annotations

from reconciler.loop.reconcile import digest_after
from reconciler.storage.store import Begun, Running
from schemas.change import Change
from schemas.entity import Entity, EntityKey, Provenance


def backend(name: str, port: int, line: int = 1) -> Entity:
    value = {"address": f"127.0.0.1:{port}", "weight": 100}
    return Entity(EntityKey("backend", name), dict(value), Provenance("shop.yaml", line, 3))


def begun(
    running: Running,
    puts: tuple[Entity, ...],
    removes: tuple[EntityKey, ...] = (),
    moved: tuple[Entity, ...] = (),
) -> Begun:
    """The begin record of a transaction on what runs now."""
    changes = []
    for entity in puts:
        before = running.state.get(entity.key)
        changes.append(Change("update" if before else "add", entity.key, before, entity, ()))
    changes += [Change("remove", key, running.state[key], None, ()) for key in removes]
    generation = running.generation + 1
    return Begun(
        generation=generation,
        base_generation=running.generation,
        base_digest=running.state.digest,
        digest=digest_after(running.state, tuple(changes)),
        commit=f"{generation:040x}",
        tree=f"{generation + 1000:040x}",
        at="2026-01-01T00:00:00.000+00:00",
        puts=puts,
        removes=removes,
        moved=moved,
    )
