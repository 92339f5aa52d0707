"""The operations of a change as the engine reads them: whole entities, put or removed, in chunks.

A chunk is bounded by what it costs to write and to read, so that neither the reconciler's loop nor
a worker is busy with one for long, whatever the size of the change. Called by whoever streams.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from json.encoder import encode_basestring
from typing import NamedTuple

from schemas.entities.entity import NOWHERE, Entity, EntityKey, canonical_text
from schemas.entities.material import FIELDS, materials_of

# Less than 10 ms of either side. A single entity may be larger, by what a file may have.
CHUNK_OPS_MAX = 500
CHUNK_CHARS_MAX = 256 * 1024
# Each is a file that the worker reads and a key or a chain that it checks.
CHUNK_MATERIALS_MAX = 100


class Texts(ABC):
    """Entities that lie somewhere as text: read as such, they need not be decoded to be sent."""

    @abstractmethod
    def puts(self) -> Iterator[str]:
        """Yield the operations that put them, in their order: as `_put` writes them."""


class Chunk(NamedTuple):
    """A part of a change, and the hashes of the contents that its entities need."""

    ops: str
    materials: list[str]


def chunks(puts: Iterable[Entity] | Texts, removes: Iterable[EntityKey] = ()) -> Iterator[Chunk]:
    """Yield a change chunk by chunk, puts first, each in the order given; nothing for no change."""
    building = _Building()
    for text in puts.puts() if isinstance(puts, Texts) else map(_put, puts):
        if building.is_full:
            yield building.finish()
            building = _Building()
        building.put(text)
    for key in removes:
        if building.is_full:
            yield building.finish()
            building = _Building()
        building.remove(key)
    if building.count:
        yield building.finish()


def _put(entity: Entity) -> str:
    # Canonical JSON of the whole has the canonical text of the value at its place.
    return f'{{{_identity(*entity.key)},"value":{canonical_text(entity.value)}}}'


def _materials(text: str) -> Iterator[str]:
    try:
        found = json.loads(text)
    except ValueError:
        # Whoever reads the chunk refuses it, and says so.
        return iter(())
    key = EntityKey(found["kind"], found["name"])
    if key.kind not in FIELDS:
        return iter(())
    return (each.sha256 for each in materials_of(Entity(key, found["value"], NOWHERE)))


class _Building:
    """The chunk that is being filled."""

    def __init__(self) -> None:
        self._puts: list[str] = []
        self._removes: list[str] = []
        self._materials: set[str] = set()
        self._chars = 0
        self.count = 0
        self.is_full = False

    def put(self, text: str) -> None:
        self._puts.append(text)
        # Few clusters have files, and most entities of any large state are none.
        if '"sha256"' in text:
            self._materials.update(_materials(text))
        self._added(text)

    def remove(self, key: EntityKey) -> None:
        text = f"{{{_identity(*key)}}}"
        self._removes.append(text)
        self._added(text)

    def _added(self, text: str) -> None:
        self.count += 1
        self._chars += len(text)
        self.is_full = (
            self.count >= CHUNK_OPS_MAX
            or self._chars >= CHUNK_CHARS_MAX
            or len(self._materials) >= CHUNK_MATERIALS_MAX
        )

    def finish(self) -> Chunk:
        ops = f'{{"puts":[{",".join(self._puts)}],"removes":[{",".join(self._removes)}]}}'
        return Chunk(ops, sorted(self._materials))


def _identity(kind: str, name: str) -> str:
    return f'"kind":"{kind}","name":{encode_basestring(name)}'
