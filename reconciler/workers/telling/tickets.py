"""The keys of TLS session tickets: made here, kept in the state directory, shared by all workers.

No part of the state or its digest: they say nothing of what is served, only that a client need not
go through a whole handshake at another worker or after a restart. The newest key seals, older ones
still open what they sealed. A key that leaks takes forward secrecy from the sessions that it
sealed, so none lives for a day. The file is read by the workers; no key is ever logged or sent.
Called by `reconciler.daemon`, and by `reconciler.workers.slots.bringup` for what a worker has to
know.
"""

from __future__ import annotations

import asyncio
import os
import stat
import time
from collections.abc import Callable, Iterable
from hashlib import blake2b
from pathlib import Path

from reconciler import log
from reconciler.durable import replace_durably
from reconciler.presence import is_file
from reconciler.storage.file.database import DamagedError
from reconciler.storage.kept.memory import Memory
from reconciler.workers.linked.worker import Worker
from schemas.messages import wire
from schemas.messages.files import read_regular

FILE = NAME = "tickets"
KEY_BYTES = 48
"""A name of 16 bytes, which tickets carry, and a secret of 32."""

KEYS_MAX = 3
ROTATION_S = 6 * 3600.0
"""Tickets live for 12 hours: those of a key that was replaced twice have all expired."""

_RETRY_S = 60.0


class TicketKeeper:
    """The file of one daemon. `rotation_s` is the age at which the newest key is replaced."""

    def __init__(
        self,
        state_dir: Path,
        memory: Memory,
        rotation_s: float = ROTATION_S,
        ask: Callable[[], None] = lambda: None,
    ) -> None:
        """`ask` raises `OSError` while the state directory does not answer."""
        self.path = state_dir / FILE
        self._ask = ask
        self._memory = memory
        self._rotation_s = rotation_s
        self._start_anew_if_damaged()

    def rotate_if_due(self) -> bool:
        """Make a new key when the newest is old, or there is none. Raises `OSError`."""
        if self._due_in_s() > 0:
            return False
        keys = (os.urandom(KEY_BYTES) + self._kept())[: KEYS_MAX * KEY_BYTES]
        replace_durably(self.path, keys)
        self._memory.keep(NAME, _check_sum(keys))
        return True

    async def run(self, changed: Callable[[], None]) -> None:
        """Rotate for ever; `changed` is called after each rotation."""
        while True:
            delay_s = _RETRY_S
            try:
                if self.rotate_if_due():
                    changed()
                delay_s = max(self._due_in_s(), 0.0)
            except OSError as error:
                # Workers go on with the keys that they have.
                log.warning("no new keys for TLS tickets", path=self.path, reason=error.strerror)
            await asyncio.sleep(delay_s)

    def _due_in_s(self) -> float:
        self._ask()
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return 0.0
        if not stat.S_ISREG(found.st_mode):
            return 0.0
        age_s = time.time() - found.st_mtime
        # A clock that was set back must not keep a key in service for longer.
        return self._rotation_s - age_s if age_s >= 0 else 0.0

    def _kept(self) -> bytes:
        """What was written before; what is no file in its place has no keys."""
        self._ask()
        if not is_file(self.path):
            return b""
        return read_regular(self.path)

    def _start_anew_if_damaged(self) -> None:
        """Sessions of keys that nobody has any more are not resumed, and nothing else is lost."""
        try:
            found, check_sum = self._kept(), self._memory.kept(NAME)
            if not found and check_sum is None:
                return
            if len(found) % KEY_BYTES == 0 and check_sum == _check_sum(found):
                return
            # What nobody can tell from noise, or from zeros, is nothing to seal with.
            log.warning(
                "keys for TLS tickets are made anew, and sessions not resumed once",
                path=self.path,
                reason=_why_anew(found, check_sum),
            )
            self.path.unlink(missing_ok=True)
            self.rotate_if_due()
        except (DamagedError, OSError) as error:
            log.warning("keys for TLS tickets cannot be read", path=self.path, reason=error)


def tell_of_keys(workers: Iterable[Worker], path: Path) -> None:
    """Tells workers that the keys in this file are new."""
    message = wire.TicketKeys(path=str(path))
    for worker in workers:
        # A worker that is gone by now gets them when its successor is brought up.
        worker.link.ask(message).add_done_callback(asyncio.Future.exception)


def _why_anew(found: bytes, check_sum: str | None) -> str:
    if not found or len(found) % KEY_BYTES:
        return "they are damaged"
    if check_sum is None:
        return "their sum is not in the state database any more"
    return "they are damaged, or the state database is older than they are"


def _check_sum(keys: bytes) -> str:
    return blake2b(keys, digest_size=16).hexdigest()
