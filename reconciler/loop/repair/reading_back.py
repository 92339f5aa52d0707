"""What a worker holds, read back from it: entity by entity, and checked against its digest.

A worker holds the whole state, so that nothing is lost for good while one serves. Called by
`reconciler.loop.repair.recovery` at a start, and by `reconciler.loop.repair.rebuilding` when rows
are damaged.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from reconciler.patience import within
from reconciler.workers.linked.link import Link, WorkerGoneError
from schemas.changes.state import State
from schemas.entities.entity import KINDS, NOWHERE, Entity, EntityKey, Mark
from schemas.messages import wire

_PART_S = 10.0


class UnknownStateError(Exception):
    """What a worker holds cannot be told."""


async def read_back(
    link: Link, generation: int, digest: str, written: Mapping[EntityKey, Entity]
) -> list[Entity]:
    """All entities that a worker holds, each where `written` has it. Raises `UnknownStateError`."""
    entities: list[Entity] = []
    position, last = 0, False
    while not last:
        part = await _read_part(link, position)
        if (part.generation, part.digest) != (generation, digest):
            raise UnknownStateError("it holds something else meanwhile")
        with contextlib.suppress(ValueError, TypeError, KeyError):
            entities += _decode(part.entities)
        if not part.last and part.next <= position:
            raise UnknownStateError("its answer has no end")
        position, last = part.next, part.last
    if State(entities).digest != digest:
        raise UnknownStateError("its entities do not add up to its digest")
    return [_placed(each, written) for each in entities]


async def _read_part(link: Link, position: int) -> wire.Recited:
    try:
        async with within(_PART_S):
            reply = await link.ask(wire.Recite(position=position))
    except TimeoutError:
        raise UnknownStateError(f"it did not answer in {_PART_S:g} s") from None
    except WorkerGoneError as error:
        raise UnknownStateError(str(error)) from None
    if not isinstance(reply, wire.Recited):
        raise UnknownStateError(f"it answered by {reply.type}")
    return reply


def _decode(text: str) -> Iterator[Entity]:
    for each in json.loads(text):
        key = EntityKey(str(each["kind"]), str(each["name"]))
        if key.kind not in KINDS or not isinstance(each["value"], dict):
            raise ValueError(f"{key} is no entity")
        yield Entity(key, each["value"], NOWHERE)


def _placed(entity: Entity, written: Mapping[EntityKey, Entity]) -> Entity:
    found = written.get(entity.key)
    return replace(entity, provenance=found.provenance) if found is not None else entity


def is_nowhere(entity: Entity) -> bool:
    """Whether it is not known where an entity is written."""
    return entity.place is None


def files_of(entities: Iterable[Entity]) -> dict[str, dict[EntityKey, Mark]]:
    """What files define, of entities that are to be validated anew when their file changes."""
    files: dict[str, dict[EntityKey, Mark]] = {}
    for entity in entities:
        if entity.provenance != NOWHERE:
            files.setdefault(entity.provenance.file, {})[entity.key] = Mark(b"", 0, 0)
    return files
