"""inotify(7): the kernel tells what moves in directories, by a descriptor that becomes readable.

While nothing moves nobody is woken. Called by `reconciler.source.watcher`.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
from pathlib import Path
from typing import NamedTuple

from reconciler.presence import is_directory
from schemas.record import record

_CLOSE_WRITE, _ATTRIB = 0x8, 0x4
_MOVED_FROM, _MOVED_TO, _CREATE, _DELETE = 0x40, 0x80, 0x100, 0x200
_DELETE_SELF, _MOVE_SELF = 0x400, 0x800
_OVERFLOW, _IS_DIRECTORY, _ONLY_DIRECTORIES = 0x4000, 0x4000_0000, 0x0100_0000
# And no reading, which is what a look does itself, nor each piece that is written.
_MASK = (
    _CLOSE_WRITE | _ATTRIB | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE
    | _DELETE_SELF | _MOVE_SELF | _ONLY_DIRECTORIES
)  # fmt: skip
_EVENT = struct.Struct("iIII")
_READ_BYTES = 64 * 1024
# What may not be read is found by polling, and what has just gone has nothing to tell.
_GONE_OR_DENIED = (PermissionError, FileNotFoundError, NotADirectoryError)


class Event(NamedTuple):
    """Something moved."""

    path: str
    grows: bool
    """There are directories that are not watched yet, or may be."""


@record
class Directory:
    """What is to be watched."""

    path: Path
    with_all_below: bool


class Inotify:
    """The watches behind one descriptor; a thread may add some while others read what they tell.

    The descriptor is closed by the last who holds this: a thread may hang in a call on it.
    """

    def __init__(self) -> None:
        """Raises `OSError`."""
        self._library = ctypes.CDLL(None, use_errno=True)
        self._descriptor: int = self._library.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        self._places: dict[int, str] = {}
        if self._descriptor < 0:
            raise _last_error()

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def fileno(self) -> int:
        """Readable when something has moved."""
        return self._descriptor

    def add(self, directory: Directory) -> None:
        """Watch it from now on, or what has come below it as well. Raises `OSError`."""
        known: set[int] = set()
        with contextlib.suppress(PermissionError):
            self._add(str(directory.path), known)
            if directory.with_all_below:
                self._add_below(str(directory.path), known)

    def read(self) -> list[Event]:
        """Return what was told since."""
        try:
            told = os.read(self._descriptor, _READ_BYTES)
        except BlockingIOError:
            return []
        found, at = [], 0
        while at < len(told):
            watch, mask, _, length = _EVENT.unpack_from(told, at)
            at += _EVENT.size + length
            name = os.fsdecode(told[at - length : at].rstrip(b"\0"))
            path = f"{self._places.get(watch)}/{name}"
            has_come = mask & _IS_DIRECTORY and mask & (_CREATE | _MOVED_TO)
            found.append(Event(path, grows=bool(has_come or mask & _OVERFLOW)))
        return found

    def _add(self, path: str, known: set[int]) -> bool:
        """Whether it is none of those known, by whatever name it was come to."""
        watch = self._library.inotify_add_watch(self._descriptor, os.fsencode(path), _MASK)
        if watch < 0:
            raise _last_error()
        self._places[watch] = path
        is_new = watch not in known
        known.add(watch)
        return is_new

    def _add_below(self, top: str, known: set[int]) -> None:
        left = [top]
        while left:
            for path in _directories_in(left.pop()):
                with contextlib.suppress(*_GONE_OR_DENIED):
                    if self._add(path, known):
                        left.append(path)


def _directories_in(path: str) -> list[str]:
    with contextlib.suppress(*_GONE_OR_DENIED), os.scandir(path) as entries:
        return [entry.path for entry in entries if is_directory(entry.path)]
    return []


def _last_error() -> OSError:
    code = ctypes.get_errno()
    return OSError(code, os.strerror(code))
