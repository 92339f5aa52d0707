"""The operations of a transaction as the engine reads them: whole entities, put or removed.

`plan_ops` gives those of a plan, `state_ops` those with which a fresh worker is brought up.
"""

from __future__ import annotations

from collections.abc import Iterable

from schemas.entity import KINDS, Entity, EntityKey, Json, canonical
from schemas.plan import Plan
from schemas.state import Entities


def plan_ops(plan: Plan) -> bytes:
    """Return a plan as canonical JSON, puts and removes each in the order of the plan."""
    puts = [change.after for change in plan.changes if change.after is not None]
    removes = [change.key for change in plan.changes if change.after is None]
    return _encode(puts, removes)


def state_ops(state: Entities) -> bytes:
    """Return a whole state as puts, what is referred to before what refers to it."""
    keys = (EntityKey(kind, name) for kind in KINDS for name in state.names(kind))
    return _encode((state[key] for key in keys), ())


def _encode(puts: Iterable[Entity], removes: Iterable[EntityKey]) -> bytes:
    # Canonical JSON of the whole is the canonical bytes of each value, at its place.
    put_list: list[Json] = [
        {"kind": entity.key.kind, "name": entity.key.name, "value": entity.value} for entity in puts
    ]
    remove_list: list[Json] = [{"kind": key.kind, "name": key.name} for key in removes]
    return canonical({"puts": put_list, "removes": remove_list})
