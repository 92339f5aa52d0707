"""The operations of a change as the engine reads them: whole entities, put or removed, in chunks.

A chunk is bounded by what it costs to write and to read, so that neither the reconciler's loop nor
a worker is busy with one for long, whatever the size of the change. Called by whoever streams.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from json.encoder import encode_basestring
from typing import NamedTuple, Protocol, runtime_checkable

from schemas.entity import NOWHERE, Entity, EntityKey, canonical_text
from schemas.material import FIELDS, materials_of

# Less than 10 ms of either side. A single entity may be larger, by what a file may have.
CHUNK_OPS_MAX = 500
CHUNK_CHARS_MAX = 256 * 1024
# Each is a file that the worker reads and a key or a chain that it checks.
CHUNK_MATERIALS_MAX = 100


class EntityText(NamedTuple):
    """An entity whose value is there in its canonical text already."""

    key: EntityKey
    text: str


@runtime_checkable
class Texts(Protocol):
    """Entities that lie somewhere as text: read as such, they need not be decoded to be sent."""

    def texts(self) -> Iterator[EntityText]:
        """Yield them in their order."""


class Chunk(NamedTuple):
    """A part of a change, and the hashes of the contents that its entities need."""

    ops: str
    materials: list[str]


def chunks(puts: Iterable[Entity] | Texts, removes: Iterable[EntityKey] = ()) -> Iterator[Chunk]:
    """Yield a change chunk by chunk, puts first, each in the order given; nothing for no change."""
    building = _Building()
    for key, text, materials in _texts(puts):
        if building.is_full:
            yield building.finish()
            building = _Building()
        building.put(key, text, materials)
    for key in removes:
        if building.is_full:
            yield building.finish()
            building = _Building()
        building.remove(key)
    if building.count:
        yield building.finish()


def _texts(puts: Iterable[Entity] | Texts) -> Iterator[tuple[EntityKey, str, Iterable[str]]]:
    """Yield entities as text, each with the hashes of the contents that it needs."""
    if not isinstance(puts, Texts):
        for entity in puts:
            hashes = [found.sha256 for found in materials_of(entity)]
            yield entity.key, canonical_text(entity.value), hashes
        return
    for key, text in puts.texts():
        hashes = []
        # Few clusters have files, and most entities of any large state are none.
        if key.kind in FIELDS and '"sha256"' in text:
            entity = Entity(key, json.loads(text), NOWHERE)
            hashes = [found.sha256 for found in materials_of(entity)]
        yield key, text, hashes


class _Building:
    """The chunk that is being filled."""

    def __init__(self) -> None:
        self._puts: list[str] = []
        self._removes: list[str] = []
        self._materials: set[str] = set()
        self._chars = 0

    @property
    def count(self) -> int:
        return len(self._puts) + len(self._removes)

    @property
    def is_full(self) -> bool:
        return (
            self.count >= CHUNK_OPS_MAX
            or self._chars >= CHUNK_CHARS_MAX
            or len(self._materials) >= CHUNK_MATERIALS_MAX
        )

    def put(self, key: EntityKey, value: str, materials: Iterable[str]) -> None:
        # Canonical JSON of the whole has the canonical text of the value at its place.
        text = f'{{{_identity(key)},"value":{value}}}'
        self._puts.append(text)
        self._chars += len(text)
        self._materials.update(materials)

    def remove(self, key: EntityKey) -> None:
        text = f"{{{_identity(key)}}}"
        self._removes.append(text)
        self._chars += len(text)

    def finish(self) -> Chunk:
        ops = f'{{"puts":[{",".join(self._puts)}],"removes":[{",".join(self._removes)}]}}'
        return Chunk(ops, sorted(self._materials))


def _identity(key: EntityKey) -> str:
    return f'"kind":"{key.kind}","name":{encode_basestring(key.name)}'
