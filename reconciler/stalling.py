"""Looks at files of the machine that may lie on a file system which does not answer.

A dead NFS server or a dying disk blocks whoever asks it, for hours if need be, and no call of the
system has a time limit. So a thread looks, and whoever wants to know waits for a second at most.
While a thread is held nobody else asks that directory: there are never more of them than a few, and
who asks again is told at once. A file that has not answered is missing in what is returned. Called
by `reconciler.materials` and by whoever else opens what a configuration names by an absolute path;
by `reconciler.storage.file.place`, of the state directory.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from queue import SimpleQueue
from typing import Any, TypeVar

from reconciler import log

Result = TypeVar("Result")
Otherwise = TypeVar("Otherwise")

PATIENCE_S = 1.0
"""What does not answer for so long is not waited for any more."""
DOES_NOT_ANSWER = "the file does not answer: its file system hangs"

# The loop may be held up for so long; what takes longer is looked at by a thread that can wait.
_HURRIED_S = 0.02
# Of very many directories that hang, those behind the first are given so long.
_NEXT_PATIENCE_S = 0.1
# All of a look: a file system that is no more than slow must not hold its caller up for minutes.
_LOOK_S = 15.0
_THREADS_MAX = 32
_IDLE_MAX = 2

_hurried: ContextVar[bool] = ContextVar("hurried", default=False)
_spent: ContextVar[list[float]] = ContextVar("spent")
"""What has been spent in a hurry, in seconds: one number, which all who are called add to."""


class HurriedError(Exception):
    """The answer has not come within a moment: look again where one can wait for it."""


@contextlib.contextmanager
def hurried() -> Iterator[None]:
    """For the event loop: what is asked in here answers at once, or raises `HurriedError`."""
    token, spent = _hurried.set(True), _spent.set([0.0])
    try:
        yield
    finally:
        _hurried.reset(token)
        _spent.reset(spent)


def spend(seconds: float) -> None:
    """Count what somebody has computed; in a hurry, raises `HurriedError` where it is too much."""
    if _hurried.get():
        spent = _spent.get()
        spent[0] += seconds
        if spent[0] > _HURRIED_S:
            raise HurriedError


def spend_all() -> None:
    """In a hurry, raise `HurriedError`: what comes next takes too long."""
    spend(_HURRIED_S + 1)


@contextlib.contextmanager
def spending() -> Iterator[None]:
    """Count what takes place in here, whatever becomes of it; see `spend`."""
    began = time.monotonic()
    try:
        yield
    finally:
        spend(time.monotonic() - began)


def looked_at(paths: Iterable[str], look: Callable[[str], Result]) -> dict[str, Result]:
    """What `look` returns of each path, without those that do not answer. It raises nothing."""
    return _looking.at(list(paths), look, hurry=_hurried.get())


def answer_of(path: str, look: Callable[[str], Result], otherwise: Otherwise) -> Result | Otherwise:
    """What `look` returns of one path."""
    return looked_at([path], look).get(path, otherwise)


def is_silent(directory: str) -> bool:
    """Whether a look at files of this directory keeps its thread. Nobody is asked."""
    return _looking.is_held(directory)


class _Round:
    """Some paths, looked at one after the other by one thread."""

    def __init__(self, paths: list[str], look: Callable[[str], Any]) -> None:
        self.paths, self.look = paths, look
        self.found: dict[str, Any] = {}
        self.current, self.since = paths[0], time.monotonic()
        self.over = self.left = False

    def run(self) -> None:
        for path in self.paths:
            if self.left:
                return
            self.since, self.current = time.monotonic(), path
            try:
                self.found[path] = self.look(path)
            except Exception as error:  # noqa: BLE001  # it must not take the thread along
                log.internal_error("looking at a file", error)


class _Looking:
    """The threads of this process that look."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._idle: list[SimpleQueue[_Round]] = []
        self._held: dict[str, _Round] = {}
        """By directory, the round whose thread it keeps."""

    def forget(self) -> None:
        """There are no threads here."""
        self._changed, self._idle, self._held = threading.Condition(), [], {}

    def is_held(self, directory: str) -> bool:
        # One word of a dictionary: for whoever asks before each query.
        return directory in self._held

    def at(self, paths: list[str], look: Callable[[str], Any], *, hurry: bool) -> dict[str, Any]:
        found: dict[str, Any] = {}
        patience, until = PATIENCE_S, time.monotonic() + (_HURRIED_S if hurry else _LOOK_S)
        while askable := self._askable([p for p in paths if p not in found], patience, until):
            asked = self._begin(askable, look)
            if asked is None:
                break
            is_over = self._wait(asked, patience, until)
            found |= asked.found.copy()
            if is_over:
                return found
            if time.monotonic() >= until:
                break
            patience = _NEXT_PATIENCE_S
        if hurry and any(self._may_answer(path) for path in paths if path not in found):
            raise HurriedError
        return found

    def _askable(self, paths: list[str], patience: float, until: float) -> list[str]:
        """Those whose directories keep no thread; waits for what has not kept it for long."""
        with self._changed:
            while held := [
                self._held[each] for each in map(_directory, paths) if each in self._held
            ]:
                silent_at = max(each.since for each in held) + patience
                left = min(silent_at, until) - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            return [path for path in paths if _directory(path) not in self._held]

    def _may_answer(self, path: str) -> bool:
        """Whether a file has not had its time yet."""
        with self._changed:
            held = self._held.get(_directory(path))
        return held is None or time.monotonic() < held.since + PATIENCE_S

    def _begin(self, paths: list[str], look: Callable[[str], Any]) -> _Round | None:
        """Have a thread look; None when too many are held, or the system has none to give."""
        asked = _Round(paths, look)
        with self._changed:
            if self._idle:
                self._idle.pop().put(asked)
            elif len(set(self._held.values())) >= _THREADS_MAX:
                return None
            else:
                queue: SimpleQueue[_Round] = SimpleQueue()
                queue.put(asked)
                try:
                    # The process does not wait for these at its end.
                    threading.Thread(
                        target=self._run, args=(queue,), name="looks at files", daemon=True
                    ).start()
                except RuntimeError:
                    return None
        return asked

    def _wait(self, asked: _Round, patience: float, until: float) -> bool:
        """Whether all have answered; a directory that has not keeps the thread."""
        with self._changed:
            while not asked.over:
                left = min(asked.since + patience, until) - time.monotonic()
                if left <= 0:
                    asked.left = True
                    self._held[_directory(asked.current)] = asked
                    return False
                self._changed.wait(left)
        return True

    def _run(self, queue: SimpleQueue[_Round]) -> None:
        while True:
            asked = queue.get()
            asked.run()
            with self._changed:
                asked.over = True
                for directory in [key for key, each in self._held.items() if each is asked]:
                    del self._held[directory]
                self._changed.notify_all()
                if len(self._idle) >= _IDLE_MAX:
                    return
                self._idle.append(queue)


def _directory(path: str) -> str:
    return os.path.dirname(path)  # noqa: PTH120  # for thousands, each second


_looking = _Looking()
# A process that is forked off has none of the threads.
os.register_at_fork(after_in_child=_looking.forget)
