"""Unix sockets that workers could not connect to, as things are on this machine.

A socket is the one address whose owner, rights and absence can be looked at without a connection.
That is no reason to refuse a change: whoever listens there may start later. Called by
`consequences` where it speaks of the machine that serves, and by `explain`.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable

from reconciler.presence import denied_at, found_at
from schemas.changes.change import Change
from schemas.entities.entity import EntityKey
from schemas.kinds.backend import Backend
from schemas.values.targets import UNIX, is_unix

LOOKED_AT_MAX = 100


def unreached(changes: Iterable[Change]) -> dict[EntityKey, str]:
    """Return what is wrong with sockets of backends that come or change, for the first of them."""
    sockets = {
        change.key: change.after.typed(Backend).address
        for change in changes
        if change.key.kind == "backend" and change.after is not None
    }
    asked = [(key, address) for key, address in sockets.items() if is_unix(address)]
    found = ((key, fault_of(address)) for key, address in asked[:LOOKED_AT_MAX])
    return {key: fault for key, fault in found if fault is not None}


def fault_of(address: str) -> str | None:
    """Return why workers could not connect to an address now; None: nothing is known of it."""
    if not is_unix(address):
        return None
    path = address.removeprefix(UNIX)
    found = found_at(path)
    if found is None:
        denied = denied_at(path)
        return f"{denied} may not be searched by this user" if denied else "there is no such socket"
    if not stat.S_ISSOCK(found.st_mode):
        return "that is no socket"
    # Workers are of the same user.
    if not os.access(path, os.W_OK):
        mode = stat.filemode(found.st_mode)
        return f"this user may not write to it, as connecting takes ({mode}, of UID {found.st_uid})"
    return None
