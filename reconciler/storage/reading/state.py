"""The running state as it lies in the database: asked for what is wanted, never loaded whole.

`StoredState` reads through one connection, which sees the newest commit, or within `snapshot` one
moment of it. A row whose hash is not that of its content is refused (`DamagedError`). Called by
every part that asks what runs, through `Store.running.state`; staging reads snapshots.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from itertools import islice
from typing import Any, NoReturn

from reconciler.storage.file.database import (
    CONTENT_BYTES,
    Damage,
    DamagedError,
    text_hash,
    translated,
    with_place,
)
from reconciler.storage.reading.weights import EXPRESSION, HEAVIEST, SUM_OF_ALL
from schemas.changes.ops import Texts
from schemas.entities.entity import (
    SETTINGS_KEY,
    Entity,
    EntityKey,
    Json,
    Mark,
    Provenance,
    canonical,
)
from schemas.kinds.settings import Settings

Row = tuple[str, str, bytes, bytes, str, int, int]

_ENTITY = "SELECT kind, name, value, hash, file, line, position FROM entities"
_ENTITY_OF = f"{_ENTITY} WHERE kind = ? AND name = ?"
# Of JSON: a list of pairs, and of paths. CROSS JOIN has SQLite look up each, in the order given.
_ENTITIES_OF = (
    "SELECT e.kind, e.name, e.value, e.hash, e.file, e.line, e.position"
    " FROM json_each(?) AS asked CROSS JOIN entities AS e"
    " ON e.kind = json_extract(asked.value, '$[0]') AND e.name = json_extract(asked.value, '$[1]')"
)
_FILES_OF = (
    "SELECT f.path, f.defines, f.hash FROM json_each(?) AS asked"
    " CROSS JOIN files AS f ON f.path = asked.value"
)
# By one statement; in the order of the tables, so that a page which was read serves the next too.
_MANY = 500
# The operation that puts the entity of a row, as `schemas.changes.ops` writes it.
PUT = (
    """'{"kind":"' || kind || '","name":' || json_quote(name)"""
    """ || ',"value":' || CAST(value AS TEXT) || '}'"""
)
# Of a snapshot; more is of a change that is staged elsewhere.
_REMEMBERED_MAX = 5000
# Of what stands under a term; there may be very many.
_FEW = 8
# Behind every character that a name or a term may have.
_LAST = "\U0010ffff"


def content_hash(kind: str, name: str, value: bytes) -> bytes:
    """Return what an entity adds to the digest, of its canonical bytes."""
    content = f"{kind}\0{name}\0".encode() + value
    return blake2b(content, digest_size=CONTENT_BYTES).digest()


def row_hash(kind: str, name: str, value: bytes, file: str, line: int, position: int) -> bytes:
    """Return the hash of a row: an entity, and where it is written."""
    return with_place(content_hash(kind, name, value), kind, name, file, line, position)


def digest_of(row: Row) -> int:
    """Return what the entity of a row adds to the digest."""
    return int.from_bytes(row[3][:CONTENT_BYTES], "big")


def row_of(entity: Entity) -> Row:
    """Return the row of an entity."""
    kind, name = entity.key
    value, where = canonical(entity.value), entity.provenance
    place = where.file, where.line, where.column
    return (kind, name, value, row_hash(kind, name, value, *place), *place)


def decode_entity(row: Row) -> Entity:
    """Return the entity of a row. Raises `DamagedError`."""
    _check(row)
    kind, name, value, _, file, line, position = row
    decoded: dict[str, Json] = json.loads(value.decode())
    return Entity(EntityKey(kind, name), decoded, Provenance(file, line, position))


def _check(row: Row) -> None:
    if not _is_as_written(row):
        message = f'the state database is damaged: {row[0]} "{row[1]}" is not what was written'
        raise DamagedError(message)


def _is_as_written(row: Row) -> bool:
    try:
        kind, name, value, stored, file, line, position = row
        return row_hash(kind, name, value, file, line, position) == stored
    except (AttributeError, TypeError, UnicodeEncodeError):
        # A damaged row may have values of another type.
        return False


class StoredState:
    """A view of the entities, by one connection."""

    def __init__(
        self, connection: sqlite3.Connection, digest: str, damage: Damage | None = None
    ) -> None:
        self._connection = connection
        self.digest = digest
        self._damage = damage or Damage()

    def get(self, key: EntityKey, /) -> Entity | None:
        """Return an entity, or None."""
        row = self._one(_ENTITY_OF, key)
        return None if row is None else self._decoded(row)

    @property
    def settings(self) -> Settings:
        """The settings that run; where nothing does, those that nobody has written."""
        found = self.get(SETTINGS_KEY)
        return Settings() if found is None else found.typed(Settings)

    def __getitem__(self, key: EntityKey, /) -> Entity:
        found = self.get(key)
        if found is None:
            raise KeyError(key)
        return found

    def __contains__(self, key: object, /) -> bool:
        if not isinstance(key, EntityKey):
            return False
        return self._one("SELECT 1 FROM entities WHERE kind = ? AND name = ?", key) is not None

    def __len__(self) -> int:
        row = self._one(
            "SELECT coalesce(sum(number), 0) FROM counts WHERE kind != ?", (EXPRESSION,)
        )
        return int(row[0])

    def count(self, kind: str) -> int:
        """Return how many of a kind there are."""
        row = self._one("SELECT number FROM counts WHERE kind = ?", (kind,))
        return 0 if row is None else int(row[0])

    def weight(self) -> int:
        """Return what all expressions take in a worker, in bytes."""
        return self.count(EXPRESSION)

    def weight_anew(self) -> int:
        """Return the same by all of them. Walks over all."""
        return int(self._one(SUM_OF_ALL, ())[0])

    def heaviest(self, most: int) -> list[tuple[int, EntityKey]]:
        """Return what the largest expressions take, and who has them. Walks over all."""
        rows = self._all(HEAVIEST, (most,))
        return [(weight, EntityKey(kind, name)) for weight, kind, name in rows]

    def names(self, kind: str, under: str = "") -> list[str]:
        """Return the names of a kind that begin by `under`, in order."""
        return self.first_names(kind, -1, under)

    def first_names(self, kind: str, limit: int, under: str = "") -> list[str]:
        """Return the first names of a kind that begin by `under`, in order: so many at most."""
        found = self._all(
            "SELECT name FROM entities"
            " WHERE kind = ? AND name >= ? AND name < ? ORDER BY name LIMIT ?",
            (kind, under, under + _LAST, limit),
        )
        return sorted(name for (name,) in found)

    def __iter__(self) -> Iterator[EntityKey]:
        for kind, name in self._all("SELECT kind, name FROM entities", ()):
            yield EntityKey(kind, name)

    def values(self, kind: str | None = None) -> Iterator[Entity]:
        """Yield all entities, or those of a kind, in the order of their keys."""
        query, values = f"{_ENTITY} ORDER BY kind, name", tuple[str, ...]()
        if kind is not None:
            query, values = f"{_ENTITY} WHERE kind = ? ORDER BY name", (kind,)
        self._damage.refuse()
        with self._damage.noted(), translated():
            for row in self._connection.execute(query, values):
                yield decode_entity(row)

    def puts(self) -> Iterator[str]:
        """Yield all entities as the operations that put them, written by SQLite.

        Not checked row by row: whoever takes them all in tells the digest of what came, and when
        that is another one, `check` says why.
        """
        query = f"SELECT {PUT} FROM entities ORDER BY kind, name"  # noqa: S608  # words of ours
        self._damage.refuse()
        try:
            with self._damage.noted(), translated():
                for (text,) in self._connection.execute(query):
                    yield text
        except OSError:
            # A value that is no text is damage as well, which SQLite does not call so.
            self.check()
            raise

    def check(self) -> None:
        """Look at every row. Raises `DamagedError` when one is not what was written."""
        self._damage.refuse()
        with self._damage.noted(), translated():
            for row in self._connection.execute(f"{_ENTITY} ORDER BY kind, name"):
                _check(row)

    def after(self, key: EntityKey, limit: int) -> list[tuple[Entity, int]]:
        """Return the entities behind a key in the order of keys, with what each adds to the digest.

        So many at most.
        """
        found = self._all(
            f"{_ENTITY} WHERE (kind, name) > (?, ?) ORDER BY kind, name LIMIT ?", (*key, limit)
        )
        return [(decode_entity(row), digest_of(row)) for row in found]

    def related_note(self, relation: str, term: str, key: EntityKey) -> str | None:
        """Return the note of one entity under a term; None when it is not there."""
        row = self._one(
            "SELECT note FROM relations WHERE relation = ? AND term = ? AND kind = ? AND name = ?",
            (relation, term, *key),
        )
        return None if row is None else row[0]

    def related(self, relation: str, term: str = "") -> dict[EntityKey, str]:
        """Return the entities under a term, with their notes."""
        found = self._all(
            "SELECT kind, name, note FROM relations WHERE relation = ? AND term = ?",
            (relation, term),
        )
        return {EntityKey(kind, name): note for kind, name, note in found}

    def related_under(
        self, relation: str, prefix: str, most: int | None = None
    ) -> dict[str, dict[EntityKey, str]]:
        """Return what `related` does for terms that begin by `prefix`: all, or `most` rows."""
        found: dict[str, dict[EntityKey, str]] = {}
        for term, kind, name, note in self._all(
            "SELECT term, kind, name, note FROM relations"
            " WHERE relation = ? AND term >= ? AND term < ? ORDER BY term LIMIT ?",
            (relation, prefix, prefix + _LAST, -1 if most is None else most),
        ):
            found.setdefault(term, {})[EntityKey(kind, name)] = note
        return found

    def terms(self, relation: str) -> list[str]:
        """Return the terms under which somebody stands, at the cost of these, however many do."""
        found: list[str] = []
        first = "SELECT min(term) FROM relations WHERE relation = ?"
        (each,) = self._one(first, (relation,))
        while each is not None:
            found.append(each)
            (each,) = self._one(f"{first} AND term > ?", (relation, each))
        return found

    def terms_after(self, relation: str, term: str, limit: int) -> list[str]:
        """Return the terms behind one in their order, so many at most."""
        query = (
            "SELECT DISTINCT term FROM relations"
            " WHERE relation = ? AND term > ? ORDER BY term LIMIT ?"
        )
        return [found for (found,) in self._all(query, (relation, term, limit))]

    def with_files(self) -> Iterator[Entity]:
        """Yield the entities that name files."""
        keys = {key for found in self.related_under("file", "").values() for key in found}
        yield from (self[key] for key in sorted(keys))

    def marks(self, path: str) -> dict[EntityKey, Mark]:
        """Return what a file defines."""
        row = self._one("SELECT path, defines, hash FROM files WHERE path = ?", (path,))
        return {} if row is None else self._decoded_file(row)

    def many(self, keys: Sequence[EntityKey]) -> Iterator[Entity]:
        """Yield those of some entities that are there, in any order."""
        ordered = sorted(keys)
        for at in range(0, len(ordered), _MANY):
            for row in self._all(_ENTITIES_OF, (json.dumps(ordered[at : at + _MANY]),)):
                yield self._decoded(row)

    def expect(self, keys: Iterable[EntityKey]) -> None:
        """Know that these are about to be asked for."""

    def expect_files(self, paths: Iterable[str]) -> None:
        """Know that it is about to be asked what these files define."""

    def paths(self) -> set[str]:
        """Return the paths of all configuration files."""
        return {path for (path,) in self._all("SELECT path FROM files", ())}

    def files_after(self, path: str, limit: int) -> list[tuple[str, str, bytes]]:
        """Return the rows of files behind a path in the order of paths, so many at most."""
        query = "SELECT path, defines, hash FROM files WHERE path > ? ORDER BY path LIMIT ?"
        return self._all(query, (path, limit))

    def kept(self, name: str) -> str | None:
        """Return what another part has kept. Raises `DamagedError`."""
        row = self._one("SELECT text, hash FROM kept WHERE name = ?", (name,))
        if row is None:
            return None
        text, stored = row
        if text_hash(name, text) != stored:
            raise DamagedError(f"the state database is damaged: {name} is not what was written")
        return str(text)

    # A commit of a thousand files asks ten thousand times: two contexts around each would take as
    # long as the answers.

    def _one(self, query: str, values: tuple[object, ...]) -> Any:
        self._damage.refuse()
        try:
            return self._connection.execute(query, values).fetchone()
        except (sqlite3.Error, UnicodeDecodeError) as error:
            self._fail(error)

    def _all(self, query: str, values: tuple[object, ...]) -> list[Any]:
        self._damage.refuse()
        try:
            return self._connection.execute(query, values).fetchall()
        except (sqlite3.Error, UnicodeDecodeError) as error:
            self._fail(error)

    def _fail(self, error: Exception) -> NoReturn:
        with self._damage.noted(), translated():
            raise error

    def _decoded(self, row: Row) -> Entity:
        try:
            return decode_entity(row)
        except DamagedError as error:
            self._damage.note(error)
            raise

    def _decoded_file(self, row: tuple[str, str, bytes]) -> dict[EntityKey, Mark]:
        try:
            return decode_file(*row)
        except DamagedError as error:
            self._damage.note(error)
            raise


class SnapshotState(StoredState):
    """The same of one moment, so that what was read need not be read again.

    A check of a change asks for each of its entities half a dozen times.
    """

    def __init__(self, connection: sqlite3.Connection, digest: str, damage: Damage) -> None:
        super().__init__(connection, digest, damage)
        self._entities: dict[EntityKey, Entity | None] = {}
        self._marks: dict[str, dict[EntityKey, Mark]] = {}
        self._names: dict[tuple[str, str], list[str]] = {}
        self._related: dict[tuple[str, str], dict[EntityKey, str]] = {}
        self._under: dict[tuple[str, str, int | None], dict[str, dict[EntityKey, str]]] = {}

    def expect(self, keys: Iterable[EntityKey]) -> None:
        """Read those that are not known, as many as are remembered."""
        unknown = (key for key in keys if key not in self._entities)
        wanted = list(islice(unknown, _REMEMBERED_MAX - len(self._entities)))
        found = {entity.key: entity for entity in self.many(wanted)}
        self._entities.update((key, found.get(key)) for key in wanted)

    def expect_files(self, paths: Iterable[str]) -> None:
        """Read what those define that are not known, as many as are remembered."""
        unknown = (path for path in paths if path not in self._marks)
        wanted = sorted(islice(unknown, _REMEMBERED_MAX - len(self._marks)))
        for at in range(0, len(wanted), _MANY):
            part = wanted[at : at + _MANY]
            found = {row[0]: row for row in self._all(_FILES_OF, (json.dumps(part),))}
            for path in part:
                self._marks[path] = self._decoded_file(found[path]) if path in found else {}

    def __contains__(self, key: object, /) -> bool:
        known = self._entities.get(key) if isinstance(key, EntityKey) else None
        return known is not None or super().__contains__(key)

    def related(self, relation: str, term: str = "") -> dict[EntityKey, str]:
        """Return the entities under a term, with their notes."""
        known = self._related.get((relation, term))
        if known is not None:
            return known.copy()
        found = super().related(relation, term)
        if len(found) <= _FEW:
            if len(self._related) >= _REMEMBERED_MAX:
                self._related.clear()
            self._related[relation, term] = found.copy()
        return found

    def related_under(
        self, relation: str, prefix: str, most: int | None = None
    ) -> dict[str, dict[EntityKey, str]]:
        """Return what `related` does for terms that begin by `prefix`: all, or `most` rows."""
        known = self._under.get((relation, prefix, most))
        if known is None:
            known = super().related_under(relation, prefix, most)
            if sum(map(len, known.values())) > _FEW:
                return known
            if len(self._under) >= _REMEMBERED_MAX:
                self._under.clear()
            self._under[relation, prefix, most] = known
        return {term: found.copy() for term, found in known.items()}

    def names(self, kind: str, under: str = "") -> list[str]:
        """Return the names of a kind that begin by `under`, in order."""
        if not under:
            return super().names(kind)
        found = self._names.get((kind, under))
        if found is None:
            if len(self._names) >= _REMEMBERED_MAX:
                self._names.clear()
            found = self._names[kind, under] = super().names(kind, under)
        return found[:]

    def get(self, key: EntityKey, /) -> Entity | None:
        """Return an entity, or None."""
        if key not in self._entities:
            if len(self._entities) >= _REMEMBERED_MAX:
                self._entities.clear()
            self._entities[key] = super().get(key)
        return self._entities[key]

    def marks(self, path: str) -> dict[EntityKey, Mark]:
        """Return what a file defines."""
        if path not in self._marks:
            if len(self._marks) >= _REMEMBERED_MAX:
                self._marks.clear()
            self._marks[path] = super().marks(path)
        return self._marks[path]


class Whole(Texts):
    """All entities of a state, read anew whenever somebody goes through them."""

    def __init__(self, state: StoredState) -> None:
        self._state = state

    def __iter__(self) -> Iterator[Entity]:
        return self._state.values()

    def __len__(self) -> int:
        return len(self._state)

    def puts(self) -> Iterator[str]:
        """Yield them as they are sent. Raises `DamagedError`."""
        return self._state.puts()

    def check(self) -> None:
        """Look at every row. Raises `DamagedError` when one is not what was written."""
        self._state.check()


def file_row(path: str, defined: Mapping[EntityKey, Mark]) -> tuple[str, str, bytes]:
    """Return the row of what a file defines."""
    found = [
        [key.kind, key.name, mark.fingerprint.hex(), mark.line, mark.column]
        for key, mark in defined.items()
    ]
    text = json.dumps(found, separators=(",", ":"), ensure_ascii=False)
    return path, text, text_hash(path, text)


def decode_file(path: str, defines: str, stored: bytes) -> dict[EntityKey, Mark]:
    """Return what a file defines, from its row. Raises `DamagedError`."""
    try:
        if text_hash(path, defines) == stored:
            return {
                EntityKey(kind, name): Mark(bytes.fromhex(fingerprint), line, column)
                for kind, name, fingerprint, line, column in json.loads(defines)
            }
    except (TypeError, ValueError):
        pass
    raise DamagedError(
        f"the state database is damaged: what {path} defines is not what was written"
    )
