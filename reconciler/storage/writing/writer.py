"""The one writer of the database: what a transaction changes, as rows.

Called by `reconciler.storage.store` alone, between `transaction`'s begin and its commit.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple

from reconciler.storage.file.database import text_hash, translated
from reconciler.storage.kept.history import HistoryRow, record
from reconciler.storage.reading.header import Header
from reconciler.storage.reading.state import StoredState, file_row, row_of
from reconciler.storage.reading.weights import (
    ADD,
    EXPRESSION,
    SUM_OF_ALL,
    SUM_OF_TERMS,
    TERMS_OF_BULK,
)
from reconciler.storage.writing.begun import Begun
from reconciler.storage.writing.bulk import Bulk
from schemas.changes.state import EMPTY_DIGEST
from schemas.entities.entity import Entity, EntityKey, Mark

Relate = Callable[[Entity], Iterable[tuple[str, str, str]]]
"""An entity's relations: (relation, term, note)."""


_BULK_PLACES = """
DELETE FROM files WHERE path IN (SELECT path FROM bulk.files WHERE defines IS NULL);
REPLACE INTO files SELECT path, defines, hash FROM bulk.files WHERE defines IS NOT NULL;
UPDATE entities
  SET hash = found.hash, file = found.file, line = found.line, position = found.position
  FROM bulk.moved AS found WHERE entities.kind = found.kind AND entities.name = found.name
"""
_BULK = """
DELETE FROM relations WHERE (relation, term, kind, name) IN
  (SELECT relation, term, kind, name FROM bulk.former);
DELETE FROM entities WHERE (kind, name) IN
  (SELECT kind, name FROM bulk.changes WHERE action != 'add');
INSERT INTO entities SELECT kind, name, value, hash, file, line, position
  FROM bulk.changes WHERE action != 'remove' ORDER BY kind, name;
INSERT INTO relations SELECT relation, term, kind, name, note FROM bulk.relations
  ORDER BY relation, term, kind, name;
INSERT INTO counts
  SELECT kind, sum(CASE action WHEN 'add' THEN 1 WHEN 'remove' THEN -1 ELSE 0 END)
  FROM bulk.changes WHERE true GROUP BY kind
  ON CONFLICT (kind) DO UPDATE SET number = number + excluded.number
"""
_BULK_KEYS = (
    "(SELECT json_group_array(json_array(kind, name)) FROM bulk.changes WHERE action != 'remove'),"
    " (SELECT json_group_array(json_array(kind, name)) FROM bulk.changes WHERE action = 'remove')"
)


class Writer:
    """The connection that writes."""

    def __init__(self, connection: sqlite3.Connection, relate: Relate) -> None:
        self._connection = connection
        self._relate = relate

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is written within becomes durable at its end, or nothing. Raises `OSError`."""
        with translated():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def rehearsal(self) -> Iterator[None]:
        """What is written within is taken back, and reaches no file. Raises `OSError`."""
        with translated():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            finally:
                self._connection.execute("ROLLBACK")

    def header(self, header: Header) -> None:
        """The row by which the next start knows what runs."""
        self._connection.execute(
            "REPLACE INTO running VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*astuple(header), header.check_sum),
        )

    def keep(self, name: str, text: str) -> None:
        """What another part wants to find again after a restart."""
        self._connection.execute(
            "REPLACE INTO kept VALUES (?, ?, ?)", (name, text, text_hash(name, text))
        )

    def files(self, files: Mapping[str, Mapping[EntityKey, Mark]], *, whole: bool) -> None:
        """What configuration files define; `whole` when there are no others."""
        if whole:
            self._connection.execute("DELETE FROM files")
        gone = [(path,) for path, found in files.items() if not found]
        self._connection.executemany("DELETE FROM files WHERE path = ?", gone)
        self._connection.executemany(
            "REPLACE INTO files VALUES (?, ?, ?)",
            [file_row(path, found) for path, found in files.items() if found],
        )

    def entities(self, begun: Begun) -> None:
        """The entities of a transaction, with their relations and counts."""
        state = StoredState(self._connection, "")
        keys = (*(each.key for each in begun.puts), *begun.removes)
        former = list(state.many(keys))
        with self._weighed(self._terms((*former, *begun.puts))):
            self._delete(former)
            self._insert(begun.puts)
        self.places(begun.moved)
        self._count(begun.puts, former)

    @contextlib.contextmanager
    def attached(self, bulk: Bulk | None) -> Iterator[None]:
        """Within, the rows of a large change can be copied; to be begun outside of a transaction.

        Raises `OSError` and `DamagedError`.
        """
        if bulk is None:
            yield
            return
        with translated():
            self._connection.execute("ATTACH ? AS bulk", (str(bulk.path),))
        try:
            yield
        finally:
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("DETACH bulk")

    def bulk(self, begun: Begun) -> None:
        """The same for a large change: statements that copy rows, and nothing in our memory."""
        self.bulk_places(whole=begun.whole)
        terms = [term for (term,) in self._connection.execute(TERMS_OF_BULK)]
        with self._weighed(terms):
            for statement in _BULK.split(";"):
                self._connection.execute(statement)
        # A worker that holds nothing gets all there is, which no list has to say.
        what = "'null', '[]'" if begun.base_digest == EMPTY_DIGEST else _BULK_KEYS
        self._connection.execute(
            f"REPLACE INTO unfinished SELECT 1, ?, ?, {what}",  # ours
            (begun.base_generation, begun.base_digest),
        )

    def bulk_places(self, *, whole: bool) -> None:
        """What the files of a large change define, and what is only written elsewhere."""
        if whole:
            self._connection.execute("DELETE FROM files")
        for statement in _BULK_PLACES.split(";"):
            self._connection.execute(statement)

    def everything(self, entities: Sequence[Entity]) -> None:
        """All entities anew, whatever is there."""
        self._connection.execute("DELETE FROM entities")
        self._connection.execute("DELETE FROM relations")
        self._connection.execute("DELETE FROM counts")
        self._insert(entities)
        self._count(entities, ())
        self._connection.execute(ADD, self._connection.execute(SUM_OF_ALL).fetchone())

    def places(self, moved: Iterable[Entity]) -> None:
        """Where entities are written now that are otherwise the same."""
        self._connection.executemany(
            "UPDATE entities SET hash = ?, file = ?, line = ?, position = ?"
            " WHERE kind = ? AND name = ?",
            [(*place, kind, name) for kind, name, _, *place in map(row_of, moved)],
        )

    def unfinished(self, begun: Begun) -> None:
        """What workers may still be at, if we die before they are through."""
        puts = [list(entity.key) for entity in begun.puts]
        removes = [list(key) for key in begun.removes]
        self._connection.execute(
            "REPLACE INTO unfinished VALUES (1, ?, ?, ?, ?)",
            (begun.base_generation, begun.base_digest, _compact(puts), _compact(removes)),
        )

    def finished(self) -> None:
        """Forget the transaction that all workers are through with."""
        with self.unsynced():
            self._connection.execute("DELETE FROM unfinished")

    def record(self, row: HistoryRow) -> None:
        """What became of a commit, or of a drain."""
        record(self._connection, row)

    def history(self, rows: Iterable[HistoryRow]) -> None:
        """All that is told, the oldest first."""
        self._connection.execute("DELETE FROM history")
        for row in rows:
            record(self._connection, row)

    @contextlib.contextmanager
    def unsynced(self) -> Iterator[None]:
        """What is not worth a sync: durable with whatever is written next. No transaction is open.

        Raises `OSError`, `DamagedError`.
        """
        with translated():
            self._connection.execute("PRAGMA synchronous=NORMAL")
            try:
                yield
            finally:
                self._connection.execute("PRAGMA synchronous=FULL")

    def _terms(self, entities: Iterable[Entity]) -> list[str]:
        rows = (row for entity in entities for row in self._relate(entity))
        return sorted({term for relation, term, _ in rows if relation == EXPRESSION})

    @contextlib.contextmanager
    def _weighed(self, terms: list[str]) -> Iterator[None]:
        """Within, what stands under these terms changes: so does the sum of all expressions."""
        if not terms:
            yield
            return
        given = (json.dumps(terms),)
        (before,) = self._connection.execute(SUM_OF_TERMS, given).fetchone()
        yield
        (after,) = self._connection.execute(SUM_OF_TERMS, given).fetchone()
        if after != before:
            self._connection.execute(ADD, (after - before,))

    def _delete(self, entities: Iterable[Entity]) -> None:
        gone = list(entities)
        self._connection.executemany(
            "DELETE FROM relations WHERE relation = ? AND term = ? AND kind = ? AND name = ?",
            [
                (relation, term, *entity.key)
                for entity in gone
                for relation, term, _ in self._relate(entity)
            ],
        )
        self._connection.executemany(
            "DELETE FROM entities WHERE kind = ? AND name = ?", [each.key for each in gone]
        )

    def _insert(self, entities: Iterable[Entity]) -> None:
        # In the order of the trees, which makes a large load several times as fast.
        fresh = sorted(entities, key=lambda each: each.key)
        self._connection.executemany(
            "INSERT INTO entities VALUES (?, ?, ?, ?, ?, ?, ?)", map(row_of, fresh)
        )
        self._connection.executemany(
            "INSERT INTO relations VALUES (?, ?, ?, ?, ?)",
            sorted(
                (relation, term, *entity.key, note)
                for entity in fresh
                for relation, term, note in self._relate(entity)
            ),
        )

    def _count(self, puts: Iterable[Entity], former: Iterable[Entity]) -> None:
        change: dict[str, int] = {}
        for entities, step in ((puts, 1), (former, -1)):
            for entity in entities:
                change[entity.key.kind] = change.get(entity.key.kind, 0) + step
        self._connection.executemany(
            "INSERT INTO counts VALUES (?, ?)"
            " ON CONFLICT (kind) DO UPDATE SET number = number + excluded.number",
            change.items(),
        )


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
