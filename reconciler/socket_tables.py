"""The kernel's tables of sockets (proc_net(5)), which know those whose name is gone, too.

Read below our own process: where a service manager leaves nothing of /proc but processes
(`ProcSubset=pid`, as the unit in systemd/), there is no /proc/net. Called by
`reconciler.workers.processes.lost_sockets`, `reconciler.workers.listening.holders` and
`reconciler.cli.asking`.
"""

from __future__ import annotations

_BYTES_MAX = 16 * 1024 * 1024


def lines(table: str) -> list[str]:
    """Return a table (`tcp`, `tcp6`, `unix`) without its heading. Raises `OSError`."""
    path = f"/proc/self/net/{table}"
    with open(path, encoding="utf-8", errors="surrogateescape") as file:  # noqa: PTH123  # imports
        return file.read(_BYTES_MAX).splitlines()[1:]
