"""The snapshot: the whole running state in one file, written only when the journal outgrew it.

A sequence of the journal's frames: a header, then entities in batches. A snapshot that is torn or
does not add up to its own digest is refused as a whole. Called by `reconciler.storage.store` alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reconciler import faults
from reconciler.durable import sync_directory, write_durably
from reconciler.errors import MachineError
from reconciler.storage.journal import frame, read_frames
from schemas.entity import Entity, EntityKey, Json, Provenance
from schemas.state import State

FORMAT = 1
_BATCH_ENTITIES = 256


@dataclass(frozen=True, slots=True)
class Header:
    """What the state of a snapshot is; `seq` is the last journal record that it includes."""

    seq: int
    epoch: int
    generation: int
    commit: str | None
    tree: str | None
    applied_at: str | None
    language: str | None = None


def write(path: Path, header: Header, state: State) -> int:
    """Replaces the snapshot atomically; returns its size in bytes."""
    entities = [encode_entity(entity) for entity in state.entities.values()]
    parts = [
        frame(
            {
                "format": FORMAT,
                "seq": header.seq,
                "epoch": header.epoch,
                "generation": header.generation,
                "commit": header.commit,
                "tree": header.tree,
                "applied_at": header.applied_at,
                "language": header.language,
                "count": len(entities),
                "digest": state.digest,
            }
        )
    ]
    parts += [
        frame({"entities": entities[start : start + _BATCH_ENTITIES]})
        for start in range(0, len(entities), _BATCH_ENTITIES)
    ]
    content = b"".join(parts)
    temporary = path.with_suffix(".new")
    write_durably(temporary, content)
    faults.point("snapshot.rename")
    temporary.rename(path)
    sync_directory(path.parent)
    return len(content)


def read(path: Path) -> tuple[Header, State] | None:
    """The snapshot, or None when there is none. Raises `MachineError` when it is damaged."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise MachineError(f"cannot read the snapshot {path}: {error.strerror}") from error
    frames = [record for record, _ in read_frames(content)]
    try:
        return _decode(frames)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise MachineError(f"the snapshot {path} is damaged: {error}") from error


def _decode(frames: list[dict[str, Any]]) -> tuple[Header, State]:
    first = frames[0]
    if first["format"] != FORMAT:
        raise ValueError(f"its format is {first['format']}, this version reads {FORMAT}")
    header = Header(
        seq=int(first["seq"]),
        epoch=int(first["epoch"]),
        generation=int(first["generation"]),
        commit=first["commit"],
        tree=first["tree"],
        applied_at=first["applied_at"],
        language=first.get("language"),
    )
    state = State(decode_entity(each) for part in frames[1:] for each in part["entities"])
    if len(state) != first["count"] or state.digest != first["digest"]:
        raise ValueError("its entities do not add up to its digest")
    return header, state


def encode_entity(entity: Entity) -> list[Json]:
    """The stored form of an entity: [kind, name, value, file, line, column]."""
    where = entity.provenance
    return [entity.key.kind, entity.key.name, entity.value, where.file, where.line, where.column]


def decode_entity(stored: list[Any]) -> Entity:
    """Raises `ValueError` when it is not a stored entity."""
    kind, name, value, file, line, column = stored
    if not isinstance(value, dict):
        raise ValueError(f"the value of {kind} {name} is not an object")
    return Entity(EntityKey(kind, name), value, Provenance(file, line, column))
