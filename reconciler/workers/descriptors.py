"""Whether there are descriptors enough for the sockets of all listeners and workers.

A listener is a socket for each worker; the daemon holds them all, and under systemd the manager
keeps another of each (`FileDescriptorStoreMax=`), so that none is lost when the service dies. Too
few of either is told before it is felt. Called by `reconciler.daemon` at the start and for status.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Mapping

_OWN = 128
"""What the daemon needs beside: its database, control connections, the repository."""
_PER_WORKER = 8
"""Its control connection, process, counters, and those of a successor."""


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
    # systemd tells how many it keeps since version 254.
    kept = environment.get("FDSTORE", "")
    if kept.isdecimal() and 0 < int(kept) < sockets:
        found.append(
            f"{of} have {sockets} sockets, and systemd keeps {kept} of them: raise "
            "FileDescriptorStoreMax="
        )
    return found
