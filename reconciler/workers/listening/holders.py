"""Finds which process has a port that we cannot have, by the tables of the kernel.

Who it is, is for the sentence of a refusal only: what cannot be found out in the time is left out.
What was found is remembered, and what was not is looked for seldom, since both are asked for at
each try. Called by `reconciler.workers.listening.opening`, and by `reconciler.workers.listening.
sockets`, which asks at which addresses somebody listens where a bind would only find ourselves.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

from reconciler import socket_tables

_Ip: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

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
    inodes = {inode for ip, inode in _listening(int(port)) if _in_the_way(ip, wanted)}
    return _process_with(inodes) if inodes else None


def listening_on(port: int) -> Iterator[_Ip]:
    """Each address on which some process listens at that port."""
    for ip, _ in _listening(port):
        yield ip


def overlap(one: _Ip, other: _Ip) -> bool:
    """Whether a connection could mean both, which is so of one address, or of any and one."""
    wild = one.is_unspecified or other.is_unspecified
    return one.version == other.version and (wild or one == other)


def joined(ip: _Ip | str, port: int) -> str:
    """The canonical `IP:port`."""
    return f"[{ip}]:{port}" if ":" in str(ip) else f"{ip}:{port}"


def _listening(port: int) -> Iterator[tuple[_Ip, str]]:
    """Who listens at a port: the address, and the number of the socket."""
    for table in _TABLES:
        lines = list[str]()
        with contextlib.suppress(OSError):
            lines = socket_tables.lines(table)
        for line in lines:
            fields = line.split()
            if len(fields) < 10 or fields[3] != _LISTENING:
                continue
            host, _, number = fields[1].partition(":")
            if int(number, 16) == port:
                yield _address(host), fields[9]


def _address(text: str) -> _Ip:
    """Decode an address of the kernel's: words of four bytes, each in the machine's order."""
    raw = b"".join(bytes.fromhex(text[at : at + 8])[::-1] for at in range(0, len(text), 8))
    return ipaddress.ip_address(raw)


def _in_the_way(one: _Ip, wanted: _Ip) -> bool:
    # "[::]" of others may take IPv4 too, which the table does not tell.
    return (one.version == 6 and one.is_unspecified) or overlap(one, wanted)


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
