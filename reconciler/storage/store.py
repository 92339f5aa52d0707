"""The state directory: what runs, made durable, at a cost that follows the change.

Journal records, each with a `seq` that grows by one:
  start {epoch, language}                    a daemon began, of a version with this language
  begin {generation, commit, tree, puts, removes, digest, …}   a transaction may follow
  commit {generation}                        the commit point
  done {generation}                          nothing is left to do
  follow {commit, tree, moved}               a commit that changes no entity became the applied one
A begin without a commit is an abort. The snapshot is rewritten only when the journal has grown
larger than it, so that its cost is a constant share of what was journalled.
"""

from __future__ import annotations

import contextlib
import errno
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reconciler import faults, log
from reconciler.errors import MachineError
from reconciler.storage import snapshot
from reconciler.storage.contents import MaterialStore
from reconciler.storage.journal import Journal, Record, read_records
from reconciler.storage.place import Place
from reconciler.storage.upgrade import LANGUAGE, upgraded
from schemas.change import Change
from schemas.entity import Entity, EntityKey
from schemas.material import materials_of
from schemas.state import State

# Below this a journal is read in milliseconds and compacting it would only cost.
JOURNAL_BYTES_MIN = 4 * 1024 * 1024
# What could not be written anew costs the whole state each time.
_REBUILD_EVERY_S = 2.0
_NOTES_MAX = 8


@dataclass(slots=True)
class Running:
    """The running state: what every worker holds, or is being brought to."""

    state: State = field(default_factory=State)
    generation: int = 0
    commit: str | None = None
    tree: str | None = None
    applied_at: str | None = None


@dataclass(frozen=True, slots=True)
class Begun:
    """A transaction as its begin record has it."""

    generation: int
    base_generation: int
    base_digest: str
    digest: str
    commit: str
    tree: str
    at: str
    puts: tuple[Entity, ...]
    removes: tuple[EntityKey, ...]
    moved: tuple[Entity, ...]

    def changes(self, state: State) -> list[Change]:
        """What it does to the state that it was begun on."""
        changes = [_put(state, entity) for entity in (*self.puts, *self.moved)]
        changes += [
            Change("remove", key, state[key], None, ()) for key in self.removes if key in state
        ]
        return changes


class Store:
    """The open state directory. Holds its lock until `close`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.place = Place(directory)
        # Beside the state other parts keep files there, which are to be written anew as well.
        self.rebuilt: Callable[[], None] = lambda: None
        self._rebuild_at = self._probe_at = 0.0
        self.running = Running()
        self.epoch = 0
        self.notes: list[str] = []
        # A transaction behind its commit point that may not have reached every worker.
        self.unfinished: Begun | None = None
        self._open: Begun | None = None
        # (generation, digest) of workers that hold the state in the form of another version.
        self.former: tuple[int, str] | None = None
        self._language: str | None = None
        # The snapshot that the journal builds on could not be read.
        self._lost = False
        self._seq = 0
        self._snapshot_path = directory / "snapshot"
        self._snapshot_bytes = 0
        # None while it cannot be written, or is not what a start would find.
        self._journal: Journal | None = None
        try:
            self._read_snapshot()
            self._replay(self._open_journal())
            if self._language != LANGUAGE:
                self._upgrade()
            self.epoch += 1
            self.materials = MaterialStore(directory, self.running.state.entities.values())
            with contextlib.suppress(OSError):
                self._append({"t": "start", "epoch": self.epoch, "language": LANGUAGE})
        except MachineError:
            self.close()
            raise

    def served_content(self, key: EntityKey, path: str) -> bytes | None:
        """The content of an entity's file as it is served; None when it has none of this path."""
        entity = self.running.state.get(key)
        for material in materials_of(entity) if entity else ():
            if material.path == path:
                with contextlib.suppress(OSError):
                    return (self.materials.directory / material.sha256).read_bytes()
        return None

    def close(self) -> None:
        """Gives the lock back."""
        if self._journal is not None:
            self._journal.close()
        self.place.close()

    def look(self) -> None:
        """Now and then: what was deleted, replaced or could not be written is written anew."""
        with contextlib.suppress(OSError):
            self._take_journal()
            if self.place.problem is not None and time.monotonic() > self._probe_at:
                self._probe_at = time.monotonic() + _REBUILD_EVERY_S
                self.place.probe()

    # One transaction.

    def begin(self, begun: Begun) -> None:
        """The begin record. Raises `OSError` when it is not durable."""
        faults.point("journal.begin")
        record = self._begin_record(begun)
        try:
            self._append(record)
        except OSError:
            # What cannot be written is better served than nothing; workers can tell it.
            if len(self.running.state) > 0:
                raise
            self._lose_journal()
        self._open = begun

    @staticmethod
    def _begin_record(begun: Begun) -> Record:
        return {
            "t": "begin",
            "generation": begun.generation,
            "base_generation": begun.base_generation,
            "base_digest": begun.base_digest,
            "digest": begun.digest,
            "commit": begun.commit,
            "tree": begun.tree,
            "at": begun.at,
            "puts": [snapshot.encode_entity(entity) for entity in begun.puts],
            "removes": [list(key) for key in begun.removes],
            "moved": [snapshot.encode_entity(entity) for entity in begun.moved],
        }

    def commit(self) -> None:
        """The commit point. Raises `OSError` when it was not passed."""
        assert self._open is not None, "commit without begin"
        faults.point("journal.commit")
        if self._journal is None and len(self.running.state) == 0:
            self._enter(self._open)
            return
        if self._journal is None or self.place.moved(self._journal.path, self._journal.file):
            # What was begun is not there any more.
            self._take_journal()
            raise OSError(errno.ESTALE, "the state directory was replaced, and is written anew")
        self._append({"t": "commit", "generation": self._open.generation})
        self._enter(self._open)

    def done(self) -> None:
        """All workers are through. May be lost: doing it again is harmless."""
        self.unfinished = None
        faults.point("journal.done")
        self._append({"t": "done", "generation": self.running.generation}, durable=False)

    def follow(self, commit: str, tree: str, moved: Iterable[Entity], at: str) -> None:
        """`commit` changes no entity, only where some are written."""
        moved = tuple(moved)
        stored = [snapshot.encode_entity(entity) for entity in moved]
        self._append({"t": "follow", "commit": commit, "tree": tree, "moved": stored, "at": at})
        self._follow(commit, tree, moved, at)

    def outrank(self, epoch: int) -> None:
        """Workers know a later daemon than these files: theirs were lost, we come after it."""
        self.epoch = max(self.epoch, epoch + 1)
        with contextlib.suppress(OSError):
            self._append({"t": "start", "epoch": self.epoch, "language": LANGUAGE})

    def recover(self, running: Running) -> None:
        """What workers serve is the state: these files had lost it.

        Raises `MachineError` when it is of another version and cannot be completed.
        """
        before = self.running
        self.running, self.unfinished, self.former = running, None, None
        try:
            self._upgrade()
        except MachineError:
            self.running = before
            raise
        self.materials.uses(self.running.state.entities.values())
        self._write_whole()

    def compact_if_due(self) -> bool:
        """Writes a snapshot when the journal has outgrown the last one."""
        size = self._journal.size if self._journal is not None else 0
        if size < max(JOURNAL_BYTES_MIN, self._snapshot_bytes):
            return False
        if self.unfinished is not None:
            return False
        self.compact()
        return True

    def compact(self) -> None:
        """A snapshot of the running state, and an empty journal."""
        running = self.running
        header = snapshot.Header(
            seq=self._seq,
            epoch=self.epoch,
            generation=running.generation,
            commit=running.commit,
            tree=running.tree,
            applied_at=running.applied_at,
            language=LANGUAGE,
        )
        try:
            self._snapshot_bytes = snapshot.write(self._snapshot_path, header, running.state)
            faults.point("journal.restart")
            if self._journal is not None:
                self._journal.restart([])
        except OSError as error:
            self.place.failed(error)
            raise

    # Reading back.

    def _read_snapshot(self) -> None:
        try:
            found = snapshot.read(self._snapshot_path)
        except MachineError as error:
            damaged = self._snapshot_path.with_suffix(".damaged")
            with contextlib.suppress(OSError):
                self._snapshot_path.rename(damaged)
            self._lost = True
            self.notes.append(f"{error}; kept as {damaged.name}, starting from the repository")
            return
        if found is None:
            return
        header, state = found
        self._seq, self.epoch, self._language = header.seq, header.epoch, header.language
        with contextlib.suppress(OSError):
            self._snapshot_bytes = self._snapshot_path.stat().st_size
        self.running = Running(
            state, header.generation, header.commit, header.tree, header.applied_at
        )

    def _open_journal(self) -> list[Record]:
        """Its records, if need be without a way to add to them."""
        path = self._directory / "journal"
        try:
            self._journal = Journal(path)
        except OSError as error:
            self.place.failed(error)
            return read_records(path)
        if self._journal.truncated_bytes:
            self.notes.append(f"dropped {self._journal.truncated_bytes} torn bytes of the journal")
        records, self._journal.records = self._journal.records, []
        return records

    def _replay(self, records: list[Record]) -> None:
        for record in records:
            # What the snapshot includes is still here when a crash came before the restart.
            if record["seq"] > self._seq:
                self._seq = record["seq"]
                self._replay_one(record)
        self._open = None

    def _replay_one(self, record: Record) -> None:
        match record["t"]:
            case "start":
                self.epoch = max(self.epoch, record["epoch"])
                self._language = record.get("language")
            case "begin":
                self._open = _decode_begin(record)
            case "commit" if self._open and self._open.generation == record["generation"]:
                if self.running.state.digest == self._open.base_digest:
                    self._enter(self._open)
                else:
                    # Its number is not used again, though what it made is not known.
                    self.running = Running(generation=record["generation"])
            case "done":
                self.unfinished = None
            case "follow" if not self._lost:
                moved = tuple(snapshot.decode_entity(each) for each in record["moved"])
                self._follow(record["commit"], record["tree"], moved, record["at"])

    def _upgrade(self) -> None:
        """What another version wrote is brought into the form of this one: a generation of its own.

        Raises `MachineError` when that cannot be.
        """
        running = self.running
        try:
            entities = [upgraded(entity) for entity in running.state.entities.values()]
        except (KeyError, ValueError) as error:
            raise MachineError(
                f"the state in {self._directory} is of another version, and cannot be completed: "
                f"{error}; move the directory away to start from the repository"
            ) from error
        state = State(entities)
        if state.digest == running.state.digest:
            return
        self.former = (running.generation, running.state.digest)
        changed = sum(running.state[entity.key] is not entity for entity in entities)
        self.notes.append(
            f"another version wrote the state: {changed} of {len(entities)} entities are completed "
            "by defaults, and workers are replaced as their successors come into service"
        )
        running.state, running.generation = state, running.generation + 1
        # Whoever has not committed it is replaced.
        self.unfinished = None
        self._write_whole()

    def _enter(self, begun: Begun) -> None:
        running = self.running
        running.state.apply(begun.changes(running.state))
        running.generation = begun.generation
        running.commit, running.tree, running.applied_at = begun.commit, begun.tree, begun.at
        self.unfinished, self._open = begun, None

    def _follow(self, commit: str, tree: str, moved: tuple[Entity, ...], at: str) -> None:
        running = self.running
        running.state.apply(_put(running.state, entity) for entity in moved)
        running.commit, running.tree, running.applied_at = commit, tree, at

    def _append(self, record: Record, *, durable: bool = True) -> None:
        journal = self._take_journal()
        try:
            journal.append({"seq": self._seq + 1, **record}, durable=durable)
        except OSError as error:
            self.place.failed(error)
            raise
        if self.place.problem is not None and record["t"] != "start":
            self.place.probe()
        self._seq += 1

    def _write_whole(self) -> None:
        """The running state as it is; a journal that does not lead there takes no record."""
        try:
            self.compact()
        except OSError:
            self._lose_journal()

    def _lose_journal(self) -> None:
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    def _take_journal(self) -> Journal:
        """The journal that the next start will find, made anew if need be. Raises `OSError`."""
        journal = self._journal
        if journal is not None:
            moved = self.place.moved(journal.path, journal.file)
            if moved is None:
                return journal
            log.error("the state directory is not what it was", reason=moved)
            self._lose_journal()
        now = time.monotonic()
        if now < self._rebuild_at:
            raise OSError(errno.EAGAIN, self.place.problem or "the state directory is gone")
        self._rebuild_at = now + _REBUILD_EVERY_S
        try:
            return self._rebuild()
        except (OSError, MachineError) as error:
            failure = error if isinstance(error, OSError) else OSError(errno.EBUSY, str(error))
            if self.place.problem is None:
                log.error("the state directory cannot be written", reason=failure.strerror)
            self.place.failed(failure)
            raise failure from None

    def _rebuild(self) -> Journal:
        self.place.take()
        self.materials.make()
        journal = Journal(self._directory / "journal")
        try:
            self._journal = journal
            # What another one left there is older, or not ours.
            self._seq = max([self._seq, *(record["seq"] for record in journal.records)])
            journal.records = []
            self.compact()
        except OSError:
            self._lose_journal()
            raise
        self.place.probe()
        self._rebuild_at = 0.0
        self.notes = [*self.notes[-_NOTES_MAX:], f"{self._directory} was written anew"]
        log.warning("the state directory is written anew", directory=self._directory)
        self.rebuilt()
        return journal


def _put(state: State, entity: Entity) -> Change:
    before = state.get(entity.key)
    return Change("update" if before else "add", entity.key, before, entity, ())


def _decode_begin(record: dict[str, Any]) -> Begun:
    return Begun(
        generation=record["generation"],
        base_generation=record["base_generation"],
        base_digest=record["base_digest"],
        digest=record["digest"],
        commit=record["commit"],
        tree=record["tree"],
        at=record["at"],
        puts=tuple(snapshot.decode_entity(each) for each in record["puts"]),
        removes=tuple(EntityKey(*each) for each in record["removes"]),
        moved=tuple(snapshot.decode_entity(each) for each in record["moved"]),
    )
