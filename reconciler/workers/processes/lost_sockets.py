"""Workers that serve, or a daemon that runs, whose control socket is gone from its directory.

A log-out or a cleaning job may take the runtime directory away. A later daemon would then find none
of the workers, and their ports be taken for ever. The kernel still tells where their sockets were
bound (`socket_tables`), and a signal makes a worker bind its own anew. Called by
`reconciler.loop.repair.recovery` at a start, by `reconciler.workers.watching.runtime_directory`
while a daemon runs, by `reconciler.workers.slots.tending`, by `orphans` beside and by
`reconciler.cli.asking`.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections.abc import Collection
from pathlib import Path

from reconciler import socket_tables
from reconciler.workers.processes import spawning, worker_sockets

BIND_ANEW = signal.SIGUSR2
"""What a worker binds its socket anew by: `proxy.worker`."""

_LISTENS = "00010000"
_PLACE = re.compile(rf"/{worker_sockets.WORKERS_DIRECTORY}/[0-9]+\.[a-z]+\s*\Z")
_NAME = re.compile(rb"kakehi-w([0-9]+)")
_CAUGHT = re.compile(r"^SigCgt:\s*([0-9a-f]+)$", re.MULTILINE)
# A worker does it in a turn of its loop; one that hangs is not waited for.
_WAIT_S = 2.0
_LOOK_S = 0.02


def regain(runtime_dir: Path) -> dict[int, int]:
    """Have lost sockets bound anew; return the number of each worker that did so, by process.

    Returns when all can be connected to, or after two seconds. Raises `OSError`, as `serving` does.
    """
    told: dict[int, int] = {}
    serving_here, unread = _holding(_bound(runtime_dir))
    # Whose files we may not read binds what it had, which may be another directory's.
    for pid, number in {**unread, **serving_here}.items():
        if _is_found(runtime_dir, pid, number):
            continue
        with contextlib.suppress(OSError):
            watched = os.pidfd_open(pid)
            try:
                # Looked at again behind the pidfd: from here on it names this process or none.
                if spawning.is_worker(pid, number) and _hears(pid):
                    signal.pidfd_send_signal(watched, BIND_ANEW)
                    told[pid] = number
            finally:
                os.close(watched)
    deadline = time.monotonic() + _WAIT_S
    left = set(told)
    while left and time.monotonic() < deadline:
        time.sleep(_LOOK_S)
        left -= {pid for pid in left if _is_found(runtime_dir, pid, told[pid])}
    return {pid: number for pid, number in told.items() if pid not in left}


def serving(runtime_dir: Path, sockets: Collection[str] = ()) -> dict[int, int]:
    """Return the number of each worker that was bound here, be it found or not, by its process.

    And of those that have one of these sockets, named as `/proc/PID/fd` does. Raises `OSError`: it
    is not known who serves.
    """
    return _holding(_bound(runtime_dir).union(sockets))[0]


def hidden(runtime_dir: Path, found: Collection[int]) -> dict[int, int]:
    """Return the number of each worker that may be bound here and shows its files to others only.

    `found` are the processes that are known. Raises `OSError`, as `serving` does.
    """
    bound = _bound(runtime_dir)
    # Each listens at one place: if no more do than are known, those are another directory's.
    if len(bound) <= len(found):
        return {}
    _, unread = _holding(bound)
    others = {*found, *_answering_elsewhere()} if unread else ()
    return {
        pid: number
        for pid, number in sorted(unread.items(), key=lambda each: each[1])
        if pid not in others and spawning.is_worker(pid, number)
    }


def daemon(control_socket: Path) -> int | None:
    """Return the process of the daemon that listens at a place, be its socket found there or not.

    0 where its files may not be read, None where there is none. Raises `OSError`.
    """
    place = str(control_socket.absolute())
    bound = {f"socket:[{row[6]}]" for row in _listening() if row[7] == place}
    for process in Path("/proc").glob("[0-9]*") if bound else ():
        with contextlib.suppress(OSError):
            if any(str(link.readlink()) in bound for link in (process / "fd").iterdir()):
                return int(process.name)
    return 0 if bound else None


def _answering_elsewhere() -> set[int]:
    """The workers that can be connected to, wherever they are bound."""
    found = set[int]()
    for place in {Path(row[7]) for row in _listening() if _PLACE.search(row[7])}:
        with contextlib.suppress(OSError):
            answered = worker_sockets.connect(place)
            if answered is not None:
                answered[0].close()
                found.add(answered[1])
    return found


def _holding(sockets: Collection[str]) -> tuple[dict[int, int], dict[int, int]]:
    """(the workers that have one of these sockets, those whose files we may not read).

    A worker that may bind to low ports shows them to nobody who may not, not even to its user.
    """
    found, unread = dict[int, int](), dict[int, int]()
    for pid in _processes() if sockets else ():
        with contextlib.suppress(OSError):
            name = _NAME.fullmatch(_name_of(pid))
            if name is None:
                continue
            number = int(name[1])
            try:
                held = {str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()}
            except PermissionError:
                unread[pid] = number
                continue
            if not held.isdisjoint(sockets):
                found[pid] = number
    return found, unread


def _processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]  # noqa: PTH208  # many


def _name_of(pid: int) -> bytes:
    """Raises `OSError`. Asked of all processes of a machine, now and then: hence no file object."""
    opened = os.open(f"/proc/{pid}/comm", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(opened, 64).rstrip()
    finally:
        os.close(opened)


def _bound(runtime_dir: Path) -> set[str]:
    """The sockets that listen there by the table, as `/proc/PID/fd` names them."""
    prefix = f"{runtime_dir.absolute()}/{worker_sockets.WORKERS_DIRECTORY}/"
    return {f"socket:[{row[6]}]" for row in _listening() if row[7].startswith(prefix)}


def _listening() -> list[list[str]]:
    rows = [line.split(maxsplit=7) for line in socket_tables.lines("unix")]
    return [row for row in rows if len(row) == 8 and row[3] == _LISTENS]


def _is_found(runtime_dir: Path, pid: int, number: int) -> bool:
    for way in (worker_sockets.socket_path, worker_sockets.successor_path):
        try:
            answered = worker_sockets.connect(way(runtime_dir, number))
        except BlockingIOError:
            # There is nothing to bind anew where somebody listens.
            return True
        if answered is not None:
            answered[0].close()
            if answered[1] == pid:
                return True
    return False


def _hears(pid: int) -> bool:
    """Whether it has a handler of that signal: a worker of an older version would die of it."""
    found = _CAUGHT.search(Path(f"/proc/{pid}/status").read_text(encoding="ascii"))
    return found is not None and bool(int(found[1], 16) >> (BIND_ANEW - 1) & 1)
