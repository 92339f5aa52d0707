"""What workers hold becomes the state again, when the state directory has lost it or is older.

Before anything else of a start: every worker that listens is greeted. One that holds a later
generation than the files here, or any where they hold none, is the truth: a worker commits only
behind the commit record. So is one that holds a commit where the files hold what another version
could read of it. What it holds is taken from the repository if the commit that it names has
its digest, else read back from it and checked against that digest; where each entity is written
comes from the repository in any case. Whatever cannot be named goes on serving, since the
supervisor ends no worker before its successor holds a commit. Called by `reconciler.daemon`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from reconciler import log
from reconciler.catalog.catalog import stage
from reconciler.catalog.views import MemoryView
from reconciler.loop.repair.lost import lost_of
from reconciler.loop.repair.overlays import take_back
from reconciler.loop.repair.reading_back import UnknownStateError, files_of, is_nowhere, read_back
from reconciler.materials.completing import Machine, always
from reconciler.source.git.applied import APPLIED_REF
from reconciler.source.git.repository_errors import RepositoryError
from reconciler.source.probing import Probe, StalledError
from reconciler.source.source import Source
from reconciler.storage.reading.header import Recovered
from reconciler.storage.store import Store
from reconciler.workers.linked.link import Link, OutrankedError, WorkerGoneError, greet
from reconciler.workers.processes import lost_sockets, worker_sockets
from schemas.changes.state import EMPTY_DIGEST, State
from schemas.entities.entity import Entity, EntityKey, Mark
from schemas.messages import wire
from schemas.record import record

_GREET_S = 5.0
# Daemons that lost their state one after the other; each of them outranks the one before.
_EPOCHS_MAX = 8


Files = Mapping[str, Mapping[EntityKey, Mark]]
"""What each configuration file defines; see `Candidate.files`."""


@record
class ServingWorker:
    """A worker that serves, and what it says that it holds."""

    id: int
    link: Link
    generation: int
    digest: str
    commit: str
    speaks_ours: bool


@record
class _Loaded:
    """A commit as the repository has it now; `state` is None when it is not valid."""

    commit: str
    tree: str
    state: State | None
    written: dict[EntityKey, Entity]
    files: Files


class Recovery:
    """One start's. `run` may change what the store says is running, and its epoch."""

    def __init__(self, store: Store, runtime_dir: Path, source: Source, machine: Machine) -> None:
        self._store = store
        self._runtime_dir = runtime_dir
        self._source = source
        self._machine = machine
        self._loaded: dict[str, _Loaded | None] = {}
        self._places: set[int] = set()

    async def run(self) -> int:
        """How many places workers serve in. No state of theirs or of the repository's raises."""
        await asyncio.to_thread(self._regain)
        numbers = sorted(worker_sockets.listening(self._runtime_dir))
        found = await asyncio.gather(*(self._greet(number) for number in numbers))
        workers = [each for each in found if each is not None]
        try:
            links = [each.link for each in workers if each.speaks_ours]
            await take_back(self._store, links, are_all=len(links) == len(workers))
            newer = [each for each in workers if self._is_newer(each)]
            # What is that of no commit may be a part of what others hold.
            for worker in sorted(newer, key=lambda each: (not each.commit, -each.generation)):
                if await self._recover(worker):
                    break
            else:
                self._go_on_from(newer)
        finally:
            for each in workers:
                each.link.close("it has been looked at")
        return max(self._places, default=-1) + 1

    def _regain(self) -> None:
        try:
            lost = lost_sockets.regain(self._runtime_dir)
            # Those as well that cannot be connected to.
            self._places.update(lost_sockets.serving(self._runtime_dir).values())
        except OSError as error:
            reason = error.strerror or error
            log.warning("it is not known whether workers serve that have no socket", reason=reason)
            return
        if lost:
            told = ",".join(str(number) for number in sorted(lost.values()))
            log.warning("sockets of workers that serve were gone, and are bound anew", workers=told)

    def _is_newer(self, worker: ServingWorker) -> bool:
        running = self._store.running
        if worker.digest == EMPTY_DIGEST or (worker.generation, worker.digest) == (
            running.generation,
            running.state.digest,
        ):
            return False
        if running.is_empty or worker.generation > running.generation:
            return True
        return bool(worker.commit) and self._store.may_be_in_part

    async def _greet(self, number: int) -> ServingWorker | None:
        for _ in range(_EPOCHS_MAX):
            # A successor alone is one that has not been given its place yet.
            place = worker_sockets.socket_path(self._runtime_dir, number)
            beside = worker_sockets.successor_path(self._runtime_dir, number)
            try:
                found = worker_sockets.connect(place) or worker_sockets.connect(beside)
            except BlockingIOError:
                return None
            if found is None:
                return None
            self._places.add(number)
            link = Link(found[0])
            try:
                welcome = await greet(link, self._store.epoch, _GREET_S)
            except OutrankedError as error:
                # Its daemon is gone, we hold the lock: only the number of that one was lost.
                link.close("the epoch was lost")
                self._store.outrank(error.epoch)
            except WorkerGoneError:
                link.close("it cannot be greeted")
                return None
            else:
                for descriptor in link.take_welcome_descriptors():
                    os.close(descriptor)
                held = (welcome.generation, welcome.digest, welcome.commit)
                return ServingWorker(number, link, *held, welcome.protocol == wire.PROTOCOL)
        return None

    async def _recover(self, worker: ServingWorker) -> bool:
        was = self._store.running
        what, since = "held nothing", None
        if self._store.is_home_unread:
            what = "could not be read"
        if not was.is_empty:
            what = f"held generation {was.generation}"
            since = "what was recorded since (history, drains) is"
        # Another version has counted what it left as a generation.
        in_part = not was.is_empty and worker.generation <= was.generation
        if in_part:
            what = "held what another version could read"
        try:
            recovered, entities, files, source = await self._what_it_holds(worker)
            self._store.recover(recovered, entities, files)
        except UnknownStateError as error:
            log.warning("what a worker holds is not known", worker=worker.id, reason=error)
            return False
        lost = None if in_part else since or lost_of(self._store, self._source)
        self._store.notes.add(
            f"the state directory {what}: generation {worker.generation}, which workers serve, was "
            f"taken {source}{f'; {lost} lost' if lost else ''}"
        )
        unknown = sum(map(is_nowhere, entities))
        if unknown:
            # The next commit tells it.
            what = f"where {unknown} entities that run are written is not known"
            self._store.notes.add(what, until_applied=True)
        return True

    def _go_on_from(self, unknown: Iterable[ServingWorker]) -> None:
        """Nobody can say what they hold; their numbers are not used again all the same."""
        generation = max((each.generation for each in unknown), default=0)
        if generation > self._store.running.generation and self._store.running.is_empty:
            self._store.recover(Recovered(generation, EMPTY_DIGEST), (), {})
            self._store.notes.add(
                f"nobody knows generation {generation} any more, which workers serve: they go on "
                "until a commit is served by others"
            )

    # What a worker holds.

    async def _what_it_holds(
        self, worker: ServingWorker
    ) -> tuple[Recovered, list[Entity], Files, str]:
        """(which state, its entities, its files, where it is from). Raises `UnknownStateError`."""
        generation, digest = worker.generation, worker.digest
        named = await self._load(worker.commit) if worker.commit else None
        for loaded in (named, await self._load(APPLIED_REF)):
            state = loaded.state if loaded is not None else None
            if loaded is not None and state is not None and state.digest == worker.digest:
                held = Recovered(generation, digest, loaded.commit, loaded.tree)
                return held, [*state.entities.values()], loaded.files, "from the repository"
        written = named.written if named else {}
        entities = await read_back(worker.link, generation, digest, written)
        # Without every place, the next commit is compared as a whole.
        whole = named is not None and not any(map(is_nowhere, entities))
        tree = named.tree if named is not None and whole else None
        held = Recovered(generation, digest, worker.commit or None, tree)
        return held, entities, files_of(entities), "from a worker"

    async def _load(self, name: str) -> _Loaded | None:
        if name not in self._loaded:
            self._loaded[name] = await self._read_commit(name)
        return self._loaded[name]

    async def _read_commit(self, name: str) -> _Loaded | None:
        try:
            if not self._source.is_stalled:
                await Probe(self._source.probe).wait()
            return await asyncio.to_thread(self._load_commit, name)
        except (RepositoryError, StalledError) as error:
            log.warning("a commit that was served cannot be read", commit=name, reason=error)
        except Exception as error:  # noqa: BLE001  # what cannot be loaded must not end a start
            log.internal_error("loading a commit that was served", error)
        return None

    def _load_commit(self, name: str) -> _Loaded:
        head = self._source.head_of(name)
        changed = self._source.changed(None, head.tree)
        read = partial(self._source.read_file, changed)
        machine = replace(self._machine, served=always)
        candidate = stage(MemoryView(), changed.files, read, machine=machine)
        written = {key: each for key, each in candidate.desired.items() if each is not None}
        state = State(written.values()) if candidate.ok else None
        return _Loaded(head.commit, head.tree, state, written, candidate.files)
