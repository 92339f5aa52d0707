"""How large the configuration may become: a worker takes all of it in one frame when it starts.

Counted as it travels, and kept up to date at the cost of each change, so that a commit is refused
while nothing depends on it, and not when a worker is to be replaced. Called by
`reconciler.loop.reconcile`.
"""

from __future__ import annotations

from collections.abc import Iterable

from schemas.change import Change
from schemas.entity import Entity, canonical
from schemas.wire import FRAME_BYTES_MAX

# The rest of the frame is for the message around the operations.
CONFIGURATION_BYTES_MAX = FRAME_BYTES_MAX - 4 * 1024 * 1024
# Braces, keys and quotes around one entity, escaped as text inside the message.
_AROUND_BYTES = 64


class Capacity:
    """The size of the running configuration."""

    def __init__(self, entities: Iterable[Entity]) -> None:
        self._bytes = sum(_size(entity) for entity in entities)

    def after(self, changes: Iterable[Change]) -> int:
        """The size that it will have."""
        total = self._bytes
        for change in changes:
            total += _size(change.after) if change.after is not None else 0
            total -= _size(change.before) if change.before is not None else 0
        return total

    def accept(self, size: int) -> None:
        """What `after` has said is now the size."""
        self._bytes = size


def refusal(size: int) -> str | None:
    """Why a configuration of this size is refused; None when it is not."""
    if size <= CONFIGURATION_BYTES_MAX:
        return None
    limit = CONFIGURATION_BYTES_MAX >> 20
    return f"the whole configuration would take {size >> 20} MiB, a worker takes {limit} MiB"


def _size(entity: Entity) -> int:
    content = canonical(entity.value)
    # The operations are text inside a message: quotes and backslashes are escaped once more.
    escaped = content.count(b'"') + content.count(b"\\")
    return len(content) + escaped + 2 * len(entity.key.name) + _AROUND_BYTES
