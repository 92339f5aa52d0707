"""The daemon's descriptors: whether there are enough, and those kept back for when there are not.

A listener is a socket for each worker; the daemon holds them all, and under systemd the manager
keeps another of each (`FileDescriptorStoreMax=`), so that none is lost when the service dies. Too
few of either is told before it is felt. When they do run out, the reserve lets questions be
answered. Called by `reconciler.daemon` at the start and for status, and by
`reconciler.reporting.accepting` for each question; `transaction.runner` asks what workers have.
"""

from __future__ import annotations

import contextlib
import math
import os
import resource
from collections.abc import Mapping
from pathlib import Path

_OWN = 128
"""What the daemon needs beside: its database, control connections, the repository, a reserve."""
_PER_WORKER = 8
"""Its control connection, process, counters, and those of a successor."""

PER_LISTENER = 3
"""What a worker needs while it takes a listener over: as it comes, its own, the engine's."""
_WORKERS_OWN = 64
"""What it has beside, without connections."""

_KEPT = 24
_FOR_ANSWER = 12
"""What a question may open: its connection, the database three times, the repository, a module."""


def shortages(
    listeners: int, workers: int, environment: Mapping[str, str] = os.environ
) -> list[str]:
    """Return a sentence for each limit that is too low."""
    found = []
    sockets = listeners * workers
    needed = sockets + workers * _PER_WORKER + _OWN
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    of = f"{listeners} listener{'s' * (listeners != 1)} on {workers} worker{'s' * (workers != 1)}"
    if limit != resource.RLIM_INFINITY and limit < needed:
        found.append(
            f"{of} take {needed} descriptors, and {limit} may be open: raise LimitNOFILE= "
            "(or `ulimit -n`)"
        )
    needed = listeners * PER_LISTENER + _WORKERS_OWN
    if limit != resource.RLIM_INFINITY and limit < needed:
        found.append(
            f"{listeners} listener{'s' * (listeners != 1)} take {needed} descriptors in each "
            f"worker, and {limit} may be open: raise LimitNOFILE= (or `ulimit -n`)"
        )
    # systemd tells how many it keeps since version 254.
    kept = environment.get("FDSTORE", "")
    if kept.isdecimal() and 0 < int(kept) < sockets:
        found.append(
            f"{of} have {sockets} sockets, and systemd keeps {kept} of them: raise "
            "FileDescriptorStoreMax="
        )
    return found


def room_of(process: int) -> float:
    """Return how many descriptors a process may still open; no limit where that cannot be told."""
    try:
        limit, _ = resource.prlimit(process, resource.RLIMIT_NOFILE)
        if limit == resource.RLIM_INFINITY:
            return math.inf
        return limit - sum(1 for _ in Path(f"/proc/{process}/fd").iterdir())
    except OSError:
        return math.inf


class Reserve:
    """Descriptors that nobody else can take until a question needs them."""

    def __init__(self) -> None:
        self._kept: list[int] = []
        self._answering = 0
        self._are_few = False
        self._look()

    @property
    def problem(self) -> str | None:
        """A sentence, when they had run out as it was last looked."""
        if not self._are_few:
            return None
        return (
            "file descriptors have run out, nothing new can be opened: raise LimitNOFILE= (or "
            "`ulimit -n`) and start again; what is asked is answered from a reserve"
        )

    def begin(self) -> None:
        """Before something is asked: gives the reserve up if there is too little beside it."""
        self._answering += 1
        self._look()

    def end(self) -> None:
        """Once it is answered: takes back what those who still wait for an answer do not need."""
        self._answering -= 1
        self._open(max(0, _KEPT - _FOR_ANSWER * self._answering))

    def close(self) -> None:
        """Gives it up for good."""
        self._close(0)

    def _look(self) -> None:
        self._open(_KEPT + _FOR_ANSWER)
        self._are_few = len(self._kept) < _KEPT + _FOR_ANSWER
        self._close(0 if self._are_few else _KEPT)

    def _open(self, count: int) -> None:
        with contextlib.suppress(OSError):
            while len(self._kept) < count:
                self._kept.append(os.open(os.devnull, os.O_RDONLY))

    def _close(self, count: int) -> None:
        while len(self._kept) > count:
            os.close(self._kept.pop())
