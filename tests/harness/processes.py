"""What the kernel says about a process: its threads, cores, sockets, wake-ups and memory.

Used wherever a test asserts that a process was left alone: the same process, on the same core, with
the same listening sockets, and asleep.
"""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from tests.harness.ports import split
from tests.harness.sockdiag import CONNECTED, ESTABLISHED, LISTENING, tcp_sockets

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_NANOSLEEP_CALLS = {"x86_64": "230", "aarch64": "115"}


def started(pid: int) -> int:
    """When the process began, in clock ticks: with its pid, what makes it this process."""
    return int(_stat(f"/proc/{pid}/stat")[19])


def is_alive(pid: int) -> bool:
    """Whether it runs; one that is over has closed all that it had, so all of its threads are."""
    try:
        return _stat(f"/proc/{pid}/stat")[0] not in "ZX" or len(threads(pid)) > 1
    except OSError:
        return False


def await_end(pids: Iterable[int], deadline_s: float = 20.0) -> None:
    """Wait until none of them runs.

    Workers whose daemon was killed are left to init, which may look for those that are over only
    every other second.
    """
    wait_until(lambda: not any(map(is_alive, pids)), f"{list(pids)} have ended", deadline_s)


def group(number: int) -> list[int]:
    """The processes of a process group, those that are over with them."""
    found = []
    for name in os.listdir("/proc"):
        with contextlib.suppress(OSError):  # ended since the directory was read
            if name.isdigit() and int(_stat(f"/proc/{name}/stat")[2]) == number:
                found.append(int(name))
    return found


def cpu_seconds(pid: int) -> float:
    """User and system time of all its threads."""
    fields = _stat(f"/proc/{pid}/stat")
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def resident_mib(pid: int, field: str = "VmRSS") -> int:
    return int(_status(pid)[field].split()[0]) // 1024


def threads(pid: int) -> list[int]:
    return sorted(int(name) for name in os.listdir(f"/proc/{pid}/task"))


def wake_ups(pid: int, thread: int | None = None) -> int:
    """How often its threads (or one of them) have gone to sleep and were woken."""
    tids = threads(pid) if thread is None else [thread]
    return sum(
        int(_status(f"{pid}/task/{tid}")["voluntary_ctxt_switches"].split()[0]) for tid in tids
    )


def cores(pid: int) -> set[frozenset[int]]:
    """The distinct sets of cores that its threads may run on."""
    return {frozenset(os.sched_getaffinity(tid)) for tid in threads(pid)}


def last_cores(pid: int) -> set[int]:
    """The cores on which its threads have run last."""
    return {int(_stat(f"/proc/{pid}/task/{tid}/stat")[36]) for tid in threads(pid)}


def is_asleep(pid: int) -> bool:
    """Whether its main thread is in a sleep of its own making, such as a fault point's delay."""
    try:
        call = Path(f"/proc/{pid}/syscall").read_text().split()[0]
    except (OSError, IndexError):
        return False
    return call == _NANOSLEEP_CALLS[platform.machine()]


def stop(pid: int) -> None:
    """SIGSTOP, and wait until the last of its threads stands still. Raises ProcessLookupError."""
    assert pid > 0, "not a process but a group"
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: _thread_states(pid) <= {"T", "Z", "X"}, f"process {pid} stands still")


def resume(pid: int) -> None:
    os.kill(pid, signal.SIGCONT)


def _thread_states(pid: int) -> set[str]:
    states = set()
    for tid in threads(pid):
        with contextlib.suppress(FileNotFoundError):  # ended since the directory was read
            states.add(_stat(f"/proc/{pid}/task/{tid}/stat")[0])
    return states


# Sockets


def socket_inodes(pid: int) -> set[int]:
    found = set()
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            target = os.readlink(f"/proc/{pid}/fd/{name}")
        except OSError:  # closed since the directory was read
            continue
        if target.startswith("socket:["):
            found.add(int(target[8:-1]))
    return found


def listening(pid: int) -> dict[int, str]:
    """Inode → address of the IPv4 sockets that the process listens on."""
    own = socket_inodes(pid)
    found = tcp_sockets(LISTENING)
    return {each.inode: each.local for each in found if each.inode in own}


def clients(pid: int, address: str) -> set[int]:
    """The ports of the clients whose connections to `address` this process has accepted."""
    return set(servers([pid], address))


def servers(pids: Iterable[int], address: str) -> dict[int, int]:
    """The port of each client of `address` → which of the processes has accepted it."""
    owner = {inode: pid for pid in pids for inode in socket_inodes(pid)}
    found = tcp_sockets(CONNECTED, local_port=split(address)[1])
    return {
        split(each.remote)[1]: owner[each.inode]
        for each in found
        if each.local == address and each.inode in owner
    }


def connections(pid: int, address: str) -> set[int]:
    """The local ports of the connections that this process has opened to `address`."""
    own = socket_inodes(pid)
    found = tcp_sockets(ESTABLISHED, remote_port=split(address)[1])
    return {split(each.local)[1] for each in found if each.remote == address and each.inode in own}


def wait_until(condition: Callable[[], object], what: str, deadline_s: float = 20.0) -> None:
    """Look until the condition holds; everything that a test waits for is bounded by this.

    What takes long is looked at less often, since a look costs processor time on both sides.
    """
    began = time.monotonic()
    while not condition():
        waited = time.monotonic() - began
        if waited > deadline_s:
            raise AssertionError(f"not within {deadline_s} s: {what}")
        time.sleep(min(0.05, max(0.005, waited / 10)))


def _stat(path: str) -> list[str]:
    """The fields behind the name, which may hold anything."""
    return Path(path).read_text().rpartition(")")[2].split()


def _status(pid: int | str) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def pause(seconds: float) -> None:
    """Let so much time pass: for the moment of a blow, never as a wait for something."""
    time.sleep(seconds)
