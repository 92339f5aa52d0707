"""The table in which all workers of the host count rates: a file of the runtime directory.

No part of the state: whoever has used a rate up has done so whatever is committed, whichever worker
ends and whichever daemon runs. The workers write it, by a layout that is the engine's
(`policy/limits/meter`); here it is made, found again by its beginning, and handed out as a
descriptor, so that one that somebody deletes is still the one of all. Without it each worker
counts by itself. Called by `reconciler.workers.slots.bringup` for what a worker has to know.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from reconciler import log

FILE = "rates"
_MAGIC = b"kakehi rates  1\n"
_SEED_BYTES = 32
_BOOT_BYTES = 36
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
TABLE_BYTES = 4096 + 65536 * 16
"""A page with magic, seed and the boot whose clock is meant; 65,536 places for keys."""


class RateTableKeeper:
    """The table of one host, opened when it is asked for first."""

    def __init__(self, runtime_dir: Path) -> None:
        self._path = runtime_dir / FILE
        self._opened: int | None = None

    def descriptor(self) -> int | None:
        """The file; None when it cannot be had, which is said, and tried again next time."""
        if self._opened is None:
            try:
                self._opened = self._open()
            except OSError as error:
                reason = error.strerror or str(error)
                log.warning("each worker counts rates by itself", path=self._path, reason=reason)
        return self._opened

    def close(self) -> None:
        """Workers keep what they have got."""
        if self._opened is not None:
            os.close(self._opened)
            self._opened = None

    def _open(self) -> int:
        with contextlib.suppress(OSError):
            flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
            found = os.open(self._path, flags)
            if self._is_ours(found):
                return found
            os.close(found)
        return self._make()

    def _is_ours(self, file: int) -> bool:
        """Whether it is of this version, of this boot, and whole."""
        head = os.pread(file, len(_MAGIC) + _SEED_BYTES + _BOOT_BYTES, 0)
        is_known = head.startswith(_MAGIC) and head.endswith(_boot_id())
        return is_known and os.fstat(file).st_size == TABLE_BYTES

    def _make(self) -> int:
        """In its place at once and whole: workers that have another one keep it till their end."""
        beside = self._path.with_name(f".{FILE}.new")
        beside.unlink(missing_ok=True)
        made = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            # A page that the system had no room for would end the worker that comes to it.
            os.posix_fallocate(made, 0, TABLE_BYTES)
            os.pwrite(made, _MAGIC + os.urandom(_SEED_BYTES) + _boot_id(), 0)
            beside.replace(self._path)
        except OSError:
            os.close(made)
            raise
        return made


def _boot_id() -> bytes:
    """Times are told by a clock that begins anew with each boot; unknown in some sandboxes."""
    try:
        found = _BOOT_ID.read_bytes().strip()
    except OSError:
        found = b""
    return found.ljust(_BOOT_BYTES)[:_BOOT_BYTES]
