"""The service manager: readiness, status, watchdog, and the descriptor store of systemd.

A few lines of the documented protocol (sd_notify(3), sd_listen_fds(3)) rather than a library.
Without NOTIFY_SOCKET everything here does nothing. Called by `reconciler.daemon`.
"""

from __future__ import annotations

import array
import contextlib
import os
import socket
from collections.abc import MutableMapping

_FIRST_PASSED_FD = 3
# systemd's limit for FDNAME=.
_NAME_BYTES_MAX = 255


class Notifier:
    """Speaks to the service manager that started us, if one did."""

    def __init__(self, path: str | None = None) -> None:
        self._path = path if path is not None else os.environ.get("NOTIFY_SOCKET", "")
        self._stored: dict[str, int] = {}
        self._status = ""

    @property
    def active(self) -> bool:
        """Whether anybody listens."""
        return bool(self._path)

    def ready(self) -> None:
        """Traffic is served, or there is none to serve yet."""
        self._send("READY=1")

    def stopping(self) -> None:
        """We are on our way out."""
        self._send("STOPPING=1")

    def alive(self) -> None:
        """The watchdog's sign of life."""
        self._send("WATCHDOG=1")

    def status(self, text: str) -> None:
        """One line for `systemctl status`; sent when it is another."""
        if text != self._status:
            self._status = text
            self._send("STATUS=" + text.replace("\n", " "))

    def store(self, wanted: dict[str, int]) -> None:
        """Makes the descriptor store hold exactly these: name → descriptor."""
        if not self.active:
            return
        for name in self._stored.keys() - wanted.keys():
            self._send(f"FDSTOREREMOVE=1\nFDNAME={name}")
            del self._stored[name]
        for name, descriptor in wanted.items():
            inode = os.fstat(descriptor).st_ino
            if self._stored.get(name) == inode:
                continue
            if name in self._stored:
                self._send(f"FDSTOREREMOVE=1\nFDNAME={name}")
            self._send(f"FDSTORE=1\nFDNAME={name}", descriptor)
            self._stored[name] = inode

    def assume_stored(self, held: dict[str, int]) -> None:
        """What the manager passed to us is in its store already."""
        for name, descriptor in held.items():
            self._stored[name] = os.fstat(descriptor).st_ino

    def _send(self, text: str, descriptor: int | None = None) -> None:
        if not self.active:
            return
        path = "\0" + self._path[1:] if self._path.startswith("@") else self._path
        rights: list[tuple[int, int, array.array[int]]] = []
        if descriptor is not None:
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))]
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out,
            contextlib.suppress(OSError),
        ):
            # A manager that is being restarted itself must not end us.
            out.settimeout(1.0)
            out.connect(path)
            out.sendmsg([text.encode()], rights)


def watchdog_interval_s(environment: dict[str, str]) -> float | None:
    """Half of what the manager allows between two signs of life; None: it does not watch."""
    try:
        allowed = int(environment["WATCHDOG_USEC"])
        meant = int(environment.get("WATCHDOG_PID", os.getpid()))
    except (KeyError, ValueError):
        return None
    return allowed / 2e6 if meant == os.getpid() and allowed > 0 else None


def take_passed(environment: MutableMapping[str, str]) -> list[tuple[str, int]]:
    """(name, descriptor) of each descriptor that the manager passed; they are ours now."""
    try:
        count = int(environment.pop("LISTEN_FDS"))
        meant = int(environment.pop("LISTEN_PID"))
    except (KeyError, ValueError):
        return []
    names = environment.pop("LISTEN_FDNAMES", "").split(":")
    if meant != os.getpid():
        return []
    passed: list[tuple[str, int]] = []
    for position in range(count):
        descriptor = _FIRST_PASSED_FD + position
        name = names[position] if position < len(names) else ""
        try:
            os.set_inheritable(descriptor, False)
        except OSError:
            continue
        passed.append((name, descriptor))
    return passed


def socket_name(worker: int, address: str) -> str:
    """The name under which a listening socket is stored; a colon may not be in it."""
    return f"w{worker}_{address.replace(':', '_')}"[:_NAME_BYTES_MAX]


def worker_of(name: str) -> int | None:
    """The worker that a stored socket belongs to."""
    number = name.partition("_")[0].removeprefix("w")
    return int(number) if name.startswith("w") and number.isdigit() else None
