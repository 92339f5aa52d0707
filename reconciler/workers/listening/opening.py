"""Opens what listeners need, one by one: what cannot be had keeps nobody from the others.

Called by `reconciler.workers.slots.bringup`, when a worker comes into service, and by
`reconciler.workers.watching.binding`, which tries again.
"""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.workers.listening.holders import holder
from reconciler.workers.listening.sockets import BindError, SocketTable


def reason_of(error: BindError) -> str:
    """Return why an address cannot be listened on, and who has it, if that can be told."""
    by = holder_of(error)
    return f"{error} by {by}" if by else str(error)


def holder_of(error: BindError) -> str:
    """Return who has the address; "" when nobody can be told."""
    return (holder(error.taken) or "") if error.taken else ""


def open_each(
    sockets: SocketTable, worker: int, listeners: Mapping[str, str]
) -> tuple[dict[str, int], dict[str, str]]:
    """Return the descriptors by listener, and why others have none. `listeners`: name → address."""
    opened: dict[str, int] = {}
    unbound: dict[str, str] = {}
    for name, address in listeners.items():
        try:
            opened[name] = sockets.open(worker, address).fileno()
        except BindError as error:
            unbound[name] = reason_of(error)
    return opened, unbound
