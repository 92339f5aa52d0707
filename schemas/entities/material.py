"""Material: what an entity refers to by path and what counts by content, such as a PEM file.

In YAML it is a path; in the canonical value it is the path and the SHA-256 of the content, so that
a new content at the same path is a change of the entity. The content itself never is in a state.
Completed by `reconciler.materials.completing`, read by whoever has to hand contents on.
"""

from collections.abc import Iterator
from typing import Annotated, NamedTuple, TypeVar

from pydantic import BeforeValidator, WithJsonSchema

from schemas.base import Plain, fault, shown
from schemas.entities.entity import Entity, Json

PATH_CHARS_MAX = 1024

PlainT = TypeVar("PlainT", bound=Plain)

FIELDS: dict[str, tuple[tuple[str, ...], ...]] = {
    "certificate": (("certificate",), ("private_key",), ("ocsp",)),
    "cluster": (
        ("tls", "ca"),
        ("tls", "certificate"),
        ("tls", "private_key"),
        ("fallback", "respond", "file"),
    ),
    "frontend": (("respond", "file"), ("basic_auth", "users"), ("jwt", "keys")),
    "listener": (("tls", "client_ca"), ("tls", "client_crl")),
    "policy": (("basic_auth", "users"), ("jwt", "keys")),
}
"""Where a kind has paths: the fields, by path through the value."""

TRUSTED_AT_ORDERS = ("acme", "ca")
"""Where a certificate has a path to what is no part of the state: whoever orders it reads that."""
TRUSTED_AT_FETCHES = ("jwt", "ca")
"""The same of frontends and policies: whoever fetches keys reads it."""


class Material(NamedTuple):
    """One file of one entity; `sha256` in hexadecimal."""

    field: tuple[str, ...]
    path: str
    sha256: str


class File(Plain):
    """A file that an entity names. Its hash is there when the file has been read."""

    path: str
    sha256: str | None = None


class Staple(File):
    """An OCSP response: says nothing any more from a Unix time on."""

    until: int | None = None


def materials_of(entity: Entity) -> Iterator[Material]:
    """Yield the files of an entity whose value has been completed by their hashes."""
    for field in FIELDS.get(entity.key.kind, ()):
        found = value_at(entity.value, field)
        # What is to be fetched and has not been is no file yet.
        if isinstance(found, dict) and "sha256" in found:
            yield Material(field, str(found["path"]), str(found["sha256"]))


def may_name_files(entity: Entity) -> bool:
    """Tell by its value whether an entity may name files: most clusters and listeners do not.

    A certificate may have some that it does not name: those that were issued for it.
    """
    kind = entity.key.kind
    if kind == "certificate":
        return True
    return any(field[0] in entity.value for field in FIELDS.get(kind, ()))


def value_at(value: Json, field: tuple[str, ...]) -> Json:
    """Return what stands at a path through a value, None if nothing does."""
    for step in field:
        value = value.get(step) if isinstance(value, dict) else None
    return value


def file_at(model: Plain, field: tuple[str, ...]) -> File | None:
    """Return the file that a model names in a field of `FIELDS`; None if it names none."""
    found: object = model
    for step in field:
        found = getattr(found, step, None)
    return found if isinstance(found, File) else None


def with_file(model: PlainT, field: tuple[str, ...], file: File) -> PlainT:
    """Return a model that names another file in a field in which it names one."""
    step, *rest = field
    inner = with_file(getattr(model, step), tuple(rest), file) if rest else file
    return model.model_copy(update={step: inner})


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


def parse_file(value: object) -> File:
    """Return a file by its path as written."""
    return File(path=parse_path(value))


def parse_staple(value: object) -> Staple:
    """Return an OCSP response by its path as written."""
    return Staple(path=parse_path(value))


FilePath = Annotated[str, BeforeValidator(parse_path)]
"""A path and no more: what is in the file is no part of the state."""
NamedFile = Annotated[File, BeforeValidator(parse_file), WithJsonSchema({"type": "string"})]
NamedStaple = Annotated[Staple, BeforeValidator(parse_staple), WithJsonSchema({"type": "string"})]
