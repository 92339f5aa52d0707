"""Finds which process has a port that we cannot have, by the tables of the kernel.

For the sentence of a refusal only: what cannot be found out in the time is left out. What was
found is remembered, and what was not is looked for seldom, since both are asked for at each try.
Called by `reconciler.workers.listening.opening`.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
import time
from collections.abc import Iterator
from pathlib import Path

from reconciler import socket_tables

_PROC = Path("/proc")
_TABLES = ("tcp", "tcp6")
_LISTENING = "0A"
# Reading who has which file takes a call for each open one of each process.
_LOOK_S = 0.2
# The loop waits for it, and so rests from it for so many times as long.
_PAUSE_SHARE = 20.0
_REMEMBERED_MAX = 64
_SOCKET = re.compile(r"socket:\[([0-9]+)\]")


_known: dict[str, tuple[Path, str]] = {}
"""By the number of a socket: where a process has it, and the words for that process."""
_not_before: dict[str, float] = {}
"""When one of which nobody could be told is looked for again."""


def holder(address: str) -> str | None:
    """Return `nginx (process 812)`, or None when nobody can be told."""
    host, _, port = address.rpartition(":")
    wanted = ipaddress.ip_address(host.strip("[]"))
    inodes = set(_listening(wanted, int(port)))
    return _process_with(inodes) if inodes else None


def _listening(wanted: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int) -> Iterator[str]:
    for table in _TABLES:
        lines = list[str]()
        with contextlib.suppress(OSError):
            lines = socket_tables.lines(table)
        for line in lines:
            fields = line.split()
            if len(fields) < 10 or fields[3] != _LISTENING:
                continue
            host, _, number = fields[1].partition(":")
            if int(number, 16) == port and _overlaps(_address(host), wanted):
                yield fields[9]


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Decode an address of the kernel's: words of four bytes, each in the machine's order."""
    raw = b"".join(bytes.fromhex(text[at : at + 8])[::-1] for at in range(0, len(text), 8))
    return ipaddress.ip_address(raw)


def _overlaps(
    one: ipaddress.IPv4Address | ipaddress.IPv6Address,
    other: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> bool:
    # "[::]" of others may take IPv4 too, which the table does not tell.
    if isinstance(one, ipaddress.IPv6Address) and one.is_unspecified:
        return True
    wild = one.is_unspecified or other.is_unspecified
    return one.version == other.version and (wild or one == other)


def _process_with(inodes: set[str]) -> str | None:
    for inode in inodes & _known.keys():
        link, told = _known[inode]
        with contextlib.suppress(OSError):
            if str(link.readlink()) == f"socket:[{inode}]":
                return told
        _known.pop(inode, None)
    began = time.monotonic()
    if all(_not_before.get(inode, 0.0) > began for inode in inodes):
        return None
    found = _found(inodes, began + _LOOK_S)
    for memory in (_known, _not_before):
        if len(memory) > _REMEMBERED_MAX:
            memory.clear()
    if found is None:
        ended = time.monotonic()
        _not_before.update(dict.fromkeys(inodes, ended + _PAUSE_SHARE * (ended - began)))
        return None
    inode, link, told = found
    _known[inode] = link, told
    return told


def _found(inodes: set[str], deadline: float) -> tuple[str, Path, str] | None:
    """Return one of the sockets, where a process has it, and the words for that process."""
    for process in _PROC.glob("[0-9]*"):
        if time.monotonic() > deadline:
            return None
        with contextlib.suppress(OSError):
            for link in (process / "fd").iterdir():
                found = _SOCKET.fullmatch(str(link.readlink()))
                if found is not None and found[1] in inodes:
                    name = (process / "comm").read_text(errors="replace").strip()
                    shown = "".join(char if char.isprintable() else "?" for char in name)
                    return found[1], link, f"{shown} (process {process.name})"
    return None
