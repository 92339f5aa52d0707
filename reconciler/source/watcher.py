"""Wake-ups from the file system: something in the repository moved, look again.

A hint and never data: any event only wakes the reconciler, which resolves the ref anew, and a slow
poll finds what a lost event would have told. Watches the git directories without what lies below
them, by watchfiles, and the refs with all below, by inotify, so that a commit is noticed at once
and nobody woken before; never the objects and never a working tree. inotify has as well the
directories of files that the configuration names elsewhere on the machine: watchfiles would hold
everybody up where one does not answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType

# And not `awatch`, which imports all of anyio for a thread: a tenth of what a start imports.
from watchfiles import watch

from reconciler import log
from reconciler.own_threads import OwnThreads
from reconciler.presence import found_at, is_directory
from reconciler.source.git.applied import APPLIED_REF
from reconciler.source.inotify import Directory, Inotify
from reconciler.stalling import looked_at

# Git moves several files in a few milliseconds, of which one is the ref. The first is looked at at
# once, the next soon, and the longer it goes on the more seldom.
_PAUSE_MIN_S = 0.005
_PAUSE_MAX_S = 0.08
_RESTART_DELAY_S = 1.0
# watchfiles wakes in steps to see whether anything has moved.
_STEP_MS = 100
_TIMEOUT_MS = 10_000
_STANDS_WITHIN_S = 0.1
_ENDS_WITHIN_S = 1.0
_OURS = f"/{APPLIED_REF}"

_IsNews = Callable[[str], bool]


class Watcher:
    """Runs until cancelled; `woken` is called, on the event loop, after every event."""

    def __init__(
        self, woken: Callable[[], None], doubted: Callable[[], object] = lambda: None
    ) -> None:
        """`doubted` is called when one of the refs moves that are ours to move."""
        self._woken = woken
        self._doubted = doubted
        self._tasks: list[asyncio.Task[None]] = []
        self._watched: tuple[tuple[Path, int], ...] = ()
        self._told: str | None = None
        # A file system that does not answer keeps the thread that adds a watch.
        self._threads = OwnThreads("watch", RuntimeError)
        self._due: asyncio.TimerHandle | None = None
        self._woken_at, self._pause_s = 0.0, _PAUSE_MIN_S

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
        refs = [Directory(path, True) for path in deep]
        elsewhere = [Directory(path, False) for path in others]
        for paths, watching in (
            (alone, partial(self._watch_alone, alone)),
            (deep, partial(self._watch, refs, _is_news)),
            ([*others], partial(self._watch, elsewhere, _any)),
        ):
            if paths:
                task = asyncio.get_running_loop().create_task(self._run(paths, watching))
                self._tasks.append(task)

    def stop(self) -> None:
        """Ends the watches."""
        for task in self._tasks:
            task.cancel()
        self._tasks = []
        if self._due is not None:
            self._due.cancel()
            self._due = None

    async def _run(self, paths: list[Path], watching: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await watching()
            except Exception as error:  # noqa: BLE001  # polling finds what no watch tells
                if not isinstance(error, FileNotFoundError):
                    # What has gone is told by who looks for it.
                    self._tell(str(error))
                await asyncio.sleep(_RESTART_DELAY_S)
                there = await asyncio.to_thread(looked_at, map(str, paths), is_directory)
                if not all(there.get(str(path)) for path in paths):
                    # The next look at the source finds what became of it and watches anew.
                    return

    async def _watch(self, directories: list[Directory], is_news: _IsNews) -> None:
        loop, inotify, grown = asyncio.get_running_loop(), Inotify(), asyncio.Event()
        loop.add_reader(inotify.fileno(), self._read, inotify, is_news, grown)
        try:
            while True:
                await self._threads.run(partial(_add, inotify, directories))
                self._told = None
                # Whatever moved before they were watched was not told.
                self._moved()
                await grown.wait()
                grown.clear()
        finally:
            loop.remove_reader(inotify.fileno())

    def _read(self, inotify: Inotify, is_news: _IsNews, grown: asyncio.Event) -> None:
        for event in inotify.read():
            if event.grows:
                grown.set()
            if is_news(event.path):
                self._moved()
            elif _OURS in event.path:
                self._doubted()

    async def _watch_alone(self, paths: list[Path]) -> None:
        """Ends a step after it is cancelled, when its thread has."""
        # watchfiles begins with Python's lock in its hands: nobody may hang there.
        there = await asyncio.to_thread(looked_at, map(str, paths), is_directory)
        if not all(there.values()):
            raise OSError("the repository does not answer")
        loop, stop, ended = asyncio.get_running_loop(), threading.Event(), threading.Event()
        moved = partial(loop.call_soon_threadsafe, self._moved)
        # Whatever moves until they are watched is found by one look more.
        loop.call_later(_STANDS_WITHIN_S, self._moved)
        try:
            await self._threads.run(partial(_until_told, paths, stop, ended, moved))
        finally:
            stop.set()
            await asyncio.to_thread(ended.wait, _ENDS_WITHIN_S)

    def _moved(self) -> None:
        if self._due is not None:
            return
        loop = asyncio.get_running_loop()
        now = loop.time()
        is_first = now - self._woken_at > 2 * self._pause_s
        self._pause_s = _PAUSE_MIN_S if is_first else min(2 * self._pause_s, _PAUSE_MAX_S)
        self._due = loop.call_at(max(now, self._woken_at + self._pause_s), self._wake)

    def _wake(self) -> None:
        self._due, self._woken_at = None, asyncio.get_running_loop().time()
        self._woken()

    def _tell(self, reason: str) -> None:
        """Once, and not each time that it is tried again."""
        if reason != self._told:
            log.warning("watching the repository failed, polling goes on", error=reason)
        self._told = reason


def _add(inotify: Inotify, directories: list[Directory]) -> None:
    for directory in directories:
        inotify.add(directory)


def _is_news(path: str) -> bool:
    """Neither the refs that we move ourselves, nor the files that git locks others by."""
    return _OURS not in path and not path.endswith(".lock")


def _any(_: str) -> bool:
    return True


def _until_told(
    paths: list[Path],
    stop: threading.Event,
    ended: threading.Event,
    moved: Callable[[], object],
) -> None:
    """In a thread of its own: calls `moved` for each event, until `stop` is set."""
    with _set_behind(ended), _as_text(paths) as named:
        for _ in watch(
            *named,
            # The default filter ignores everything below a `.git`.
            watch_filter=lambda _, path: _is_news(path),
            debounce=_STEP_MS,
            step=_STEP_MS,
            stop_event=stop,
            rust_timeout=_TIMEOUT_MS,
            raise_interrupt=False,
            recursive=False,
            ignore_permission_denied=True,
        ):
            moved()


@contextlib.contextmanager
def _set_behind(ended: threading.Event) -> Iterator[None]:
    try:
        yield
    finally:
        ended.set()


@contextlib.contextmanager
def _as_text(paths: list[Path]) -> Iterator[list[str]]:
    """The paths, those whose names are not UTF-8 by a descriptor: watchfiles takes text alone."""
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


def _inode(path: Path) -> int:
    found = found_at(path)
    return found.st_ino if found else 0
