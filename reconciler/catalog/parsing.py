"""One file without findings, as text: what many processes read at once, and what is kept of it.

A large load is parsed by processes beside the one that stages it, and what they found is kept by
the content of the file until the load is committed. That must change nothing but the time: so a
file of which anything is to be said has no such form, and is staged from its bytes, as ever. Called
by `reconciler.loop.large.loader` and, to take it in, by `reconciler.catalog.changed_files`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from reconciler.catalog.relations import Relation, relations_of
from reconciler.language.document import read_document
from reconciler.language.raw import raw_entities
from reconciler.language.validator import validate
from schemas.entities.entity import Entity, EntityKey, Json, Mark, Provenance
from schemas.entities.material import may_name_files
from schemas.record import record


@record
class ParsedEntity:
    """An entity as its file has it, not yet completed by the files that it names."""

    key: EntityKey
    mark: Mark
    value: dict[str, Json]
    relations: tuple[Relation, ...] | None
    """Where it names no files: then they are what its value says."""

    def at(self, path: str) -> Entity:
        """Return the entity as one of the file at a path."""
        return Entity(self.key, self.value, Provenance(path, self.mark.line, self.mark.column))


def parse(data: bytes) -> str | None:
    """Return what a file has; None if there is anything to say about it. Never raises."""
    document = read_document("", data)
    found: list[tuple[object, ...]] = []
    for raw in raw_entities(document):
        entity = validate(raw)
        if entity is None:
            return None
        where = raw.provenance
        fingerprint = raw.fingerprint().hex()
        rows = None if may_name_files(entity) else tuple(relations_of(entity))
        found.append((*raw.key, where.line, where.column, fingerprint, entity.value, rows))
    if document.unreadable or document.diagnostics or document.warnings:
        return None
    return json.dumps(found, separators=(",", ":"), ensure_ascii=False)


def parsed_entities(parsed: str) -> Iterator[ParsedEntity]:
    """Yield what `parse` found."""
    for kind, name, line, column, fingerprint, value, rows in json.loads(parsed):
        mark = Mark(bytes.fromhex(fingerprint), line, column)
        relations = None if rows is None else tuple(Relation(*row) for row in rows)
        yield ParsedEntity(EntityKey(kind, name), mark, value, relations)
