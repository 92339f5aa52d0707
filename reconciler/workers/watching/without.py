"""What workers do without: entities whose files were lost when a worker was given them.

Such a worker takes no requests for what names a lost file, and serves all else: its successor would
have to do the same, as long as the content is nowhere. Called by `auditing` beside, and by whoever
tells of it (`status`, `explain`).
"""

from __future__ import annotations

from reconciler.storage.reading.state import StoredState
from reconciler.workers.slots.supervisor import Supervisor
from schemas.entities.entity import EntityKey
from schemas.entities.material import materials_of

_COMES_TO = {
    "certificate": "no handshake finds it",
    "cluster": "its requests get 502",
    "listener": "its handshakes are refused",
}
_OF_OTHERS = "its requests get 503"


def named_by(state: StoredState, lost: frozenset[str]) -> list[EntityKey]:
    """Return the running entities that name one of these contents. Raises `DamagedError`."""
    return sorted({key for digest in lost for key in state.related("content", digest)})


def without(supervisor: Supervisor, state: StoredState) -> dict[EntityKey, str]:
    """Return what is to be said of each entity that some worker does without.

    Raises `DamagedError`.
    """
    workers: dict[EntityKey, list[int]] = {}
    lost: set[str] = set()
    for worker in supervisor.in_service.values():
        for key in named_by(state, worker.without):
            workers.setdefault(key, []).append(worker.id)
        lost |= worker.without
    return {key: _said(state, key, numbers, lost) for key, numbers in workers.items()}


def _said(state: StoredState, key: EntityKey, workers: list[int], lost: set[str]) -> str:
    paths = [each.path for each in materials_of(state[key]) if each.sha256 in lost]
    files = f"the content of {' and '.join(dict.fromkeys(paths))}"
    who = f"worker{'s' if len(workers) > 1 else ''} {', '.join(map(str, workers))}"
    return f"{files} is lost, so that at {who} {_COMES_TO.get(key.kind, _OF_OTHERS)}"
