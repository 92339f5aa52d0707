"""The drained backends: an overlay that an operator lays over the state, with owner and expiry.

No part of the state or its digest: git says what a backend is, the overlay that it gets no new
requests for now. Survives a restart in the state database, as a text with a number that grows with
each change: workers have the same one, so that a start knows which is the newest. Called by
`reconciler.reporting.control.draining`, and by `reconciler.workers.slots.bringup` for what a fresh
worker has to know.
"""

from __future__ import annotations

import asyncio
import errno
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from reconciler import log
from reconciler.storage.file.database import DamagedError, UnreadError
from reconciler.storage.kept.memory import Memory
from schemas.record import record

NAME = "drains"
_LOOK_S = 10.0


@record
class Drain:
    """One drained backend; times are ISO 8601 in UTC, `expires_at` None is until undrained."""

    backend: str
    owner: str
    since: str
    expires_at: str | None

    def is_over(self, now: datetime) -> bool:
        """Whether it has ended by itself."""
        return self.expires_at is not None and datetime.fromisoformat(self.expires_at) <= now


class Drains:
    """All of them. `changed` is called with them on the event loop when the list is another.

    `expired` is called with those that have ended by themselves.
    """

    def __init__(
        self,
        memory: Memory,
        changed: Callable[[Drains], None] = lambda _: None,
        expired: Callable[[list[Drain]], None] = lambda _: None,
    ) -> None:
        self._memory = memory
        self._timer: asyncio.TimerHandle | None = None
        self._changed = changed
        self._expired = expired
        # What is kept could not be read, so that it is not to be replaced.
        self._is_unread = False
        self._number, self._drains = self._kept()
        # What is kept of these, where they could not be written, holds no more.
        self._ended: set[str] = set()

    @property
    def text(self) -> str:
        """What is kept of them; empty when there never were any."""
        if not self._number and not self._drains:
            return ""
        drains = [asdict(each) for each in self._drains.values()]
        return json.dumps({"number": self._number, "drains": drains})

    def names(self) -> list[str]:
        """The overlay as the workers take it."""
        return sorted(self._drains)

    def ends(self) -> dict[str, float]:
        """When each ends by itself, in seconds since 1970; those that do."""
        return {
            name: datetime.fromisoformat(each.expires_at).timestamp()
            for name, each in self._drains.items()
            if each.expires_at is not None
        }

    def all(self) -> list[Drain]:
        """All drains, as `status` tells of them."""
        return [self._drains[name] for name in self.names()]

    def get(self, backend: str) -> Drain | None:
        """The drain of one backend."""
        return self._drains.get(backend)

    def add(self, backend: str, owner: str, ttl_s: float | None) -> Drain:
        """Drains a backend, or moves its owner and expiry. Raises `OSError`."""
        return self.add_all([backend], owner, ttl_s)[0]

    def add_all(self, backends: Sequence[str], owner: str, ttl_s: float | None) -> list[Drain]:
        """Drains several at once. Raises `OSError`."""
        now = datetime.now(UTC)
        expires = None if ttl_s is None else (now + timedelta(seconds=ttl_s)).isoformat()
        made = []
        for backend in backends:
            before = self._drains.get(backend)
            since = before.since if before else now.isoformat()
            made.append(Drain(backend, owner, since, expires))
        self._replace({**self._drains, **{each.backend: each for each in made}})
        return made

    def remove(self, backend: str) -> bool:
        """Whether it was drained. Raises `OSError`."""
        return self.remove_all([backend]) != []

    def remove_all(self, backends: Sequence[str]) -> list[Drain]:
        """Those of them that were drained. Raises `OSError`."""
        ended = [self._drains[name] for name in backends if name in self._drains]
        gone = {each.backend for each in ended}
        if ended:
            self._replace({name: each for name, each in self._drains.items() if name not in gone})
        return ended

    def write(self) -> None:
        """Writes them anew, after they were lost or could not be written. Raises `OSError`.

        With those of before that could not be read until now.
        """
        self._is_unread = True
        self._replace(self._drains)

    def schedule(self) -> None:
        """Ends what has expired, and wakes up again when the next one does."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = datetime.now(UTC)
        left = {name: each for name, each in self._drains.items() if not each.is_over(now)}
        if len(left) != len(self._drains):
            log.info("drains have expired", backends=",".join(self._drains.keys() - left.keys()))
            self._expired([each for name, each in self._drains.items() if name not in left])
            try:
                self._replace(left)
            except OSError as error:
                log.warning("cannot write the drains", reason=error.strerror or error)
            return
        times = [
            datetime.fromisoformat(each.expires_at) for each in left.values() if each.expires_at
        ]
        if times:
            # The clock may jump, and a machine sleep: looking again so soon bounds the error.
            delay = min(_LOOK_S, max(0.0, (min(times) - now).total_seconds()) + 0.01)
            self._timer = asyncio.get_running_loop().call_later(delay, self.schedule)

    def stop(self) -> None:
        """End the timer that waits for a drain to expire."""
        if self._timer is not None:
            self._timer.cancel()

    def _replace(self, drains: dict[str, Drain]) -> None:
        self._ended = (self._ended | self._drains.keys()) - drains.keys()
        # Beyond that of whoever has lost these, and began anew.
        self._number = max(self._number + 1, int(datetime.now(UTC).timestamp() * 1000))
        # What cannot be written holds all the same, as long as a worker has heard of it.
        self._drains = drains
        try:
            if self._is_unread:
                self._drains = {**self._of_before(), **drains}
            self._memory.keep(NAME, self.text)
        finally:
            self._changed(self)
            self.schedule()

    def _of_before(self) -> dict[str, Drain]:
        """What is kept and has not ended since. Raises `OSError` while it cannot be read."""
        _, kept = self._kept()
        if self._is_unread:
            raise OSError(errno.EIO, "the drains of before cannot be read")
        return {name: each for name, each in kept.items() if name not in self._ended}

    def _kept(self) -> tuple[int, dict[str, Drain]]:
        self._is_unread = False
        try:
            return parsed(self._memory.kept(NAME) or "[]")
        except (DamagedError, OSError, ValueError, TypeError) as error:
            self._is_unread = isinstance(error, OSError | UnreadError)
            log.warning("the drains cannot be read", reason=error)
            return 0, {}


def parsed(text: str) -> tuple[int, dict[str, Drain]]:
    """What is kept of drains: its number, and each by its backend.

    Raises `TypeError` or `ValueError` when somebody has damaged it.
    """
    found: Any = json.loads(text)
    # A list has no number: it is of the version before these.
    numbered = found if isinstance(found, dict) else {"number": 0, "drains": found}
    number, found = numbered.get("number"), numbered.get("drains")
    if not isinstance(number, int) or not isinstance(found, list):
        raise TypeError("drains are a number and a list")
    return number, {each.backend: each for each in map(_decoded, found)}


def _decoded(found: object) -> Drain:
    """One drain of the file. Raises `TypeError` or `ValueError` when somebody has damaged it."""
    if not isinstance(found, dict):
        raise TypeError("a drain is a map")
    drain = Drain(**found)
    if not all(isinstance(each, str) for each in (drain.backend, drain.owner, drain.since)):
        raise TypeError("backend, owner and since are texts")
    if drain.expires_at is not None and datetime.fromisoformat(drain.expires_at).tzinfo is None:
        raise ValueError("expires_at has no time zone")
    return drain
