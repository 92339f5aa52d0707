"""The service manager: readiness, status, watchdog, and the descriptor store of systemd.

A few lines of the documented protocol (sd_notify(3), sd_listen_fds(3)) rather than a library.
Without NOTIFY_SOCKET everything here does nothing. Called by `reconciler.systemd.service`.
"""

from __future__ import annotations

import array
import os
import socket
from collections.abc import MutableMapping

_FIRST_PASSED_FD = 3
# systemd's limit for FDNAME=.
_NAME_BYTES_MAX = 255


class Notifier:
    """Speaks to the service manager that started us, if one did.

    It may not read: it is restarted, or has just been told of many sockets, and its queue holds a
    dozen messages. Nothing here waits for it. What it could not be told is kept, the last of each
    kind, until `flush` gets rid of it.
    """

    def __init__(self, path: str | None = None) -> None:
        self._path = path if path is not None else os.environ.get("NOTIFY_SOCKET", "")
        # What is said once or again and again, by its field.
        self._unsaid: dict[str, str] = {}
        # Name → inode of what the store holds, and (descriptor, inode) of what it is to hold.
        self._stored: dict[str, int] = {}
        self._wanted: dict[str, tuple[int, int]] = {}
        self._status = ""
        # Set while the manager has something still to be told.
        self.is_behind = False

    @property
    def active(self) -> bool:
        """Whether anybody listens."""
        return bool(self._path)

    def ready(self) -> None:
        """Traffic is served, or there is none to serve yet."""
        self._say("READY", "1")

    def stopping(self) -> None:
        """We are on our way out."""
        self._say("STOPPING", "1")

    def alive(self) -> None:
        """The watchdog's sign of life."""
        self._say("WATCHDOG", "1")

    def status(self, text: str) -> None:
        """One line for `systemctl status`; sent when it is another."""
        if text != self._status:
            self._status = text
            self._say("STATUS", text.replace("\n", " "))

    def store(self, wanted: dict[str, int]) -> None:
        """Makes the descriptor store hold exactly these: name → descriptor."""
        if not self.active:
            return
        self._wanted = {name: (each, os.fstat(each).st_ino) for name, each in wanted.items()}
        self.flush()

    def assume_stored(self, held: dict[str, int]) -> None:
        """What the manager passed to us is in its store already."""
        for name, descriptor in held.items():
            self._stored[name] = os.fstat(descriptor).st_ino
            self._wanted[name] = (descriptor, self._stored[name])

    def flush(self) -> None:
        """Says what is unsaid, as far as the manager takes it; see `is_behind`."""
        if not self.active:
            return
        path = "\0" + self._path[1:] if self._path.startswith("@") else self._path
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
            out.setblocking(False)
            try:
                out.connect(path)
                self._tell(out)
                self.is_behind = False
            except OSError:
                # Full, or restarting: it ends nobody.
                self.is_behind = True

    def _say(self, field: str, value: str) -> None:
        if self.active:
            self._unsaid[field] = value
            self.flush()

    def _tell(self, out: socket.socket) -> None:
        for field, value in list(self._unsaid.items()):
            out.send(f"{field}={value}".encode())
            del self._unsaid[field]
        for name, inode in list(self._stored.items()):
            if self._wanted.get(name, (-1, -1))[1] != inode:
                out.send(f"FDSTOREREMOVE=1\nFDNAME={name}".encode())
                del self._stored[name]
        for name, (descriptor, inode) in self._wanted.items():
            if name not in self._stored and _is_still(descriptor, inode):
                rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))
                out.sendmsg([f"FDSTORE=1\nFDNAME={name}".encode()], [rights])
                self._stored[name] = inode


def _is_still(descriptor: int, inode: int) -> bool:
    """Whether a descriptor is what it was: sockets are closed while they are still to be told."""
    try:
        return os.fstat(descriptor).st_ino == inode
    except OSError:
        return False


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
