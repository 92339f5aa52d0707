"""The state directory: what runs, made durable, at a cost that follows the change.

One write transaction of the database is the commit record and the commit point. It holds all that a
generation changes: entities, their relations, what the files define, and the header row. Before it
nothing of a transaction is on the disk (presumed abort), so that nothing is held open while workers
prepare. Behind it the row `unfinished` says what workers may still be at, until `done`.

A directory that was deleted or replaced is written anew from the files that are still open. While
it cannot be written, a copy elsewhere (`stand-in`) is read in its place; commits wait, unless
nothing would be served without them.

Called by `reconciler.transaction` (commit, done), `reconciler.loop` (follow), and by every
part that asks what runs (`running`).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import sqlite3
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path

from reconciler import faults, log
from reconciler.durable import rename_durably
from reconciler.errors import MachineError
from reconciler.storage.file.checkpoints import Checkpoints, LogIndex
from reconciler.storage.file.database import (
    FILE_NAME,
    Damage,
    DamagedError,
    Database,
    end_after,
    translated,
)
from reconciler.storage.file.place import Place
from reconciler.storage.kept.contents import MaterialStore
from reconciler.storage.kept.history import HistoryRow
from reconciler.storage.notes import Notes
from reconciler.storage.reading.header import Header, Recovered, read_header
from reconciler.storage.reading.running import Running, read_running, running_of
from reconciler.storage.reading.salvage import salvaged
from reconciler.storage.reading.snapshots import Snapshots
from reconciler.storage.reading.state import Whole, content_hash
from reconciler.storage.reading.upgrade import LANGUAGE, completed_all, set_former_aside
from reconciler.storage.reading.view import StateView, changes_of
from reconciler.storage.writing.anew import aside, remove_leftover
from reconciler.storage.writing.begun import Begun, read_unfinished
from reconciler.storage.writing.bulk import Bulk
from reconciler.storage.writing.writer import Relate, Writer
from schemas.changes.change import Change
from schemas.entities.entity import Entity, EntityKey, Mark, canonical

_MODULUS = 1 << 128
# What could not be written anew costs the whole state each time.
_RETURN_EVERY_S = 2.0
# The longest that takes its time is a worker that is brought up with a very large state.
SNAPSHOT_S_MAX = 600.0


def unrelated(_: Entity) -> Iterable[tuple[str, str, str]]:
    """For whoever asks for no relations."""
    return ()


class Store:
    """The open state directory. Holds its lock until `close`."""

    def __init__(self, directory: Path, relate: Relate = unrelated) -> None:
        self._directory = directory
        self._relate = relate
        self.place = Place(directory)
        # Beside the state other parts keep files there, which are to be written anew as well.
        self._was_rebuilt = False
        self._return_at = self._probe_at = 0.0
        self.epoch = 0
        self.damage = Damage()
        """What any reader has come upon; the loop sees to it."""
        self.notes = Notes()
        # A transaction behind its commit point that may not have reached every worker.
        self.unfinished: Begun | None = None
        # (generation, digest) of workers that hold the state in the form of another version.
        self.former: tuple[int, str] | None = None
        self._views: list[StateView] = []
        self._writing_apart = False
        # What others have to write while a thread has the writer.
        self._put_off: dict[str, str] = {}
        self._unrecorded: list[HistoryRow] = []
        self._checkpoints = Checkpoints()
        self._connections = contextlib.ExitStack()
        self._home = self._database = Database(directory)
        self._standing: tempfile.TemporaryDirectory[str] | None = None
        self.materials = MaterialStore(directory, self._is_needed)
        try:
            try:
                for note in (*set_former_aside(directory), *self.place.clear()):
                    self.notes.add(note)
                self._start_somehow()
                remove_leftover(directory)
                self.place.remember(self._home.files)
            except OSError as error:
                self.place.failed(error)
                self._stand_in()
                self._start_somehow()
        except OSError as error:
            self._unlock()
            raise MachineError(f"cannot use the state directory {directory}: {error}") from error
        except MachineError:
            self._unlock()
            raise

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[Running]:
        """One moment of what runs, by a connection of its own: for any thread, one at a time.

        Commit, tree and entities are those of the same moment, whatever is committed meanwhile;
        reading them raises `OSError` when it goes on for too long, since it holds up checkpoints.
        """
        with translated(), self._snapshots.begin() as connection:
            end_after(connection, SNAPSHOT_S_MAX)
            yield read_running(connection, self.damage)

    @contextlib.contextmanager
    def view(self) -> Iterator[StateView]:
        """The running state as it is now, for somebody who takes his time."""
        self.look()
        with self.snapshot() as seen, self.materials.kept():
            # A thread may have committed what the loop has not been told of yet.
            now = seen.moment if self._writing_apart else self.running.moment
            view = StateView(now, Whole(seen.state))
            self._views.append(view)
            try:
                yield view
            finally:
                self._views.remove(view)

    def close(self) -> None:
        """Gives the lock back."""
        self._checkpoints.finish()
        self._unlock()

    def look(self) -> None:
        """Now and then: what was deleted, replaced or could not be written is written anew."""
        if self._writing_apart:
            return
        with contextlib.suppress(OSError):
            self._be_home()
            if self.place.problem is not None and time.monotonic() > self._probe_at:
                self._probe_at = time.monotonic() + _RETURN_EVERY_S
                self.place.probe()

    @property
    def scratch(self) -> Path:
        """A directory beside the state, for files that need not outlive it."""
        return self._database.path.parent

    def keep(self, name: str, text: str) -> None:
        """Remembers a text of another part over restarts. Raises `OSError`."""
        if self._writing_apart:
            # The writer is at it in a thread, for some seconds: this is durable right behind.
            self._put_off[name] = text
            return
        with self._writing():
            self._writer.keep(name, text)

    def kept(self, name: str) -> str | None:
        """The text that was kept under a name. Raises `DamagedError`, `OSError`."""
        put_off = self._put_off.get(name)
        return self.running.state.kept(name) if put_off is None else put_off

    def record(self, row: HistoryRow) -> None:
        """Add to the history. Raises `DamagedError`, `OSError`."""
        if self._writing_apart:
            self._unrecorded.append(row)
            return
        with self._writer.unsynced(), self._writing():
            self._writer.record(row)

    def outrank(self, epoch: int) -> None:
        """Workers know a later daemon than these files: theirs were lost, we come after it."""
        self.epoch = max(self.epoch, epoch + 1)
        with contextlib.suppress(OSError), self._writing():
            self._writer.header(self._header())

    def recover(
        self,
        held: Recovered,
        entities: Sequence[Entity],
        files: Mapping[str, Mapping[EntityKey, Mark]],
    ) -> None:
        """What workers serve is the state: these files had lost it.

        Raises `MachineError` when it is of another version and cannot be completed.
        """
        completed = completed_all(entities, self._directory)
        self.unfinished = self.former = None
        self._run(self.running, held)
        self._note_completed(entities, completed)
        try:
            self._fill(completed, files)
        except OSError:
            self._stand_in()
            self._reopen(self.running)
            self._fill(completed, files)

    def _run(self, running: Running, held: Recovered) -> None:
        running.generation, running.commit, running.tree = held.generation, held.commit, held.tree
        running.state.digest, running.applied_at = held.digest, None

    # One transaction.

    def commit(self, begun: Begun) -> None:
        """The commit point: nothing is written before. Raises `OSError` when it was not passed."""
        changes = self._before_commit(begun)
        self._write_commit(begun)
        self._behind_commit(begun, changes)

    async def commit_apart(self, begun: Begun) -> None:
        """The same for a large change: it is written in a thread, while the loop is free."""
        changes = self._before_commit(begun)
        writing = asyncio.ensure_future(asyncio.to_thread(self._write_commit, begun))
        self._writing_apart = True
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            # What is written cannot be left half way: the next start finds it, or not.
            await writing
            raise
        finally:
            self._writing_apart = False
            self._keep_put_off()
        self._behind_commit(begun, changes)

    def _keep_put_off(self) -> None:
        put_off, self._put_off = self._put_off, {}
        unrecorded, self._unrecorded = self._unrecorded, []
        try:
            self._restore(put_off, unrecorded)
        except OSError as error:
            log.warning("the state directory cannot be written", reason=error.strerror)

    def _restore(self, texts: Mapping[str, str], history: Iterable[HistoryRow]) -> None:
        """Write what other parts keep. Raises `OSError`."""
        with self._writing():
            for name, text in texts.items():
                self._writer.keep(name, text)
            for row in history:
                self._writer.record(row)

    def _before_commit(self, begun: Begun) -> list[Change]:
        faults.point("journal.commit")
        running = self.running
        assert begun.base_generation == running.generation, "it is based on another generation"
        # What cannot be recorded is better served than nothing: workers can tell it.
        if len(running.state) > 0 and self._be_home():
            raise OSError(errno.ESTALE, "the state directory was replaced, and is written anew")
        # A newcomer that has begun with nothing is given the whole when its turn comes.
        if not any(view.first.generation for view in self._views):
            return []
        return changes_of(running.state, begun.puts, begun.removes)

    def _write_commit(self, begun: Begun) -> None:
        with self._writer.attached(begun.bulk), self._writing():
            if begun.bulk is not None:
                self._writer.bulk(begun)
            else:
                self._writer.files(begun.files, whole=begun.whole)
                self._writer.entities(begun)
                self._writer.unfinished(begun)
            self._writer.header(
                replace(
                    self._header(),
                    generation=begun.generation,
                    digest=begun.digest,
                    commit=begun.commit,
                    tree=begun.tree,
                    applied_at=begun.at,
                )
            )

    def _behind_commit(self, begun: Begun, changes: Iterable[Change]) -> None:
        running = self.running
        faults.point("journal.committed")
        running.generation, running.state.digest = begun.generation, begun.digest
        running.commit, running.tree, running.applied_at = begun.commit, begun.tree, begun.at
        self.notes.applied()
        for view in self._views:
            if view.first.generation and view.first != running.moment:
                view.note(running.moment, changes)
        self.unfinished = begun
        self._checkpoints.begin_if_due(self._database, self._index)

    def done(self) -> None:
        """All workers are through. May be lost: doing it again is harmless."""
        self.unfinished = None
        faults.point("journal.done")
        self._writer.finished()

    def follow(
        self,
        commit: str,
        tree: str,
        moved: Iterable[Entity],
        at: str,
        files: Mapping[str, Mapping[EntityKey, Mark]] | None = None,
        *,
        whole: bool = False,
        bulk: Bulk | None = None,
    ) -> None:
        """`commit` changes no entity, only where some are written. Raises `OSError`."""
        self._be_home()
        running = self.running
        with self._writer.attached(bulk), self._writing():
            if bulk is not None:
                self._writer.bulk_places(whole=whole)
            else:
                self._writer.files(files or {}, whole=whole)
                self._writer.places(moved)
            self._writer.header(replace(self._header(), commit=commit, tree=tree, applied_at=at))
        running.commit, running.tree, running.applied_at = commit, tree, at
        self.notes.applied()
        self._checkpoints.begin_if_due(self._database, self._index)

    async def rebuild(
        self,
        entities: Sequence[Entity],
        files: Mapping[str, Mapping[EntityKey, Mark]],
        instead: Recovered | None = None,
    ) -> str:
        """Writes the running state anew, which was damaged; returns what the old file is now.

        `entities` must have the digest that runs; `instead` is another state, which they are then,
        where nobody serves what ran. Nothing may be committed meanwhile. Raises `OSError`.
        """
        header = self._header()
        if instead is not None:
            header = replace(header, **asdict(instead), applied_at=None)
        with contextlib.ExitStack() as stack:
            try:
                fresh = stack.enter_context(aside(self.scratch))
                await asyncio.to_thread(fresh.fill, self._relate, header, entities, files)
            except OSError as error:
                return self._take_over(error, entities, files, instead)
            return self._take_over(fresh.path, entities, files, instead)

    def _take_over(
        self,
        fresh: Path | OSError,
        entities: Sequence[Entity],
        files: Mapping[str, Mapping[EntityKey, Mark]],
        instead: Recovered | None,
    ) -> str:
        """A fresh file goes to its place; where it cannot, a copy elsewhere stands in."""
        before, self.unfinished = self.running, None
        if instead is not None:
            self._run(before, instead)
        found = salvaged(self._database)
        self._connections.close()
        kept = FILE_NAME
        try:
            if isinstance(fresh, OSError):
                raise fresh
            kept = self._database.set_aside()
            rename_durably(fresh, self._database.path)
            self._reopen(before)
            if self._is_home:
                self.place.remember(self._home.files)
        except OSError as error:
            self.place.failed(error)
            self._stand_in(copy=False)
            self._reopen(before)
            self._fill(entities, files)
        self._restore(found.texts, found.history)
        return kept

    def _fill(
        self, entities: Sequence[Entity], files: Mapping[str, Mapping[EntityKey, Mark]]
    ) -> None:
        with self._writing():
            self._writer.files(files, whole=True)
            self._writer.everything(entities)
            self._writer.header(self._header())
        self._writer.finished()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """A write transaction, by whose end it is known whether the directory can be written."""
        try:
            with self._writer.transaction():
                yield
        except OSError as error:
            self.place.failed(error)
            raise
        if self._is_home and self.place.problem is not None:
            self.place.probe()

    # Where the database is.

    @property
    def _is_home(self) -> bool:
        return self._database is self._home

    def _be_home(self) -> bool:
        """See to it that a start would find what is written; return whether it had to be.

        Raises `OSError` when it cannot be: then a copy elsewhere stands in.
        """
        if self._is_home:
            moved = self.place.moved()
            if moved is None:
                return False
            log.error("the state directory is not what it was", reason=moved)
            self._return_at = 0.0
        now = time.monotonic()
        if now < self._return_at:
            raise OSError(errno.EAGAIN, self.place.problem or "the state directory is gone")
        self._return_at = now + _RETURN_EVERY_S
        try:
            self.place.take()
            self.materials.make()
            self._home.replace(self._reader)
        except (OSError, MachineError) as error:
            failure = error if isinstance(error, OSError) else OSError(errno.EBUSY, str(error))
            if self.place.problem is None:
                log.error("the state directory cannot be written", reason=failure.strerror)
            self.place.failed(failure)
            if self._is_home:
                self._move_to_stand_in()
            raise failure from None
        self._returned()
        return True

    def take_rebuilt(self) -> bool:
        """Whether the directory was written anew since the last call: others have files there."""
        rebuilt, self._was_rebuilt = self._was_rebuilt, False
        return rebuilt

    def _returned(self) -> None:
        running = self.running
        self._connections.close()
        self._database, self._standing = self._home, None
        self._reopen(running)
        with self._writing():
            self._writer.header(self._header())
        self.place.remember(self._home.files)
        self.place.probe()
        self._return_at = 0.0
        self.notes.add(f"{self._directory} was written anew")
        log.warning("the state directory is written anew", directory=self._directory)
        self._was_rebuilt = True

    def _stand_in(self, *, copy: bool = True) -> None:
        """From here on another file is read, as long as the directory cannot be written."""
        self._connections.close()
        standing = tempfile.TemporaryDirectory(prefix="kakehi-state-")
        self._database = Database(Path(standing.name))
        if copy:
            self._home.copy_files(Path(standing.name))
        self._standing = standing

    def _move_to_stand_in(self) -> None:
        """What is open is all that is left of it. Raises `OSError`."""
        running, standing = self.running, tempfile.TemporaryDirectory(prefix="kakehi-state-")
        database = Database(Path(standing.name))
        database.replace(self._reader)
        self._connections.close()
        self._database, self._standing = database, standing
        self._reopen(running)

    def _reopen(self, running: Running) -> None:
        """Open the file at its place, whatever it is, for what runs."""
        epoch = self.epoch
        with translated():
            self._connect()
        self.epoch = epoch
        now = self.running
        now.generation, now.state.digest = running.generation, running.state.digest
        now.commit, now.tree, now.applied_at = running.commit, running.tree, running.applied_at

    # Opening.

    def _connect(self) -> sqlite3.Connection:
        # What is entered first is closed last.
        self._index = self._connections.enter_context(closing(LogIndex(self._database)))
        self._snapshots = self._connections.enter_context(closing(Snapshots(self._database)))
        writing = self._connections.enter_context(closing(self._database.open()))
        self._writer = Writer(writing, self._relate)
        reader = self._connections.enter_context(closing(self._database.connect()))
        self._reader = reader
        self._read_running(reader)
        return reader

    def _start_somehow(self) -> None:
        try:
            self._start()
        except DamagedError as error:
            self._start_anew(error)
        except OSError as error:
            # The directory can be written: a flipped bit makes its database say otherwise.
            if error.errno != errno.EROFS or self.place.problem is not None:
                raise
            self._start_anew(DamagedError("the state database is damaged: it is read-only"))

    def _start(self) -> None:
        with translated():
            reader = self._connect()
            if self._language != LANGUAGE:
                self._upgrade()
            self.epoch += 1
            with self._writer.transaction():
                self._writer.header(self._header())
            self.unfinished = read_unfinished(reader, self._header(), self.running.state)

    def _start_anew(self, damage: DamagedError) -> None:
        found = salvaged(self._database)
        self._connections.close()
        aside = self._database.set_aside()
        self.notes.add(f"{damage}; kept as {aside}, starting from the repository")
        self._start()
        # No number is used for two things.
        self.running.generation = max(found.generation, self.running.generation)
        self.epoch = max(found.epoch + 1, self.epoch)
        self._restore(found.texts, found.history)

    def _read_running(self, reader: sqlite3.Connection) -> None:
        header = read_header(reader)
        if header is None:
            self._language = LANGUAGE
        else:
            self.epoch, self._language = header.epoch, header.language
        self.running = running_of(reader, header, self.damage)

    def _header(self) -> Header:
        running = self.running
        return Header(
            running.generation,
            running.state.digest,
            running.commit,
            running.tree,
            running.applied_at,
            self.epoch,
            LANGUAGE,
        )

    def _upgrade(self) -> None:
        """What another version wrote is brought into the form of this one: a generation of its own.

        Raises `MachineError` when that cannot be.
        """
        entities = list(self.running.state.values())
        completed = completed_all(entities, self._directory)
        if self._note_completed(entities, completed):
            # Whoever has not committed it is replaced.
            with self._writer.transaction():
                self._writer.everything(completed)
                self._writer.header(self._header())
            self._writer.finished()

    def _note_completed(self, entities: Sequence[Entity], completed: Sequence[Entity]) -> bool:
        """Count what was completed as a generation of its own; return whether anything was."""
        running = self.running
        digest, changed = int(running.state.digest, 16), 0
        for entity, now in zip(entities, completed, strict=True):
            if now is not entity:
                changed += 1
                digest += _digest_of(now) - _digest_of(entity)
        if not changed:
            return False
        self.former = (running.generation, running.state.digest)
        self.notes.add(
            f"another version wrote the state: {changed} of {len(entities)} entities are brought "
            "into form, and workers are replaced as their successors come into service"
        )
        running.generation += 1
        running.state.digest = f"{digest % _MODULUS:032x}"
        return True

    def _is_needed(self, digest: str) -> bool:
        return bool(self.running.state.related("content", digest))

    def _unlock(self) -> None:
        self._connections.close()
        if self._standing is not None:
            self._standing.cleanup()
            self._standing = None
        self.place.close()


def _digest_of(entity: Entity) -> int:
    return int.from_bytes(content_hash(*entity.key, canonical(entity.value)), "big")
