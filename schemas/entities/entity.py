"""The entity: one (kind, name) of the state, its canonical value, and where it was written.

Everything that carries configuration after validation carries entities: the catalog, the state, a
change, the database. The value is plain data without defaults (`schemas.base`), so that its bytes,
and with them its hash, are the same in Python and in the engine. Whoever wants to know what an
entity says asks for it `typed`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import field
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple, Self, TypeAlias, TypeVar

from schemas.record import record

if TYPE_CHECKING:
    # Whoever only knows entities by name, as a command line does, spares the models.
    from schemas.base import Kind

Json: TypeAlias = "str | int | bool | list[Json] | dict[str, Json] | None"
"""A canonical value has no floats: no two languages print all of them alike."""

DIGEST_VERSION = 2
"""Which form of a value is hashed. 2: what equals its default is left out; 1 had every key."""

KINDS: tuple[str, ...] = (
    "settings",
    "certificate",
    "policy",
    "listener",
    "cluster",
    "backend",
    "frontend",
)


class EntityKey(NamedTuple):
    """The identity of an entity. A backend's name is `CLUSTER/BACKEND`."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f'{self.kind} "{self.name}"' if self.kind != "settings" else "settings"


SETTINGS_KEY = EntityKey("settings", "settings")


@record
class Provenance:
    """Where an entity was written: a path relative to the config directory, counted from 1.

    What nobody wrote (the default settings) has the file "" and the line 0.
    """

    file: str
    line: int
    column: int


NOWHERE = Provenance("", 0, 0)


class Mark(NamedTuple):
    """How an entity stands in its file: the hash of its raw value, and where."""

    fingerprint: bytes
    line: int
    column: int


KindT = TypeVar("KindT", bound="Kind")


@record
class Entity:
    """One entity. Its provenance is beside the value and no part of its hash."""

    key: EntityKey
    value: dict[str, Json]
    provenance: Provenance
    _model: Kind | None = field(default=None, init=False, repr=False, compare=False)

    @classmethod
    def of(cls, key: EntityKey, model: Kind, provenance: Provenance) -> Self:
        """Return an entity that is what a model says."""
        entity = cls(key, model.value(), provenance)
        object.__setattr__(entity, "_model", model)
        return entity

    @property
    def place(self) -> Provenance | None:
        """Where it is written; None where that is not known, as after a loss of all state."""
        is_known = self.provenance != NOWHERE or self.key == SETTINGS_KEY
        return self.provenance if is_known else None

    def typed(self, kind: type[KindT]) -> KindT:
        """Return what it says, as the model of its kind: made of its value when first asked for.

        Raises `TypeError` when it is of another kind.
        """
        if isinstance(self._model, kind):
            return self._model
        if self.key.kind != kind.KIND:
            raise TypeError(f"{self.key} is no {kind.KIND}")
        model = kind.of_value(self.value)
        object.__setattr__(self, "_model", model)
        return model


canonical_text: Callable[[Json], str] = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False
).encode
"""The same as text; one encoder for all, since making one costs as much as a small value."""


def canonical(value: Json) -> bytes:
    """Return the one spelling of a value, which the engine reproduces byte by byte."""
    return canonical_text(value).encode()


def entity_hash(key: EntityKey, value: dict[str, Json]) -> int:
    """Return what the entity adds to the digest of a state."""
    content = b"\0".join((key.kind.encode(), key.name.encode(), canonical(value)))
    return int.from_bytes(blake2b(content, digest_size=16).digest(), "big")
