"""The state directory: what runs, made durable, at a cost that follows the change.

One write transaction of the database is the commit record and the commit point. It holds all that a
generation changes: entities, their relations, what the files define, and the header row. Before it
nothing of a transaction is on the disk (presumed abort), so that nothing is held open while workers
prepare. Behind it the row `unfinished` says what workers may still be at, until `done`.

Where the database is, and what a start makes of what it finds, is the business of `opened`. While
the directory cannot be written commits wait, unless nothing would be served without them.

Its disk may stand still in the midst of a write, so a thread writes, in the order in which it was
asked: `commit`, `follow` and `done` wait for it, and what other parts have to say is put off to it.

Called by `reconciler.transaction` (commit, done), `reconciler.loop` (follow), and by every
part that asks what runs (`running`).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from reconciler import faults, log
from reconciler.durable import rename_durably
from reconciler.own_threads import OwnThread
from reconciler.stalling import PATIENCE_S
from reconciler.storage.file.checkpoints import Checkpoints
from reconciler.storage.file.database import (
    FILE_NAME,
    DamagedError,
    UnreadError,
    end_after,
    translated,
)
from reconciler.storage.kept.history import HistoryRow
from reconciler.storage.opened import Opened
from reconciler.storage.reading.header import Recovered
from reconciler.storage.reading.running import Running, read_running
from reconciler.storage.reading.salvage import salvaged
from reconciler.storage.reading.since import StateSince, changes_of
from reconciler.storage.reading.state import Whole
from reconciler.storage.reading.upgrade import completed_all, left_out, unmarked
from reconciler.storage.writing.anew import aside
from reconciler.storage.writing.begun import Begun
from reconciler.storage.writing.bulk import Bulk
from reconciler.storage.writing.writer import Relate
from schemas.changes.change import Change
from schemas.entities.entity import Entity, EntityKey, Mark
from schemas.kinds.settings import Settings

# The longest that takes its time is a worker that is brought up with a very large state.
SNAPSHOT_S_MAX = 600.0
Result = TypeVar("Result")
# A file of some hundred entities; what its rows take holds up the loop.
_REHEARSED_CHARS_MAX = 16 * 1024


def unrelated(_: Entity) -> Iterable[tuple[str, str, str]]:
    """For whoever asks for no relations."""
    return ()


def _heard(ended: asyncio.Future[Any]) -> None:
    """Whoever waited may have been cancelled, and asks no more for what went wrong."""
    if not ended.cancelled():
        ended.exception()


class Store:
    """The open state directory. Holds its lock until `close`."""

    def __init__(self, directory: Path, relate: Relate = unrelated) -> None:
        self._relate = relate
        self._opened = opened = Opened(directory, relate)
        self.place, self.notes, self.materials = opened.place, opened.notes, opened.materials
        self.damage = opened.damage
        """What any reader has come upon; the loop sees to it."""
        # A transaction behind its commit point that may not have reached every worker.
        self.unfinished = opened.unfinished
        # (generation, digest) of workers that hold the state in the form of another version.
        self.former = opened.former
        self._newcomers: list[StateSince] = []
        self._thread = OwnThread("state")
        self._looks = OwnThread("state directory")
        self._is_apart = False
        # So many writes the thread has been asked for.
        self._writing = 0
        # What others have to write, behind what the thread is at.
        self._put_off: dict[str, str] = {}
        self._unrecorded: list[tuple[HistoryRow, Callable[[], None]]] = []
        self._restoring: asyncio.Task[None] | None = None
        self._checkpoints = Checkpoints()

    @property
    def running(self) -> Running:
        """What runs, as the database has it that is open now."""
        return self._opened.running

    @property
    def may_be_in_part(self) -> bool:
        """Whether another version has left out some of what runs, which this one may know."""
        running = self.running
        return not running.is_empty and running.commit is None and not self._opened.has_left_out

    @property
    def is_home_unread(self) -> bool:
        """Whether the directory has a database that could not be read yet."""
        return self._opened.is_home_unread

    @property
    def epoch(self) -> int:
        """The number of this daemon, by which workers know the latest."""
        return self._opened.epoch

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[Running]:
        """One moment of what runs, by a connection of its own: for any thread, one at a time.

        Commit, tree and entities are those of the same moment, whatever is committed meanwhile;
        reading them raises `OSError` when it goes on for too long, since it holds up checkpoints.
        """
        self._opened.refuse_silent()
        with translated(), self._opened.snapshots.begin() as connection:
            end_after(connection, SNAPSHOT_S_MAX)
            yield read_running(connection, self.damage)

    @contextlib.contextmanager
    def since(self) -> Iterator[StateSince]:
        """The running state as it is now, for somebody who takes his time."""
        self.look()
        with self.snapshot() as seen, self.materials.kept():
            # A thread may have committed what the loop has not been told of yet.
            now = seen.moment if self._writing else self.running.moment
            since = StateSince(now, Whole(seen.state))
            self._newcomers.append(since)
            try:
                yield since
            finally:
                self._newcomers.remove(since)

    @property
    def settings(self) -> Settings:
        """The settings that run; those of before while the database is damaged, which is noted."""
        with contextlib.suppress(DamagedError, OSError):
            self._opened.settings = self.running.state.settings
        return self._opened.settings

    def start_anew(self, found: DamagedError | OSError) -> None:
        """Begin with nothing: what a start needs to know cannot be read. Raises `OSError`.

        What runs comes from the workers or from the repository then. Where it is the disk that does
        not read, what is there is left alone.
        """
        try:
            if isinstance(found, OSError):
                raise found
            self._opened.start_anew(found)
        except OSError as error:
            self._opened.start_elsewhere(error)
        self.unfinished, self.former = self._opened.unfinished, self._opened.former

    def write_apart(self) -> None:
        """From here on a loop runs, and nothing of it waits for what other parts have to say."""
        self._is_apart = True

    async def settled(self) -> None:
        """Return when what others have put off is written, or fails, or hangs: that is told."""
        if self._restoring is not None:
            await asyncio.wait([self._restoring], timeout=PATIENCE_S)

    def close(self) -> None:
        """Gives the lock back."""
        if self._writing:
            # The disk stands still: what has the files open ends with the process.
            return
        self._checkpoints.finish()
        self._opened.close()

    async def asked(self) -> None:
        """Have a thread see whether the directory answers, so that nobody waits on the loop.

        What does not is told to whoever reads then, or writes.
        """
        # Where the system has no thread to give, he asks himself.
        with contextlib.suppress(RuntimeError):
            await self._looks.run(self.place.look_ahead)

    async def obstacle(self) -> str | None:
        """Why a commit could not be recorded now; None where that is not known to be so."""
        if self.running.is_empty:
            # What cannot be recorded is better served than nothing.
            return None
        with contextlib.suppress(RuntimeError):
            return await self._looks.run(self.place.obstacle)
        return self.place.problem

    def look(self) -> None:
        """Now and then: what was deleted, replaced or could not be written is written anew."""
        if not self._writing:
            self._opened.look()

    async def is_well(self) -> bool:
        """Whether the database reads well and fits, whatever somebody has met.

        Raises `OSError` where the disk does not give it back.
        """
        database = self._opened.database
        for _ in range(2):
            await asyncio.to_thread(database.read_through)
            if await asyncio.to_thread(database.fits):
                return True
        return False

    def take_rebuilt(self) -> bool:
        """Whether the directory was written anew since the last call: others have files there."""
        rebuilt, self._opened.was_rebuilt = self._opened.was_rebuilt, False
        return rebuilt

    @property
    def scratch(self) -> Path:
        """A directory beside the state, for files that need not outlive it."""
        return self._opened.database.path.parent

    def keep(self, name: str, text: str) -> None:
        """Remembers a text of another part over restarts. Raises `OSError`.

        Where the thread writes it, it is durable when `settled` returns, or `place` has a problem.
        """
        if self._is_apart or self._writing:
            self._opened.refuse_silent()
            self._put_off[name] = text
            self._restore()
            return
        with self._opened.writing():
            self._opened.writer.keep(name, text)

    def kept(self, name: str) -> str | None:
        """The text that was kept under a name. Raises `DamagedError`, `OSError`."""
        put_off = self._put_off.get(name)
        if put_off is not None:
            return put_off
        try:
            text = self.running.state.kept(name)
        except (OSError, UnreadError) as error:
            # Whoever asks is told once that it can be again.
            self.place.failed(error)
            raise
        if text is None and self._opened.is_home_unread:
            # Nobody is to take for lost what only cannot be read now.
            raise OSError(errno.EIO, self.place.problem or "the state directory cannot be read")
        return text

    def record(self, row: HistoryRow, lost: Callable[[], None] = lambda: None) -> None:
        """Add to the history; `lost` is called where the thread could not. Raises `OSError`."""
        if self._is_apart or self._writing:
            self._opened.refuse_silent()
            self._unrecorded.append((row, lost))
            self._restore()
            return
        self._opened.restore({}, (row,))

    def _restore(self) -> None:
        if self._restoring is None:
            self._restoring = asyncio.get_running_loop().create_task(self._restore_all())

    async def _restore_all(self) -> None:
        try:
            while self._put_off or self._unrecorded:
                texts, rows = self._put_off.copy(), self._unrecorded.copy()
                try:
                    write = partial(self._opened.restore, texts, [row for row, _ in rows])
                    await self._apart(write)
                except OSError as error:
                    log.warning("the state directory cannot be written", reason=error.strerror)
                    for _, lost in rows:
                        lost()
                del self._unrecorded[: len(rows)]
                for name, text in texts.items():
                    if self._put_off[name] == text:
                        del self._put_off[name]
        finally:
            self._restoring = None

    async def _apart(self, work: Callable[[], Result]) -> Result:
        """Have the thread do what writes, behind what it was asked for before."""
        loop = asyncio.get_running_loop()
        silent = loop.call_later(PATIENCE_S, self.place.fell_silent)
        self._writing += 1
        working = asyncio.ensure_future(self._thread.run(work))
        working.add_done_callback(_heard)
        working.add_done_callback(self._worked)
        try:
            return await asyncio.shield(working)
        except asyncio.CancelledError:
            # What is written cannot be left half way: the next start finds it, or not.
            await asyncio.wait([working], timeout=PATIENCE_S)
            raise
        except RuntimeError:
            reason = errno.EAGAIN
            raise OSError(reason, os.strerror(reason)) from None
        finally:
            silent.cancel()

    def _worked(self, _: object) -> None:
        self._writing -= 1

    async def _quiet(self) -> None:
        """Return when the thread is at nothing: where the database is may change then."""
        while self._writing:
            await self._apart(lambda: None)

    def outrank(self, epoch: int) -> None:
        """Workers know a later daemon than these files: theirs were lost, we come after it."""
        self._opened.epoch = max(self.epoch, epoch + 1)
        with contextlib.suppress(OSError), self._opened.writing():
            self._opened.writer.header(self._opened.header())

    def recover(
        self,
        held: Recovered,
        entities: Sequence[Entity],
        files: Mapping[str, Mapping[EntityKey, Mark]],
    ) -> None:
        """What workers serve is the state: these files had lost it, or some of it."""
        completed = completed_all(entities)
        self.unfinished = None
        self.notes.applied()
        self._run(held)
        self.former = self._opened.note_completed(entities, completed)
        known = [entity for entity in completed if entity is not None]
        lost = {entity.key for entity in entities if left_out(entity)}
        if lost:
            files = {path: unmarked(defined, lost) for path, defined in files.items()}
        try:
            self._fill(known, files)
        except OSError:
            self._opened.stand_in()
            self._opened.reopen(self.running)
            self._fill(known, files)

    def _run(self, held: Recovered) -> None:
        running = self.running
        running.generation, running.commit, running.tree = held.generation, held.commit, held.tree
        running.state.digest, running.applied_at = held.digest, None

    # One transaction.

    def rehearse(self) -> None:
        """Write what one file defines as it runs, and take it back.

        So the first commit finds at hand what all of them need. Raises `OSError`, `DamagedError`.
        """
        if self._writing:
            return
        now, state, writer = self.running, self.running.state, self._opened.writer
        for path, defines, _ in state.files_after("", 1):
            if len(defines) > _REHEARSED_CHARS_MAX:
                return
            marks = state.marks(path)
            begun = Begun(
                generation=now.generation + 1,
                base_generation=now.generation,
                base_digest=state.digest,
                digest=state.digest,
                commit="",
                tree="",
                at="",
                puts=tuple(state.many(tuple(marks))),
                removes=(),
                moved=(),
                files={path: marks},
            )
            with writer.rehearsal():
                writer.files(begun.files, whole=False)
                writer.entities(begun)
                writer.unfinished(begun)
                writer.header(self._opened.header())

    async def commit(self, begun: Begun) -> None:
        """The commit point: nothing is written before. Raises `OSError` when it was not passed."""
        await self._quiet()
        await self.asked()
        changes = self._before_commit(begun)
        await self._apart(partial(self._write_commit, begun))
        self._behind_commit(begun, changes)

    def _before_commit(self, begun: Begun) -> list[Change]:
        faults.point("journal.commit")
        running = self.running
        assert begun.base_generation == running.generation, "it is based on another generation"
        # What cannot be recorded is better served than nothing: workers can tell it.
        if not running.is_empty and self._opened.be_home():
            raise OSError(errno.ESTALE, "the state directory was replaced, and is written anew")
        # A newcomer that has begun with nothing is given the whole when its turn comes.
        if not any(since.first.generation for since in self._newcomers):
            return []
        return changes_of(running.state, begun.puts, begun.removes)

    def _write_commit(self, begun: Begun) -> None:
        with self._opened.writer.attached(begun.bulk), self._opened.writing():
            if begun.bulk is not None:
                self._opened.writer.bulk(begun)
            else:
                self._opened.writer.files(begun.files, whole=begun.whole)
                self._opened.writer.entities(begun)
                self._opened.writer.unfinished(begun)
            self._opened.writer.header(
                replace(
                    self._opened.header(),
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
        for since in self._newcomers:
            if since.first.generation and since.first != running.moment:
                since.note(running.moment, changes)
        self.unfinished = begun
        self.copy_log_if_due()

    def copy_log_if_due(self) -> None:
        """Begin a checkpoint when there is enough in the log.

        Behind a start all of it counts that a killed daemon has left, copied or not: not for the
        first commit to wait beside.
        """
        self._checkpoints.begin_if_due(self._opened.database, self._opened.index)

    async def done(self) -> None:
        """All workers are through. May be lost: doing it again is harmless."""
        self.unfinished = None
        faults.point("journal.done")
        with self.damage.noted():
            finishing = asyncio.ensure_future(self._apart(self._opened.writer.finished))
            finishing.add_done_callback(_heard)
            await asyncio.wait([finishing], timeout=PATIENCE_S)
            if finishing.done():
                finishing.result()

    async def follow(
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
        await self._quiet()
        await self.asked()
        self._opened.be_home()
        running, followed = self.running, replace(self._opened.header(), commit=commit, tree=tree)

        def write() -> None:
            with self._opened.writer.attached(bulk), self._opened.writing():
                if bulk is not None:
                    self._opened.writer.bulk_places(whole=whole)
                else:
                    self._opened.writer.files(files or {}, whole=whole)
                    self._opened.writer.places(moved)
                self._opened.writer.header(replace(followed, applied_at=at))

        await self._apart(write)
        running.commit, running.tree, running.applied_at = commit, tree, at
        self.notes.applied()
        self._checkpoints.begin_if_due(self._opened.database, self._opened.index)

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
        header = self._opened.header()
        if instead is not None:
            header = replace(header, **asdict(instead), applied_at=None)
        with contextlib.ExitStack() as stack:
            try:
                fresh = stack.enter_context(aside(self.scratch))
                await asyncio.to_thread(fresh.fill, self._relate, header, entities, files)
            except OSError as error:
                return self._take_over(error, entities, files, instead)
            await self._quiet()
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
            self._run(instead)
        found = salvaged(self._opened.database)
        self._opened.connections.close()
        kept = FILE_NAME
        try:
            if isinstance(fresh, OSError):
                raise fresh
            kept = self._opened.database.set_aside()
            rename_durably(fresh, self._opened.database.path)
            self._opened.reopen(before)
            self._opened.remember()
        except OSError as error:
            self.place.failed(error)
            self._opened.stand_in(copy=False)
            self._opened.reopen(before)
            self._fill(entities, files)
        self._opened.restore(found.texts, found.history)
        return kept

    def _fill(
        self, entities: Sequence[Entity], files: Mapping[str, Mapping[EntityKey, Mark]]
    ) -> None:
        with self._opened.writing():
            self._opened.writer.files(files, whole=True)
            self._opened.writer.everything(entities)
            self._opened.writer.header(self._opened.header())
            self._opened.keep_left_out()
        self._opened.writer.finished()
