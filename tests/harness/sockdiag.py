"""The kernel's IPv4 TCP sockets, asked for by state and port: sock_diag(7).

For `processes`. /proc/net/tcp would print all of them at each look, with thousands that have been
closed for a while: milliseconds of the machine, where a test looks again and again.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

ESTABLISHED, LISTENING = 1 << 1, 1 << 10
_TIME_WAIT = 1 << 6
# Nobody has accepted what is being opened, and nobody owns what is over.
CONNECTED = 0xFFF & ~LISTENING & ~_TIME_WAIT

_PROTOCOL = 4  # NETLINK_SOCK_DIAG
_BY_FAMILY, _DUMP = 20, 0x301  # SOCK_DIAG_BY_FAMILY; NLM_F_REQUEST | NLM_F_DUMP
_ERROR, _DONE = 2, 3
_HEADER = struct.Struct("=IHHII")
_ASKED = struct.Struct("=BBBxI2H32xI2I")
_ANY_COOKIE = 0xFFFFFFFF
# Family, state; ports, as they are on the wire; addresses; inode.
_TOLD = struct.Struct("=BBxx4s4s12x4s12x28xI")
_PORTS = struct.Struct(">2H")
_CODE = struct.Struct("=i")
_BLOCK_BYTES = 1 << 16


class TcpSocket(NamedTuple):
    """What the kernel tells of one."""

    local: str
    remote: str
    inode: int


def tcp_sockets(states: int, *, local_port: int = 0, remote_port: int = 0) -> Iterator[TcpSocket]:
    """Yield those in one of the states and, unless 0, of these ports."""
    ports = (socket.htons(local_port), socket.htons(remote_port))
    tcp = (socket.AF_INET, socket.IPPROTO_TCP, 0)
    asked = _ASKED.pack(*tcp, states, *ports, 0, _ANY_COOKIE, _ANY_COOKIE)
    header = _HEADER.pack(_HEADER.size + len(asked), _BY_FAMILY, _DUMP, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _PROTOCOL) as kernel:
        kernel.send(header + asked)
        while True:
            block, at = kernel.recv(_BLOCK_BYTES), 0
            while at < len(block):
                size, kind, _, _, _ = _HEADER.unpack_from(block, at)
                if kind == _DONE:
                    return
                if kind == _ERROR:
                    (code,) = _CODE.unpack_from(block, at + _HEADER.size)
                    raise OSError(-code, os.strerror(-code))
                yield _told(block, at + _HEADER.size)
                at += (size + 3) & ~3


def _told(block: bytes, at: int) -> TcpSocket:
    _, _, ports, source, destination, inode = _TOLD.unpack_from(block, at)
    local, remote = _PORTS.unpack(ports)
    return TcpSocket(
        f"{socket.inet_ntoa(source)}:{local}", f"{socket.inet_ntoa(destination)}:{remote}", inode
    )
