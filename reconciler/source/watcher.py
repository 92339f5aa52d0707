"""Wake-ups from the file system: something in the repository moved, look again.

A hint and never data: any event only wakes the reconciler, which resolves the ref anew, and a slow
poll finds what a lost event would have told. Watches the git directories without what lies below
them and the refs with all below, never the objects and never a working tree.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType

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
_OURS = f"/{APPLIED_REF}"

_IsNews = Callable[[str], bool]


class Watcher:
    """Runs until cancelled; `woken` is called, on the event loop, after every event."""

    def __init__(self, woken: Callable[[], None]) -> None:
        self._woken = woken
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
        repository = [*(Directory(path, False) for path in alone)]
        repository += [Directory(path, True) for path in deep]
        elsewhere = [Directory(path, False) for path in others]
        for directories, is_news in ((repository, _is_news), (elsewhere, _any)):
            if directories:
                task = asyncio.get_running_loop().create_task(self._run(directories, is_news))
                self._tasks.append(task)

    def stop(self) -> None:
        """Ends the watches."""
        for task in self._tasks:
            task.cancel()
        self._tasks = []
        if self._due is not None:
            self._due.cancel()
            self._due = None

    async def _run(self, directories: list[Directory], is_news: _IsNews) -> None:
        paths = [str(each.path) for each in directories]
        while True:
            try:
                await self._watch(directories, is_news)
            except Exception as error:  # noqa: BLE001  # polling finds what no watch tells
                self._tell(str(error))
                await asyncio.sleep(_RESTART_DELAY_S)
                there = await asyncio.to_thread(looked_at, paths, is_directory)
                if not all(there.get(path) for path in paths):
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


def _inode(path: Path) -> int:
    found = found_at(path)
    return found.st_ino if found else 0
