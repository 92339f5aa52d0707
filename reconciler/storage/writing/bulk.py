"""A large change as rows: a file of its own, written by whoever stages, read by whoever commits.

What is too much for the memory of the daemon lies in a database file beside the state: the changes
in the order of the plan, their relations, and what the files define. A commit copies the rows over
(`Writer.bulk`), workers are sent their texts, and whoever asks for changes of some kinds reads
those alone. Nothing in it has to outlive the daemon, which the file is removed with. Written by
`reconciler.loop.large.loader`, in a process of its own; read through `Begun` and `Plan`.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, overload

from reconciler.durable import discard
from reconciler.storage.file.database import DamagedError, translated
from reconciler.storage.reading.state import (
    PUT,
    content_hash,
    decode_entity,
    digest_of,
    file_row,
    row_of,
)
from schemas.changes.change import Change, Selectable
from schemas.changes.ops import Texts
from schemas.changes.plan import Countable
from schemas.entities.entity import Entity, EntityKey, Json, Mark, Provenance, canonical
from schemas.entities.material import FIELDS

T = TypeVar("T")

FILE_NAME = "staged.db"

_SCHEMA = """
PRAGMA journal_mode=OFF;
PRAGMA synchronous=OFF;
PRAGMA locking_mode=EXCLUSIVE;
CREATE TABLE changes (
  number INTEGER PRIMARY KEY,
  action TEXT NOT NULL,
  kind TEXT NOT NULL,
  name TEXT NOT NULL,
  value BLOB,
  hash BLOB,
  file TEXT,
  line INTEGER,
  position INTEGER,
  before TEXT
);
CREATE TABLE relations (
  relation TEXT NOT NULL, term TEXT NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL,
  note TEXT NOT NULL
);
CREATE TABLE former (
  relation TEXT NOT NULL, term TEXT NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL
);
CREATE TABLE files (path TEXT PRIMARY KEY, defines TEXT, hash BLOB) WITHOUT ROWID;
CREATE TABLE moved (
  kind TEXT NOT NULL, name TEXT NOT NULL, hash BLOB, file TEXT NOT NULL, line INTEGER,
  position INTEGER
);
BEGIN;
"""
_WITH_FILES = (
    f"SELECT number FROM changes WHERE kind IN {tuple(FIELDS)}"  # noqa: S608  # words of ours
    """ AND (instr(value, '"sha256"') > 0 OR instr(before, '"sha256"') > 0) ORDER BY number"""
)
# So many changes of a commit are in the history.
FIRST_MAX = 1000
_INDEX = "CREATE INDEX by_kind ON changes (kind, name)"

Relate = Callable[[Entity], Iterable[tuple[str, str, str]]]
Compare = Callable[[EntityKey, Entity | None, Entity | None], Change]


class BulkWriter:
    """Fills a new file. What is in it counts from `finish` on."""

    def __init__(self, path: Path, relate: Relate) -> None:
        discard(path)
        path.touch(mode=0o600)
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.executescript(_SCHEMA)
        self._relate = relate
        self.difference = 0
        """What the changes add to the digest."""

    def changes(self, found: Iterable[tuple[EntityKey, Entity | None, Entity | None]]) -> None:
        """Take in (key, before, after), in the order of the plan."""
        self._connection.executemany(
            "INSERT INTO changes VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (self._row(*change) for change in found),
        )

    def _row(
        self, key: EntityKey, before: Entity | None, after: Entity | None
    ) -> tuple[object, ...]:
        former = None
        if before is not None:
            former = _encoded(before)
            self.difference -= _number(content_hash(*key, canonical(before.value)))
        if after is None:
            return ("remove", *key, None, None, None, None, None, former)
        row = row_of(after)
        self.difference += digest_of(row)
        return ("add" if before is None else "update", *row, former)

    def relations(self, puts: Iterable[Entity], former: Iterable[Entity]) -> None:
        """Take in what entities stand under now, and what others have stood under."""
        self._connection.executemany(
            "INSERT INTO relations VALUES (?, ?, ?, ?, ?)",
            (
                (relation, term, *entity.key, note)
                for entity in puts
                for relation, term, note in self._relate(entity)
            ),
        )
        self._connection.executemany(
            "INSERT INTO former VALUES (?, ?, ?, ?)",
            (
                (relation, term, *entity.key)
                for entity in former
                for relation, term, _ in self._relate(entity)
            ),
        )

    def files(self, files: Mapping[str, Mapping[EntityKey, Mark]]) -> None:
        """Take in what each file defines."""
        self._connection.executemany(
            "INSERT INTO files VALUES (?, ?, ?)",
            (
                file_row(path, files[path]) if files[path] else (path, None, None)
                for path in sorted(files)
            ),
        )

    def moved(self, entities: Iterable[Entity]) -> None:
        """Take in entities that are written at another place, and otherwise the same."""
        self._connection.executemany(
            "INSERT INTO moved VALUES (?, ?, ?, ?, ?, ?)",
            ((kind, name, *place) for kind, name, _, *place in map(row_of, entities)),
        )

    def finish(self) -> None:
        """Close the file: all changes are in it."""
        self._connection.execute(_INDEX)
        self._connection.execute("COMMIT")
        self._connection.close()


class Bulk:
    """The file, open to be read, and removed by `close`."""

    def __init__(self, path: Path, digest: str, compare: Compare) -> None:
        """`digest` is that of the state with the changes; `compare` makes one of its two sides.

        Takes a while: what is asked again and again is found out here. Raises `OSError` and
        `DamagedError`.
        """
        self.path = path
        self.digest = digest
        with translated():
            self._connection = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode=ro",
                uri=True,
                isolation_level=None,
                check_same_thread=False,
            )
            counts = {
                (kind, action): int(count)
                for kind, action, count in self._connection.execute(
                    "SELECT kind, action, count(*) FROM changes GROUP BY kind, action"
                )
            }
            rows = self._connection.execute(
                "SELECT kind, name FROM changes WHERE action = 'remove' ORDER BY number"
            )
            self.removes = tuple(EntityKey(kind, name) for kind, name in rows)
            """The keys of what goes, in the order of the plan."""
            with_files = [number for (number,) in self._connection.execute(_WITH_FILES)]
        self.changes = StoredChanges(self._connection, counts, with_files, compare)
        put = len(self.changes) - len(self.removes)
        self.puts = StoredPuts(self._connection, put, with_files)

    def close(self) -> None:
        """Remove the file, once it is committed or was in vain."""
        self._connection.close()
        with contextlib.suppress(OSError):
            discard(self.path)


class _Rows(Sequence[T], Selectable):
    """Rows in the order of the plan, read whenever somebody asks for them."""

    columns = ""
    where = ""

    def __init__(
        self, connection: sqlite3.Connection, length: int, with_files: Sequence[int]
    ) -> None:
        self._connection = connection
        self._length = length
        self._with_files = with_files

    def decode(self, row: Any) -> T:
        raise NotImplementedError

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[T]:
        return self._select("", "")

    @overload
    def __getitem__(self, index: int) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> list[T]: ...

    def __getitem__(self, index: int | slice) -> T | list[T]:
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            assert step == 1, "a part of it is without gaps"
            return list(self._select("", f"LIMIT {max(0, stop - start)} OFFSET {start}"))
        if index < 0:
            index += len(self)
        for found in self._select("", f"LIMIT 1 OFFSET {index}") if index >= 0 else ():
            return found
        raise IndexError(index)

    def of_kinds(self, *kinds: str) -> Iterator[T]:
        """Yield those of some kinds, without reading any other."""
        return self._select(f"AND kind IN ({', '.join('?' * len(kinds))})", "", *kinds)

    def with_files(self) -> Iterator[T]:
        """Yield those with a value that names files."""
        for number in self._with_files:
            yield from self._select("AND number = ?", "", number)

    def _select(self, and_: str, limit: str, *values: str | int) -> Iterator[T]:
        query = (
            f"SELECT {self.columns} FROM changes"  # noqa: S608
            f" WHERE {self.where} {and_} ORDER BY number {limit}"
        )
        with translated():
            for row in self._connection.execute(query, values):
                yield self.decode(row)


class StoredPuts(_Rows[Entity], Texts):
    """The entities that are added or updated."""

    columns = "kind, name, value, hash, file, line, position"
    where = "action != 'remove'"

    def decode(self, row: Any) -> Entity:
        """Return the entity of a row. Raises `DamagedError`."""
        return decode_entity(row)

    def puts(self) -> Iterator[str]:
        """Yield them as they are sent, which spares decoding and encoding."""
        query = f"SELECT {PUT} FROM changes WHERE {self.where} ORDER BY number"  # noqa: S608
        with translated():
            for (text,) in self._connection.execute(query):
                yield text


class StoredChanges(_Rows[Change], Countable):
    """The changes. What differs field by field is found out for whoever reads one."""

    columns = "action, before, kind, name, value, hash, file, line, position"
    where = "true"

    def __init__(
        self,
        connection: sqlite3.Connection,
        counts: Mapping[tuple[str, str], int],
        with_files: Sequence[int],
        compare: Compare,
    ) -> None:
        super().__init__(connection, sum(counts.values()), with_files)
        self._counts = counts
        self._compare = compare
        self._first: list[Change] = []
        self._first = self[:FIRST_MAX]

    @overload
    def __getitem__(self, index: int) -> Change: ...

    @overload
    def __getitem__(self, index: slice) -> list[Change]: ...

    def __getitem__(self, index: int | slice) -> Change | list[Change]:
        """The first few are at hand: they are what becomes history."""
        if isinstance(index, slice) and index.indices(len(self))[1] <= len(self._first):
            return self._first[index]
        return super().__getitem__(index)

    def decode(self, row: Any) -> Change:
        """Return the change of a row. Raises `DamagedError`."""
        action, before, *after = row
        key = EntityKey(after[0], after[1])
        old = None if before is None else _decoded(key, before)
        new = None if action == "remove" else decode_entity(tuple(after))
        return self._compare(key, old, new)

    def counts(self, kind: str | None = None) -> dict[str, int]:
        """Return how many entities, or how many of a kind, are added, updated and removed."""
        found = dict.fromkeys(("add", "update", "remove"), 0)
        for (each, action), count in self._counts.items():
            found[action] += count if kind in (None, each) else 0
        return found


def _number(content: bytes) -> int:
    return int.from_bytes(content, "big")


def _encoded(entity: Entity) -> str:
    where = entity.provenance
    return json.dumps([entity.value, where.file, where.line, where.column], ensure_ascii=False)


def _decoded(key: EntityKey, text: str) -> Entity:
    try:
        value, file, line, column = json.loads(text)
    except (TypeError, ValueError) as error:
        raise DamagedError("a staged change is not what was written") from error
    found: dict[str, Json] = value
    return Entity(key, found, Provenance(file, line, column))
