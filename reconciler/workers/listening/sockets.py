"""The listening sockets: made here, one per worker and address, and handed to the workers.

A socket belongs to the address, not to the listener's name or to a worker's process: a listener
that is renamed keeps it, and the successor of a worker that died takes it with every connection
that waits in its queue. All sockets of one address share it by SO_REUSEPORT. Called by
`reconciler.transaction.runner` (open, settle), `reconciler.workers.slots.bringup` (open) and
`reconciler.workers.slots.tending` (adopt).
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import resource
import socket
from collections.abc import Collection, Iterable
from pathlib import Path

from reconciler.errors import MachineError
from reconciler.workers.listening.holders import joined, listening_on, overlap
from schemas.values.names import split_address

# Longer than any burst that a worker is behind with; the kernel caps it by net.core.somaxconn.
BACKLOG = 4096
# Descriptors that listeners never take.
_RESERVED = 64
_IN_USE = OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


class BindError(MachineError):
    """An address cannot be listened on; the message says why, for the config author.

    `taken`: the address, if it is another one's.
    """

    def __init__(self, message: str, taken: str | None = None) -> None:
        super().__init__(message)
        self.taken = taken


class SocketTable:
    """(worker, address) → socket."""

    def __init__(self) -> None:
        self._sockets: dict[tuple[int, str], socket.socket] = {}
        self._sharing: set[int] = set()
        self._silent: set[tuple[int, str]] = set()
        """Those that take no connections until `listen`."""

    def share_with(self, worker: int) -> None:
        """It serves and did not hand its sockets over: it may have any address."""
        self._sharing.add(worker)

    def share_no_more(self, worker: int) -> None:
        """It is led again, or has left."""
        self._sharing.discard(worker)

    def open(self, worker: int, address: str, beside: str | None = None) -> socket.socket:
        """The socket of a worker for an address, made if need be. Raises `BindError`.

        At `beside` another part of ours listens, and gives it up. What would take of its
        connections does not before `listen`.
        """
        found = self._sockets.get((worker, address))
        if found is None:
            held = self.addresses()
            if not self._sharing and not _meets_us_alone(address, held | _given(beside)):
                _probe(address)
            is_silent = beside is not None and _meet(address, beside)
            found = _bind(address, share=True, listening=not is_silent)
            self._sockets[worker, address] = found
            if is_silent:
                self._silent.add((worker, address))
        return found

    def check(self, address: str, beside: str | None = None) -> None:
        """Tries what `open` would do, by a bind that takes no connection. Raises `BindError`."""
        ours = self.addresses() | _given(beside)
        share = bool(self._sharing) or _meets_us_alone(address, ours)
        _bind(address, share=share, listening=False).close()

    @property
    def has_silent(self) -> bool:
        """Whether there is something for `listen`."""
        return bool(self._silent)

    def listen(self) -> None:
        """Has all take connections. Raises `OSError`."""
        while self._silent:
            self._sockets[self._silent.pop()].listen(BACKLOG)

    def addresses(self) -> set[str]:
        """Where we listen, whichever worker it is for."""
        return {address for _, address in self._sockets}

    def has(self, worker: int, address: str) -> bool:
        """Whether `open` would find it."""
        return (worker, address) in self._sockets

    def adopt(self, worker: int, descriptor: int) -> str | None:
        """Takes a descriptor over that a worker or systemd kept; returns its address.

        None when it is no listening socket, or one that is held already; it is closed then.
        """
        try:
            adopted = socket.socket(fileno=descriptor)
        except OSError:
            with contextlib.suppress(OSError):
                os.close(descriptor)
            return None
        address = _local_address(adopted)
        if address is None or (worker, address) in self._sockets:
            adopted.close()
            return None
        adopted.setblocking(False)
        self._sockets[worker, address] = adopted
        return address

    def settle(self, wanted: Iterable[str], workers: Iterable[int]) -> list[tuple[int, str]]:
        """Closes what no listener and no worker needs any more; returns what that was."""
        addresses, ids = set(wanted), set(workers)
        surplus = [key for key in self._sockets if key[1] not in addresses or key[0] not in ids]
        for key in surplus:
            self._silent.discard(key)
            self._sockets.pop(key).close()
        return surplus

    def settle_worker(self, worker: int) -> None:
        """Closes what a worker has that gets no successor."""
        self.discard([key for key in self._sockets if key[0] == worker])

    def discard(self, keys: Iterable[tuple[int, str]]) -> None:
        """Closes these, such as those that an aborted transaction had opened."""
        for key in keys:
            self._silent.discard(key)
            found = self._sockets.pop(key, None)
            if found is not None:
                found.close()

    def items(self) -> list[tuple[tuple[int, str], socket.socket]]:
        """What is held now."""
        return list(self._sockets.items())

    def close(self) -> None:
        """Closes all; those that workers hold stay open there."""
        for each in self._sockets.values():
            each.close()
        self._sockets.clear()
        self._silent.clear()


def exclusive(
    address: str, beside: str | None, given: Collection[str] = frozenset()
) -> socket.socket:
    """One socket that nobody shares, but the one for `beside` that it replaces.

    It listens, unless it would take of the connections to what listeners have `given` up: whoever
    has it lets it listen when they have. Raises `BindError`.
    """
    if not _meets_us_alone(address, _given(beside).union(given)):
        _probe(address)
    is_silent = any(_meet(address, each) for each in given)
    return _bind(address, share=True, listening=not is_silent)


def check_exclusive(address: str, beside: str | None, given: Collection[str] = frozenset()) -> None:
    """Tries whether `exclusive` would work. Raises `BindError`."""
    share = _meets_us_alone(address, _given(beside).union(given))
    _bind(address, share=share, listening=False).close()


def room() -> float:
    """How many sockets could be opened now, as `_leave_some` counts."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return math.inf
    usable = limit - _RESERVED
    try:
        free = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        os.close(free)
        taken = sum(int(each.name) < usable for each in Path("/proc/self/fd").iterdir())
    except OSError:
        # Not even for that.
        return 0
    # The lowest one that is free was that of the listing, and was counted.
    return usable - taken + 1 if free < usable else 0


def without_room(address: str) -> BindError:
    """The error of an address for which nothing is left."""
    return BindError(_reason(address, OSError(errno.EMFILE, os.strerror(errno.EMFILE))))


def _given(address: str | None) -> set[str]:
    return {address} if address else set()


def _meet(one: str, other: str) -> bool:
    (ip, port), (other_ip, other_port) = split_address(one), split_address(other)
    return port == other_port and overlap(ip, other_ip)


def _meets_us_alone(address: str, ours: Collection[str]) -> bool:
    """Whether a probe would find ourselves, and nobody else. Raises `BindError`.

    It does not tell us from others: beside a wildcard of ours the kernel's table has to.
    """
    if address in ours:
        return True
    (ip, port), held = split_address(address), [split_address(each) for each in ours]
    if not any(at == port and overlap(one, ip) for one, at in held):
        return False
    for one in listening_on(port):
        # Of the other family it is another one's "[::]", which a bind beside it finds by itself.
        if one.version == ip.version and overlap(one, ip) and (one, port) not in held:
            raise BindError(_reason(address, _IN_USE), joined(one, port))
    return True


def _probe(address: str) -> None:
    # SO_REUSEPORT would let us share the port with any process of the same user in silence:
    # another daemon of ours would get half of the connections. Without it the kernel refuses.
    _bind(address, share=False).close()


def _bind(address: str, share: bool, listening: bool = True) -> socket.socket:
    ip, port = split_address(address)
    family = socket.AF_INET6 if ip.version == 6 else socket.AF_INET
    made: socket.socket | None = None
    try:
        made = socket.socket(
            family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        )
        _leave_some(made)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Connections have it from the socket that they came by, those too that come before a worker
        # looks at it.
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if share:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            # "[::]" means IPv6; a listener for IPv4 is written out, so that no two overlap unseen.
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind((str(ip), port))
        if listening:
            made.listen(BACKLOG)
    except OSError as error:
        if made is not None:
            made.close()
        taken = address if error.errno == errno.EADDRINUSE else None
        raise BindError(_reason(address, error), taken) from None
    return made


def _leave_some(made: socket.socket) -> None:
    """Raises `OSError` when what is left would not do for the daemon's own work.

    It reads the repository, answers questions and starts workers. The kernel gives the lowest
    number that is free, so a high one says that hardly any other is.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit != resource.RLIM_INFINITY and made.fileno() >= limit - _RESERVED:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def _reason(address: str, error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            why = "address already in use"
        case errno.EADDRNOTAVAIL:
            why = "this machine does not have that address"
        case errno.EACCES | errno.EPERM:
            why = "permission denied (ports below 1024 need CAP_NET_BIND_SERVICE)"
        case errno.EMFILE | errno.ENFILE:
            why = "too many open files (raise the limit: LimitNOFILE= or `ulimit -n`)"
        case _:
            why = error.strerror or str(error)
    return f"cannot bind {address}: {why}"


def _local_address(found: socket.socket) -> str | None:
    """The canonical `IP:port` of a listening TCP socket."""
    try:
        if found.family not in (socket.AF_INET, socket.AF_INET6):
            return None
        if not found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return None
        host, port = found.getsockname()[:2]
    except OSError:
        return None
    return joined(host, port)
