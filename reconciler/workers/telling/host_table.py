"""A file of the runtime directory that processes of this host have mapped as words.

No part of the state: it outlives whatever is committed, whichever worker ends and whichever daemon
runs. Its layout is the engine's; here it is made, found again by its beginning, and opened anew for
each process, since a lock of its own tells the others that it lives. One that somebody deletes is
still the one of all. Called by `rates` and `health` beside, which are such tables.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reconciler import log
from schemas.record import record

_SEED_BYTES = 32
_BOOT_BYTES = 36
_FLAGS = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@record
class Layout:
    """What a table is."""

    file: str
    magic: bytes
    kept_bytes: int
    """So much of it has memory from its beginning on."""
    whole_bytes: int
    known_bytes: tuple[int, ...]
    """How long one may be that is found; a shorter one is made longer."""
    otherwise: str
    """What is so where it cannot be had."""


class HostTable:
    """The table of one host, opened when it is asked for first."""

    def __init__(self, runtime_dir: Path, layout: Layout) -> None:
        self._path = runtime_dir / layout.file
        self._layout = layout
        self._opened: int | None = None

    @contextmanager
    def opened(self) -> Iterator[int | None]:
        """The file, opened for one worker, and closed behind.

        None when it cannot be had, which is said, and tried again next time.
        """
        try:
            if self._opened is None:
                self._opened = self._open()
            file = self._anew(self._opened)
        except OSError as error:
            reason = error.strerror or str(error)
            log.warning(self._layout.otherwise, path=self._path, reason=reason)
            yield None
            return
        try:
            yield file
        finally:
            os.close(file)

    def close(self) -> None:
        """Workers keep what they have got."""
        if self._opened is not None:
            os.close(self._opened)
            self._opened = None

    def _open(self) -> int:
        with contextlib.suppress(OSError):
            found = os.open(self._path, _FLAGS)
            try:
                if self._is_ours(found):
                    self._lengthen(found)
                    return found
            except OSError:
                os.close(found)
                raise
            os.close(found)
        return self._make()

    def _anew(self, opened: int) -> int:
        """Under its name, or, where that is another file's by now, by the descriptor."""
        with contextlib.suppress(OSError):
            file = os.open(self._path, _FLAGS)
            if os.path.sameopenfile(file, opened):
                return file
            os.close(file)
        return os.open(f"/proc/self/fd/{opened}", os.O_RDWR | os.O_CLOEXEC)

    def _is_ours(self, file: int) -> bool:
        """Whether it is of this version, of this boot, and whole."""
        head = os.pread(file, len(self._layout.magic) + _SEED_BYTES + _BOOT_BYTES, 0)
        is_known = head.startswith(self._layout.magic) and head.endswith(_boot_id())
        return is_known and os.fstat(file).st_size in self._layout.known_bytes

    def _make(self) -> int:
        """In its place at once and whole: workers that have another one keep it till their end."""
        beside = self._path.with_name(f".{self._layout.file}.new")
        beside.unlink(missing_ok=True)
        made = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            self._lengthen(made)
            os.pwrite(made, self._layout.magic + os.urandom(_SEED_BYTES) + _boot_id(), 0)
            beside.replace(self._path)
        except OSError:
            os.close(made)
            raise
        return made

    def _lengthen(self, file: int) -> None:
        """Have the whole length, and room for what workers come to without asking for it."""
        # A page that the system had no room for would end the worker that comes to it.
        os.posix_fallocate(file, 0, self._layout.kept_bytes)
        os.ftruncate(file, self._layout.whole_bytes)


def _boot_id() -> bytes:
    """Times are told by a clock that begins anew with each boot; unknown in some sandboxes."""
    try:
        found = _BOOT_ID.read_bytes().strip()
    except OSError:
        found = b""
    return found.ljust(_BOOT_BYTES)[:_BOOT_BYTES]
