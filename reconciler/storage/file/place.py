"""The state directory as a place: whose it is, whether it is still there, what can be written.

Somebody may delete or replace it while a daemon runs; what is written then goes into files that no
start will ever find. So its inode, and those of the files that hold the state, are looked at before
each commit: a call of `stat` each. Its file system may hang: so a thread looks before anything
there is read or written, and while that has no answer nobody else touches it. Called by
`reconciler.storage.opened`; `lock_directory` and `holds_lock` also by whoever else must be alone in
a directory.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import resource
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from reconciler.durable import make_directory, set_aside, write_durably
from reconciler.errors import MachineError
from reconciler.presence import is_directory, is_file, is_there
from reconciler.stalling import is_silent, looked_at
from schemas.messages.files import read_regular

LOCK_NAME = "lock"
_SILENT = "it does not answer: its file system hangs"
# What stands in the lock behind the process, as long as the files are open.
_OPEN = "open"
# What is a file there, whoever keeps it.
_FILES = (
    "state.db",
    "state.db-wal",
    "state.db-shm",
    "tickets",
    "challenges",
)
# These are mistakes in a path, not faults of a disk.
_NO_DIRECTORY = (errno.ENOTDIR, errno.EEXIST)
# Room for less than a few records is none.
_PROBE_BYTES = 64 * 1024
_OWNER_BYTES = 32
# Who has had an answer so lately asks for no other. Before each query it would cost more than that.
_ANSWERED_S = 0.02
# The database of a hundred thousand frontends with its log, and a good deal of an access log.
_FILE_BYTES_ENOUGH = 1024 * 1024 * 1024


class Place:
    """One state directory, ours until `close`."""

    def __init__(self, directory: Path) -> None:
        """Raises `MachineError` when another daemon has it, or it is no directory at all."""
        self.directory = directory
        self.problem: str | None = None
        """Why nothing can be written there, for `status`."""
        self.was_left_open = False
        """Whether nobody has closed the files that were open there last."""
        self._lock = -1
        self._identity: tuple[int, int] | None = None
        self._files: dict[Path, tuple[int, int]] = {}
        # What is in a directory is what may hang, whoever has looked at it from outside.
        self._inside = f"{directory}/."
        self._answered_at = -_ANSWERED_S
        # What a thread has found a moment ago, and when.
        self._ahead: tuple[float, str | None] | None = None
        try:
            self.ask()
        except OSError:
            return
        try:
            self.take()
        except OSError as error:
            if error.errno in _NO_DIRECTORY:
                raise MachineError(
                    f"cannot use the directory {directory}: {error.strerror or error}"
                ) from error
            self.failed(error)
            # What is there can be read, and nobody else must take it for his.
            with contextlib.suppress(OSError):
                self._lock = _locked(directory, os.open(directory, os.O_RDONLY | os.O_CLOEXEC))
            return
        self.probe()

    @property
    def is_silent(self) -> bool:
        """Whether it has not answered whom it was asked by last."""
        return is_silent(str(self.directory))

    def ask(self) -> None:
        """See whether it answers, for a second at most. Raises `OSError` where it does not."""
        if time.monotonic() - self._answered_at > _ANSWERED_S:
            self._identities(())

    def look_ahead(self) -> None:
        """In a thread: find out what `ask` and the next `moved` are asked within a moment."""
        if self.is_silent:
            return
        # Whoever asks then is told.
        with contextlib.suppress(OSError):
            self._ahead = None
            found = self.moved()
            self._ahead = time.monotonic(), found

    def _identities(self, paths: Iterable[Path]) -> dict[Path, tuple[int, int] | OSError]:
        """What is at these places. Raises `OSError` where nothing answers."""
        if self.is_silent:
            # Somebody waits for it already.
            raise self.fell_silent()
        named = {str(path): path for path in paths}
        found = looked_at([self._inside, *named], _identity_or_error)
        if len(found) <= len(named):
            raise self.fell_silent()
        self._answered_at = time.monotonic()
        return {named[path]: each for path, each in found.items() if path in named}

    def probe(self) -> None:
        """Tells by `problem` whether there is room, and what is written can be read."""
        path = self.directory / "probe.new"
        try:
            self.ask()
            write_durably(path, bytes(_PROBE_BYTES))
            read_regular(path)
            path.unlink()
        except OSError as error:
            self.failed(error)
        else:
            self.problem = None

    def obstacle(self) -> str | None:
        """In a thread: why nothing could be written there now, as far as that can be known.

        What is written has no name, and is not synced: nobody has to wait for it.
        """
        try:
            self.ask()
            with tempfile.TemporaryFile(dir=self.directory) as probe:
                probe.write(bytes(_PROBE_BYTES))
                probe.flush()
        except FileNotFoundError:
            # It is made anew.
            return None
        except OSError as error:
            return self._unwritable(error)
        return None

    def take(self) -> None:
        """Makes and locks the directory as far as it is not. Raises `OSError`, `MachineError`."""
        self.ask()
        if not self._has_lock():
            lock, before = _open_lock(self.directory)
            self.close()
            self._lock, self.was_left_open = lock, before.endswith(_OPEN)
        self._identity = _identity(self.directory)

    def _has_lock(self) -> bool:
        return self._lock >= 0 and holds_lock(self.directory, self._lock)

    def clear(self) -> list[str]:
        """What is in the place of files and is none is set aside; says which. Raises `OSError`."""
        notes = []
        for path in (self.directory / name for name in _FILES):
            if is_there(path) and not is_file(path):
                what = "a directory" if is_directory(path) else "no regular file"
                notes.append(f"{path} is {what}; kept as {set_aside(path)}")
        return notes

    def remember(self, paths: Iterable[Path]) -> None:
        """These are open from now on. Raises `OSError`."""
        self._files = {path: _identity(path) for path in paths}

    def mark(self, *, is_open: bool) -> None:
        """Say to the next start whether files were open there when the process ended."""
        # Without it that start knows less, and nothing else.
        with contextlib.suppress(OSError):
            self.ask()
            _write_owner(self._lock, _OPEN if is_open else "")
            os.fsync(self._lock)

    def moved(self) -> str | None:
        """Why what is open is not what a start would find; None when it is.

        Raises `OSError` where the disk does not say what is there.
        """
        ahead, self._ahead = self._ahead, None
        if ahead is not None and time.monotonic() - ahead[0] < _ANSWERED_S:
            return ahead[1]
        for path, found in self._identities((self.directory, *self._files)).items():
            if isinstance(found, OSError):
                if found.errno == errno.EIO:
                    self.failed(found)
                    raise found
                return f"{found.filename}: {found.strerror or found}"
            if path == self.directory and found != self._identity:
                return f"{path} was replaced by another directory"
            if path != self.directory and found != self._files[path]:
                return f"{path} was replaced by another file"
        return None

    def fell_silent(self) -> OSError:
        """What was asked there has not answered; returns it as an error."""
        error = OSError(errno.ETIMEDOUT, _SILENT, str(self.directory))
        self.failed(error)
        return error

    def failed(self, error: Exception) -> None:
        """Something could not be written, or read."""
        self.problem = self._unwritable(error)

    def _unwritable(self, error: Exception) -> str:
        reason = getattr(error, "strerror", None) or error
        return f"the state directory {self.directory} cannot be written: {reason}"

    def close(self) -> None:
        """Gives the lock back."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def file_size_limit() -> str | None:
    """What is to be said of the size that files may have, where that is little; None otherwise."""
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if limit == resource.RLIM_INFINITY or limit >= _FILE_BYTES_ENOUGH:
        return None
    most = f"{limit >> 10} KiB"
    return f"files may have {most} at most (raise the limit: LimitFSIZE= or `ulimit -f`)"


def _identity(where: Path | str | int) -> tuple[int, int]:
    # Of a path as it is written: what is inside of the directory, and not where it lies.
    found = os.stat(where)  # noqa: PTH116  # `Path` leaves the dot out
    return found.st_dev, found.st_ino


def _identity_or_error(path: str) -> tuple[int, int] | OSError:
    try:
        return _identity(path)
    except OSError as error:
        return error


def holds_lock(directory: Path, lock: int) -> bool:
    """Whether the lock is the directory's that is there now."""
    try:
        return _identity(directory / LOCK_NAME) == _identity(lock)
    except OSError:
        return False


def lock_directory(directory: Path) -> int:
    """One daemon at a time: the kernel gives the lock back however the process ends."""
    try:
        return _open_lock(directory)[0]
    except OSError as error:
        raise MachineError(
            f"cannot use the directory {directory}: {error.strerror or error}"
        ) from error


def _open_lock(directory: Path) -> tuple[int, str]:
    """The lock, and what stood there."""
    make_directory(directory)
    path = directory / LOCK_NAME
    if is_there(path) and not is_file(path):
        set_aside(path)
    lock = _locked(directory, os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    try:
        before = os.pread(lock, _OWNER_BYTES, 0).decode(errors="replace")
        _write_owner(lock)
    except OSError:
        os.close(lock)
        raise
    return lock, before


def _write_owner(lock: int, note: str = "") -> None:
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n{note}".encode(), 0)


def _locked(directory: Path, opened: int) -> int:
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = ""
        with contextlib.suppress(OSError):
            owner = os.pread(opened, _OWNER_BYTES, 0).decode(errors="replace").partition("\n")[0]
        os.close(opened)
        by = f" (process {owner})" if owner else ""
        raise MachineError(f"another daemon{by} uses {directory}") from None
    return opened
