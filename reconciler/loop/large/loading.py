"""A large change is staged in a process of its own; this starts it and tells how far it is.

The daemon's loop is free meanwhile, and its memory stays its own: what was found comes back as a
file of rows (`reconciler.storage.writing.bulk`). Called by `reconciler.loop.proposing` for a change
that is too large to be staged there; `status` reads `progress`.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from reconciler import log
from reconciler.catalog.catalog import Candidate
from reconciler.durable import discard
from reconciler.loop.large.request import Request
from reconciler.loop.stager import StagedCommit
from reconciler.materials.completing import Machine
from reconciler.parts import heard_again_within
from reconciler.planning.differ import diff_entities
from reconciler.source.git.repository_errors import NoConfigurationError, RepositoryError
from reconciler.storage.kept import parsed
from reconciler.storage.kept.history import now
from reconciler.storage.reading.running import Running
from reconciler.storage.store import Store
from reconciler.storage.writing import bulk
from reconciler.storage.writing.bulk import Bulk
from schemas.changes.change import Change
from schemas.entities.diagnostic import Diagnostic
from schemas.entities.entity import Entity, EntityKey
from schemas.messages.status import LoadingStatus

FILES_MAX = 1000
BYTES_MAX = 256 * 1024
"""What is more than one of these is staged apart: less is done before a process has begun."""

_TELL_EVERY_S = 2.0
# It says something after each few hundred files, and is silent while it compares and writes.
_SILENT_S = 300.0
# One that is silent and uses no processor hangs: it is stopped, or waits for what never comes.
_LOOK_EVERY_S = 5.0
_TELL_IDLE_S = 10.0
_NEWEST_EVERY_S = 1.0
_SUPERSEDED_MAX = 3
_IDLE_S = 30.0
# With the contents of all certificates.
_LINE_BYTES_MAX = 1 << 30
_REASON_CHARS = 300


class LoadError(Exception):
    """The process did not come to its end; it is tried again."""


class SupersededError(Exception):
    """A newer commit has come while this one was loaded."""


class Loading:
    """Stages large changes, one at a time."""

    def __init__(
        self,
        directory: Path,
        store: Store,
        machine: Machine,
        newest: Callable[[], Awaitable[str | None]],
    ) -> None:
        """`newest` tells the newest commit, if it can be told."""
        self._newest = newest
        self._directory = directory
        self._store = store
        self._machine = machine
        self.progress: LoadingStatus | None = None
        """How far the load is that is going on."""
        # Loads, one after the other, that a newer commit has put an end to.
        self._superseded = 0

    async def stage(
        self, running: Running, commit: str, tree: str, touched: frozenset[str]
    ) -> StagedCommit:
        """What `Stager.stage` does, unless a newer commit comes meanwhile.

        Where commits come faster than one is loaded, one of a few is loaded all the same. Raises
        `RepositoryError`, `LoadError` and `SupersededError`.
        """
        loading = asyncio.ensure_future(self._stage(running, commit, tree, touched))
        try:
            while not (await asyncio.wait([loading], timeout=_NEWEST_EVERY_S))[0]:
                may_leave = self._superseded < _SUPERSEDED_MAX and commit != running.commit
                if may_leave and await self._newest() not in (commit, None):
                    self._superseded += 1
                    raise SupersededError
            self._superseded = 0
            return loading.result()
        finally:
            loading.cancel()
            # What becomes of one that is given up is nobody's concern.
            await asyncio.gather(loading, return_exceptions=True)

    async def _stage(
        self, running: Running, commit: str, tree: str, touched: frozenset[str]
    ) -> StagedCommit:
        place = self._store.scratch
        keyring = self._machine.keyring
        request = Request(
            directory=str(self._directory),
            base=running.tree,
            tree=tree,
            touched=sorted(touched),
            database=str(place),
            place=str(place),
            identity=str(keyring.path) if keyring and keyring.path else None,
            has_keyring=keyring is not None,
            issued=str(self._machine.issued) if self._machine.issued else None,
            fetched=str(self._machine.fetched) if self._machine.fetched else None,
        )
        self.progress = LoadingStatus(
            commit=commit, phase="comparing", files=0, read=0, parsed=0, idle_s=0, since=now()
        )
        try:
            said = await self._run(request)
        finally:
            self.progress = None
        found = said.get("result")
        if found is None:
            _fail(said)
        if found["generation"] != running.generation:
            raise LoadError("another generation runs by now")
        return await asyncio.to_thread(self._staged, found, place)

    def committed(self) -> None:
        """What was parsed is part of what runs."""
        parsed.remove(self._store.scratch / parsed.FILE_NAME)

    def _staged(self, found: dict[str, Any], place: Path) -> StagedCommit:
        diagnostics = tuple(Diagnostic(**each) for each in found["diagnostics"])
        contents = {
            digest: base64.b64decode(content)
            for digest, content in found.get("contents", {}).items()
        }
        candidate = Candidate(diagnostics, {}, {}, {}, contents)
        outside = {path: tuple(each) if each else None for path, each in found["outside"].items()}
        warnings = (*(Diagnostic(**each) for each in found["warnings"]), *candidate.warnings)
        whole = bool(found["full"])
        if not candidate.ok:
            discard(place / bulk.FILE_NAME)
            return StagedCommit(candidate, whole, (), (), (), outside)
        rows = Bulk(place / bulk.FILE_NAME, found["digest"], compare)
        return StagedCommit(candidate, whole, rows.changes, (), warnings, outside, rows)

    async def _run(self, request: Request) -> dict[str, Any]:
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "reconciler.loop.large.loader", str(os.getpid())),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                limit=_LINE_BYTES_MAX,
            )
        except OSError as error:
            raise LoadError(f"cannot start a process: {error.strerror or error}") from None
        assert process.stdin is not None, "it was asked for"
        assert process.stdout is not None, "it was asked for"
        assert process.stderr is not None, "it was asked for"
        try:
            process.stdin.write(json.dumps(asdict(request)).encode() + b"\n")
            listening = asyncio.ensure_future(self._listen(process.stdout, process.stderr))
            try:
                await self._watch(process.pid, listening)
                return listening.result()
            finally:
                listening.cancel()
        except ConnectionError:
            raise LoadError("the process that loads has died") from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _watch(self, pid: int, listening: asyncio.Future[dict[str, Any]]) -> None:
        """Returns when it has said its last. Raises `LoadError` when it hangs."""
        used, idle_s = -1, 0.0
        while not (await asyncio.wait([listening], timeout=_LOOK_EVERY_S))[0]:
            ticks = processor_ticks(pid)
            idle_s = idle_s + _LOOK_EVERY_S if ticks == used else 0.0
            used = ticks
            if idle_s >= _IDLE_S:
                raise LoadError(f"the process that loads has done nothing for {_IDLE_S:g} s")
            if idle_s == _TELL_IDLE_S:
                log.warning("the process that loads does nothing", pid=pid)
            assert self.progress is not None, "it is being loaded"
            self.progress["idle_s"] = int(idle_s)

    async def _listen(
        self, stdout: asyncio.StreamReader, stderr: asyncio.StreamReader
    ) -> dict[str, Any]:
        told_at = time.monotonic()
        while line := await stdout.readline():
            heard_again_within(_SILENT_S)
            # The last line may have the contents of very many certificates.
            said: dict[str, Any] = await asyncio.to_thread(json.loads, line)
            if "phase" not in said:
                return said
            assert self.progress is not None, "it is being loaded"
            self.progress.update(said)  # type: ignore[typeddict-item]  # its own keys
            if time.monotonic() >= told_at + _TELL_EVERY_S:
                told_at = time.monotonic()
                log.info(told(self.progress), commit=self.progress["commit"][:12])
        reason = (await stderr.read(_LINE_BYTES_MAX)).decode(errors="replace").strip()
        last = reason.rpartition("\n")[2][:_REASON_CHARS]
        raise LoadError(f"the process that loads has died: {last}" if last else "it was killed")


def processor_ticks(pid: int) -> int:
    """Return what a process and those below it have used of processors (proc(5))."""
    used = 0
    with contextlib.suppress(OSError, ValueError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        used = sum(map(int, fields[11:15]))
        for thread in Path(f"/proc/{pid}/task").iterdir():
            below = (thread / "children").read_text().split()
            used += sum(processor_ticks(int(child)) for child in below)
    return used


def told(progress: LoadingStatus) -> str:
    """Return how far a load is, in words."""
    if progress["phase"] == "reading":
        return f"reading {progress['read']:,} of {progress['files']:,} files"
    return f"{progress['phase']} {progress['files']:,} files" if progress["files"] else "comparing"


def compare(key: EntityKey, before: Entity | None, after: Entity | None) -> Change:
    """Return the change between two sides of an entity."""
    (change,) = diff_entities({key: after}, {} if before is None else {key: before})
    return change


def _fail(said: dict[str, Any]) -> NoReturn:
    if "empty" in said:
        raise NoConfigurationError(said["empty"], said["commit"])
    if "held" in said:
        raise RepositoryError(said["held"])
    raise LoadError(f"cannot write: {said.get('unwritable', 'no reason was told')}")
