"""Material: what an entity refers to by path and what counts by content, such as a PEM file.

In YAML it is a path; in the canonical value it is the path and the SHA-256 of the content, so that
a new content at the same path is a change of the entity. The content itself never is in a state.
Written by `reconciler.materials.materials`, read by whoever has to hand contents on.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, NamedTuple

from pydantic import BeforeValidator

from schemas.base import fault, shown
from schemas.entity import Entity, Json

PATH_CHARS_MAX = 1024

FIELDS: dict[str, tuple[tuple[str, ...], ...]] = {
    "certificate": (("certificate",), ("private_key",), ("ocsp",)),
    "cluster": (("tls", "ca"), ("tls", "certificate"), ("tls", "private_key")),
    "listener": (("tls", "client_ca"), ("tls", "client_crl")),
}
"""Where a kind has paths: the fields, by path through the value."""


class Material(NamedTuple):
    """One file of one entity; `sha256` in hexadecimal."""

    field: tuple[str, ...]
    path: str
    sha256: str


def materials_of(entity: Entity) -> Iterator[Material]:
    """Yield the files of an entity whose value has been completed by their hashes."""
    for field in FIELDS.get(entity.key.kind, ()):
        found = value_at(entity.value, field)
        if isinstance(found, dict):
            yield Material(field, str(found["path"]), str(found["sha256"]))


def value_at(value: Json, field: tuple[str, ...]) -> Json:
    """Return what stands at a path through a value, None if nothing does."""
    for step in field:
        value = value.get(step) if isinstance(value, dict) else None
    return value


def parse_path(value: object) -> str:
    """Return the path of a file: absolute, or plain and relative to the config directory."""
    if not isinstance(value, str) or not value or len(value) > PATH_CHARS_MAX or "\0" in value:
        raise fault(f"expected the path of a file, not {shown(value)}")
    if value.startswith("/"):
        return value
    steps = value.split("/")
    if any(step in ("", ".", "..") for step in steps):
        hint = "a path is relative to the config directory, or begins with a slash"
        raise fault(f"{shown(value)} is no plain path", hint)
    if any(step.startswith(".") for step in steps):
        raise fault(f"{shown(value)} is hidden: hidden files are not part of a configuration")
    return value


FilePath = Annotated[str, BeforeValidator(parse_path)]
