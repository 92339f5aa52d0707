"""Wake-ups from the file system: something in the repository moved, look again.

A hint and never data: any event only wakes the reconciler, which resolves the ref anew, and a slow
poll finds what a lost event would have told. Watches the git directories without what lies below
them and the refs with all below, never the objects and never a working tree.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType

# And not `awatch`, which imports all of anyio for a thread: a tenth of what a start imports.
from watchfiles import watch

from reconciler import log
from reconciler.presence import found_at, is_directory
from reconciler.source.git.applied import APPLIED_REF
from reconciler.stalling import looked_at

# watchfiles looks for quiet in steps; 10 ms wakes us 17 ms after a ref moved and costs 0.6 % of a
# core when idle. HEAD and packed-refs, in the directory itself, are in less of a hurry.
_REFS_STEP_MS = 10
_DIRECTORY_STEP_MS = 50
_DEBOUNCE_MS = 50
_TIMEOUT_MS = 10_000
# Two that watch, and those before them, which take a step to see that they are to end.
_THREADS_MAX = 6
_RESTART_DELAY_S = 1.0
# A watch stands long before; what moved until then is found by one look more.
_STANDS_WITHIN_S = 0.1
# A watch that silently lost its kernel part would only be noticed by slowness.
_RENEW_S = 3600.0


class Watcher:
    """Runs until cancelled; `woken` is called, on the event loop, after every event."""

    def __init__(self, woken: Callable[[], None]) -> None:
        self._woken = woken
        self._tasks: list[asyncio.Task[None]] = []
        self._watched: tuple[tuple[Path, int], ...] = ()
        self._told: str | None = None
        self._threads = ThreadPoolExecutor(_THREADS_MAX, "watch")

    def watch(
        self,
        alone: list[Path],
        deep: list[Path],
        outside: Mapping[Path, int] = MappingProxyType({}),
    ) -> None:
        """Watches these directories from now on; does nothing if they are watched already.

        Those outside of the repository come with their inodes: a look at them may hang.
        """
        others = {path: outside[path] for path in sorted(outside.keys() - set(alone))}
        watched = (*((path, _inode(path)) for path in (*alone, *deep)), *others.items())
        alive = self._tasks and not any(task.done() for task in self._tasks)
        if alive and watched == self._watched:
            return
        self.stop()
        self._watched = watched
        for paths, recursive, step in (
            ([*alone, *others], False, _DIRECTORY_STEP_MS),
            (deep, True, _REFS_STEP_MS),
        ):
            if paths:
                task = asyncio.get_running_loop().create_task(self._run(paths, recursive, step))
                self._tasks.append(task)

    def stop(self) -> None:
        """Ends the watches."""
        for task in self._tasks:
            task.cancel()
        self._tasks = []

    async def _run(self, paths: list[Path], recursive: bool, step: int) -> None:
        loop = asyncio.get_running_loop()
        while True:
            loop.call_later(_STANDS_WITHIN_S, self._woken)
            try:
                async with asyncio.timeout(_RENEW_S):
                    await self._watch(paths, recursive, step)
            except TimeoutError:
                continue
            except Exception as error:  # noqa: BLE001  # polling finds what no watch tells
                self._tell(str(error))
                await asyncio.sleep(_RESTART_DELAY_S)
                there = await asyncio.to_thread(looked_at, map(str, paths), is_directory)
                if not all(there.get(str(path)) for path in paths):
                    # The next look at the source finds what became of it and watches anew.
                    return

    async def _watch(self, paths: list[Path], recursive: bool, step: int) -> None:
        """Raises `TimeoutError` when the watch is to be made anew. Ends when its thread has."""
        loop, stop = asyncio.get_running_loop(), threading.Event()

        def moved() -> None:
            loop.call_soon_threadsafe(self._moved)

        watching = loop.run_in_executor(
            self._threads, _until_told, paths, recursive, step, stop, moved
        )
        try:
            await asyncio.shield(watching)
        finally:
            stop.set()
            # That is a step away. Who ends the loop cancels once more.
            while not watching.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait([watching])

    def _moved(self) -> None:
        self._told = None
        self._woken()

    def _tell(self, reason: str) -> None:
        """Once, and not each time that it is tried again."""
        if reason != self._told:
            log.warning("watching the repository failed, polling goes on", error=reason)
        self._told = reason


def _until_told(
    paths: list[Path], recursive: bool, step: int, stop: threading.Event, moved: Callable[[], None]
) -> None:
    """In a thread of its own: calls `moved` for each event, until `stop` is set."""
    with _as_text(paths) as named:
        for _ in watch(
            *named,
            # The default filter ignores everything below a `.git`.
            watch_filter=_is_news,
            debounce=_DEBOUNCE_MS,
            step=step,
            stop_event=stop,
            rust_timeout=_TIMEOUT_MS,
            raise_interrupt=False,
            recursive=recursive,
            ignore_permission_denied=True,
        ):
            moved()


@contextlib.contextmanager
def _as_text(paths: list[Path]) -> Iterator[list[str]]:
    """The paths, those whose names are not UTF-8 by a descriptor: what watches takes text alone."""
    with contextlib.ExitStack() as stack:
        yield [str(path) if _is_text(path) else _opened(path, stack) for path in paths]


def _is_text(path: Path) -> bool:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def _opened(path: Path, stack: contextlib.ExitStack) -> str:
    descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    stack.callback(os.close, descriptor)
    return f"/proc/self/fd/{descriptor}"


def _is_news(_: object, path: str) -> bool:
    """The refs that we move ourselves tell us nothing."""
    return f"/{APPLIED_REF}" not in path


def _inode(path: Path) -> int:
    found = found_at(path)
    return found.st_ino if found else 0
