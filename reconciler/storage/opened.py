"""The database where it is: in the state directory, or elsewhere while that cannot be written.

A directory that was deleted or replaced is written anew from the files that are still open. While
it cannot be written, a copy elsewhere (`stand_in`) is read in its place. A start takes what it
finds: what another version wrote is brought into form, what is damaged is kept aside and begun
anew. Called by `reconciler.storage.store` alone.
"""

from __future__ import annotations

import contextlib
import errno
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from reconciler import log
from reconciler.errors import MachineError
from reconciler.presence import is_empty
from reconciler.storage.file.checkpoints import LogIndex
from reconciler.storage.file.database import Damage, DamagedError, Database, UnreadError, translated
from reconciler.storage.file.log_tail import GONE, lost_behind
from reconciler.storage.file.place import Place, file_size_limit
from reconciler.storage.file.stand_in import Elsewhere, made_elsewhere, remove_abandoned
from reconciler.storage.kept.contents import MaterialStore
from reconciler.storage.kept.history import HistoryRow
from reconciler.storage.notes import Notes
from reconciler.storage.reading.current import CurrentState, OpenDatabase
from reconciler.storage.reading.header import Header, read_header
from reconciler.storage.reading.running import Running, beyond_any_count, running_of
from reconciler.storage.reading.salvage import salvaged
from reconciler.storage.reading.snapshots import Snapshots
from reconciler.storage.reading.state import content_hash
from reconciler.storage.reading.upgrade import (
    LANGUAGE,
    completed_all,
    left_out,
    set_former_aside,
    unmarked,
)
from reconciler.storage.writing.anew import remove_leftover
from reconciler.storage.writing.begun import Begun, read_unfinished
from reconciler.storage.writing.writer import Relate, Writer
from schemas.entities.entity import Entity, EntityKey, Mark, canonical
from schemas.kinds.settings import Settings

_MODULUS = 1 << 128
# What of the running state was left out, and by which language, by the digest of what is left.
_LEFT_OUT = "left_out"
# Of entities that lose something so many are named.
_TOLD_MAX = 5
# What could not be written anew costs the whole state each time.
_RETURN_EVERY_S = 2.0


class Opened:
    """Holds the lock of the state directory until `close`."""

    def __init__(self, directory: Path, relate: Relate) -> None:
        """Raises `MachineError`, not for what can be begun anew."""
        self._directory = directory
        self._relate = relate
        self.place = Place(directory)
        self._open, self._current = OpenDatabase(self.place), CurrentState()
        self._home = self._open.home
        self.damage = Damage(self._open.refuse_silent)
        self.notes = Notes()
        self.materials = MaterialStore(directory, self._current.needs, self.place.ask)
        self.epoch = 0
        # A transaction behind its commit point that may not have reached every worker.
        self.unfinished: Begun | None = None
        # (generation, digest) of workers that hold the state in the form of another version.
        self.former: tuple[int, str] | None = None
        self._left_out = ""
        # Those that were read last: the daemon needs some of them when nothing can be read.
        self.settings = Settings()
        # Beside the state other parts keep files there, which are to be written anew as well.
        self.was_rebuilt = False
        self._return_at = self._probe_at = 0.0
        self._is_loss_told = False
        self.connections = contextlib.ExitStack()
        self._standing: Elsewhere | None = None
        self.is_home_unread = False
        """What others keep in it, and the history, is not in what stands in for it."""
        remove_abandoned()
        try:
            try:
                self.place.ask()
                for note in (*set_former_aside(directory), *self.place.clear()):
                    self.notes.add(note)
                self._look_for_log()
                self._start_somehow()
                remove_leftover(directory)
                self.remember()
            except OSError as error:
                self.start_elsewhere(error)
        except OSError as error:
            self.close()
            reason, limit = error.strerror or error, file_size_limit()
            reason = f"{reason}; {limit}" if limit else reason
            raise MachineError(f"cannot use the state directory {directory}: {reason}") from error
        except MachineError:
            self.close()
            raise

    @property
    def database(self) -> Database:
        """The one that is open."""
        return self._open.database

    @property
    def running(self) -> Running:
        """What runs."""
        return self._current.running

    def refuse_silent(self) -> None:
        """Raises `OSError` where what would be read does not answer."""
        self._open.refuse_silent()

    def look(self) -> None:
        """Be home, if that can be, and find out whether the directory can be written again.

        Damage that no reader meets is noted.
        """
        with contextlib.suppress(OSError):
            self.be_home()
            if self.place.problem is not None and time.monotonic() > self._probe_at:
                self._probe_at = time.monotonic() + _RETURN_EVERY_S
                self._probe()
        with contextlib.suppress(DamagedError, OSError), self.damage.noted():
            self.refuse_silent()
            self.database.check_head()

    def _probe(self) -> None:
        self.place.probe()
        if self.is_home and self.place.problem is None:
            # Others may have met the same, and have something to write.
            self.was_rebuilt = True

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """A write transaction, by whose end it is known whether the directory can be written.

        Whoever writes need not know of damage: to him the disk is full, and the loop sees to it.
        """
        self.refuse_silent()
        try:
            with self.writer.transaction():
                yield
        except DamagedError as error:
            self.damage.note(error)
            failure = OSError(errno.EIO, str(error))
            self.place.failed(failure)
            raise failure from error
        except OSError as error:
            self.place.failed(error)
            raise
        if self.is_home and self.place.problem is not None:
            self._probe()

    def restore(self, texts: Mapping[str, str], history: Iterable[HistoryRow]) -> None:
        """Write what other parts keep; the history alone is not worth a sync. Raises `OSError`."""
        sync = contextlib.nullcontext() if texts else self.writer.unsynced()
        with sync, self.writing():
            for name, text in texts.items():
                self.writer.keep(name, text)
            for row in history:
                self.writer.record(row)

    def remember(self) -> None:
        """What lies in the directory now is what a start would find."""
        if self.is_home:
            self.place.remember(self._home.files)
            self.place.mark(is_open=not is_empty(self._home.log))

    # Where the database is.

    @property
    def is_home(self) -> bool:
        """Whether it is the state directory's own that is open."""
        return self._open.is_home

    def be_home(self) -> bool:
        """See to it that a start would find what is written; return whether it had to be.

        Raises `OSError` when it cannot be: then a copy elsewhere stands in.
        """
        if self.is_home:
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
            self.materials.write_home()
            self._take_in()
            self._home.replace(self._reader)
            self._switch(self._home)
        except (OSError, MachineError) as error:
            failure = error if isinstance(error, OSError) else OSError(errno.EBUSY, str(error))
            if self.place.problem is None:
                log.error("the state directory cannot be written", reason=failure.strerror)
            self.place.failed(failure)
            if self.is_home:
                self._move_to_stand_in()
            raise failure from None
        self._returned()
        return True

    def _returned(self) -> None:
        self.remember()
        self.materials.be_home()
        self._stand_in_by(None)
        self.place.probe()
        self._return_at = 0.0
        self.notes.add(f"{self._directory} was written anew")
        log.warning("the state directory is written anew", directory=self._directory)
        self.was_rebuilt = True

    def _take_in(self) -> None:
        """What the directory's own file has, where it could not be read yet. Raises `OSError`."""
        if not self.is_home_unread:
            return
        found = salvaged(self._home)
        if not self._home.fits():
            self._home.set_aside()
        known = set(found.history)
        since = [row for _, row in self.running.history.after(0, -1) if row not in known]
        self.epoch = max(found.epoch + 1, self.epoch)
        with self.writing():
            self.writer.history((*found.history, *since))
            for name, text in found.texts.items():
                if self.running.state.kept(name) is None:
                    self.writer.keep(name, text)
        self.is_home_unread = False
        told = f"{self._directory} could not be read at the start; its history and drains are back"
        self.notes.add(told)
        log.warning(told)

    def stand_in(self, *, copy: bool = True) -> None:
        """From here on another file is read, as long as the directory cannot be written."""
        self.connections.close()
        is_silent = self.place.is_silent
        with made_elsewhere(() if is_silent else self._home.files) as standing:
            if copy and (is_silent or not self._home.copy_files(standing.path)):
                self.is_home_unread = True
            self.materials.stand_in(standing.path)
        self._open.database = Database(standing.path)
        self._stand_in_by(standing)

    def _move_to_stand_in(self) -> None:
        """What is open is all that is left of it. Raises `OSError`."""
        with made_elsewhere(self._home.files) as standing:
            database = Database(standing.path)
            database.replace(self._reader)
            self._switch(database)
        self._stand_in_by(standing)
        self.materials.stand_in(standing.path)

    def _switch(self, database: Database) -> None:
        """Read another file, which has what runs; where it cannot be, all is as before.

        Raises `OSError`, `DamagedError`.
        """
        parts = (self, self._open, self._current)
        before, guard = [vars(each).copy() for each in parts], database.guard
        self._open.database, self.connections = database, contextlib.ExitStack()
        try:
            self.reopen(self.running)
            with self.writing():
                self.writer.header(self.header())
        except BaseException:
            self.connections.close()
            for part, values in zip(parts, before, strict=True):
                vars(part).update(values)
            database.guard = guard
            raise
        # What was open until now is closed last: it is all that there was.
        before[0]["connections"].close()

    def _stand_in_by(self, standing: Elsewhere | None) -> None:
        former, self._standing = self._standing, standing
        if former is not None:
            former.remove()

    def reopen(self, running: Running) -> None:
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
        self.index = self.connections.enter_context(closing(LogIndex(self.database)))
        self.snapshots = self.connections.enter_context(closing(Snapshots(self.database)))
        writing = self.connections.enter_context(closing(self.database.open(self._look_at_log)))
        self.writer = Writer(writing, self._relate)
        reader = self.connections.enter_context(closing(self.database.connect()))
        self._reader = reader
        self._read_running(reader)
        return reader

    def _look_for_log(self) -> None:
        """It is there whenever a process was killed that had written something."""
        is_new = is_empty(self._home.path)
        if self.place.was_left_open and not is_new and is_empty(self._home.log):
            self.notes.add(GONE)

    def _look_at_log(self) -> None:
        """What SQLite does not read of it is told, once."""
        frames = self.index.frames
        lost = None if frames is None else lost_behind(self.database.log, frames)
        if lost is not None and not self._is_loss_told:
            self._is_loss_told = True
            self.notes.add(lost)

    def start_elsewhere(self, error: OSError) -> None:
        """Begin with a copy, or with nothing where there can be none. Raises `OSError`."""
        self.place.failed(error)
        self.stand_in()
        self._start_somehow()
        if self.is_home_unread and self.running.is_empty:
            self._count_on(beyond_any_count(), self.epoch)

    def _start_somehow(self) -> None:
        try:
            try:
                self._start()
            except UnreadError:
                self.connections.close()
                self.database.read_through()
                # It may have been the disk until now.
                self._start()
        except DamagedError as error:
            self.start_anew(error)
        except OSError as error:
            # The directory can be written: a flipped bit makes its database say otherwise.
            if error.errno != errno.EROFS or self.place.problem is not None:
                raise
            self.start_anew(DamagedError("the state database is damaged: it is read-only"))

    def _start(self) -> None:
        with translated():
            reader = self._connect()
            if self._language != LANGUAGE:
                self._upgrade()
            elif self.running.commit is None:
                self._tell_left_out()
            self.epoch += 1
            with self.writer.transaction():
                self.writer.header(self.header())
            self.unfinished = read_unfinished(reader, self.header(), self.running.state)
            # Nothing starts without them.
            self.settings = self.running.state.settings

    def start_anew(self, damage: DamagedError) -> None:
        """Begin with nothing. Raises `OSError`, also where it is the disk that does not read."""
        found = salvaged(self.database)
        if isinstance(damage, UnreadError):
            damage = damage.confirmed()
        self.connections.close()
        aside = self.database.set_aside()
        # Of a copy: home is damaged as well.
        self.is_home_unread = self.is_home_unread or not self.is_home
        self.notes.add(f"{damage}; kept as {aside}, starting from the repository")
        self._start()
        self._count_on(found.generation, found.epoch + 1)
        self.restore(found.texts, found.history)
        # Of the file that is set aside.
        self.damage.take()

    def _count_on(self, generation: int, epoch: int) -> None:
        """No number is used for two things. Raises `OSError`."""
        self.running.generation = max(generation, self.running.generation)
        self.epoch = max(epoch, self.epoch)
        # Whoever reads a snapshot finds the same.
        with self.writing():
            self.writer.header(self.header())

    def _read_running(self, reader: sqlite3.Connection) -> None:
        header = read_header(reader)
        if header is None:
            self._language = LANGUAGE
        else:
            self.epoch, self._language = header.epoch, header.language
        self._current.running = running_of(reader, header, self.damage)

    def header(self) -> Header:
        """The header row of what runs."""
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
        """What another version wrote is brought into the form of this: a generation of its own."""
        entities = list(self.running.state.values())
        completed = completed_all(entities)
        # Whoever has not committed what was completed is replaced.
        self.former = self.note_completed(entities, completed)
        # The other version may have related entities otherwise, even where it had the same values.
        with self.writer.transaction():
            self.writer.everything([each for each in completed if each is not None])
            self.writer.files(self._unmarked(entities), whole=False)
            self.writer.header(self.header())
            self.keep_left_out()
        self.writer.finished()

    def _unmarked(self, entities: Sequence[Entity]) -> dict[str, dict[EntityKey, Mark]]:
        """The files of all that was left something out of, to be read anew."""
        lost = {entity.key: entity.provenance.file for entity in entities if left_out(entity)}
        marks = {path: self.running.state.marks(path) for path in set(lost.values())}
        return {path: unmarked(defined, lost) for path, defined in marks.items()}

    def note_completed(
        self, entities: Sequence[Entity], completed: Sequence[Entity | None]
    ) -> tuple[int, str] | None:
        """Count what was completed as a generation of its own; return which was before it.

        By number and digest; None where nothing was completed.
        """
        running, self._left_out = self.running, ""
        digest, changed = int(running.state.digest, 16), 0
        for entity, now in zip(entities, completed, strict=True):
            if now is not entity:
                changed += 1
                digest += (_digest_of(now) if now is not None else 0) - _digest_of(entity)
        if not changed:
            return None
        former = (running.generation, running.state.digest)
        lost = {entity.key: names for entity in entities if (names := left_out(entity))}
        workers = (
            "workers that serve go on as they are until a commit is applied"
            if lost
            else "workers are replaced as their successors come into service"
        )
        self.notes.add(
            f"another version wrote the state: {changed} of {len(entities)} entities are brought "
            f"into form, and {workers}"
        )
        if lost:
            # What runs is that of no commit: the newest one is looked at as if it were the first.
            running.commit = running.tree = None
            told = [f"{key} ({', '.join(names)})" for key, names in list(lost.items())[:_TOLD_MAX]]
            more = f", and {len(lost) - _TOLD_MAX} more" if len(lost) > _TOLD_MAX else ""
            self._left_out = f"{', '.join(told)}{more}"
            self.notes.add(
                f"what this version does not know was left out: {self._left_out}; the newest "
                "commit is compared anew with what is served"
            )
        running.generation += 1
        running.state.digest = f"{digest % _MODULUS:032x}"
        return former

    @property
    def has_left_out(self) -> bool:
        """Whether what runs is what this version could read of more, which workers may hold."""
        return bool(self._left_out)

    def keep_left_out(self) -> None:
        """Have the next start know of it as well: what lies there is in the form of this version.

        Within a transaction.
        """
        if self._left_out:
            of = f"{self.running.state.digest} {LANGUAGE}"
            self.writer.keep(_LEFT_OUT, f"{of}\n{self._left_out}")

    def _tell_left_out(self) -> None:
        with contextlib.suppress(DamagedError):
            of, _, told = (self.running.state.kept(_LEFT_OUT) or "").partition("\n")
            digest, _, language = of.partition(" ")
            if not told or digest != self.running.state.digest:
                return
            # A daemon of this version may have been killed before it had asked the workers.
            is_ours = language == LANGUAGE
            self._left_out = told if is_ours else ""
            version = "this version does" if is_ours else "another version did"
            self.notes.add(f"what {version} not know was left out: {told}", until_applied=True)

    def close(self) -> None:
        """Give the lock back."""
        self.place.mark(is_open=False)
        self.connections.close()
        self._stand_in_by(None)
        self.place.close()


def _digest_of(entity: Entity) -> int:
    return int.from_bytes(content_hash(*entity.key, canonical(entity.value)), "big")
