"""The accounts at authorities that there have been: one whose key is gone is told.

A key lies in a file beside what was issued, and is made where there is none, so that an account
that somebody took away would become another one in silence: what is bound to it (limits, records
that name it) is not the new one's. Called by `certifying` and, for the path, `client` beside.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from reconciler import log
from reconciler.acme.order import Order
from reconciler.presence import is_there
from reconciler.storage.file.database import DamagedError
from reconciler.storage.kept.memory import Memory

NAME = "accounts"
_KNOWN_MAX = 1000


def path_of(order: Order, directory: Path) -> Path:
    """Where the key of an order's account lies."""
    text = "\n".join((order.directory, *order.contact))
    return directory / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.pem"


class Accounts:
    """Those of one daemon, by their files."""

    def __init__(self, directory: Path, memory: Memory, tell: Callable[[str], None]) -> None:
        self.directory = directory
        self._memory = memory
        self._tell = tell

    def has_key(self, order: Order) -> bool:
        """Whether there is a key for an order; in a thread, since the disk may hang."""
        return is_there(path_of(order, self.directory))

    def expect(self, order: Order, *, has_key: bool) -> None:
        """Before it is asked for: tell where there was a key, and is none."""
        path = path_of(order, self.directory)
        if not has_key and path.stem in self._known():
            told = f"the key of the account at {order.directory} is gone: a new account is made"
            log.warning(told, path=path)
            self._tell(told)

    def note(self, order: Order, *, has_key: bool) -> None:
        """There is one now, if the order came as far as that."""
        path = path_of(order, self.directory)
        known = self._known()
        if path.stem in known or not has_key:
            return
        try:
            self._memory.keep(NAME, "\n".join([*known, path.stem][-_KNOWN_MAX:]))
        except OSError as error:
            log.warning("an account is not remembered", path=path, reason=error.strerror)

    def _known(self) -> list[str]:
        try:
            return (self._memory.kept(NAME) or "").split()
        except (DamagedError, OSError):
            # Met by others, and told: nothing is known then.
            return []
