"""The engine's routing, asked by the control plane: which frontends match a request, and in which
order.

The one module of `proxy` that `reconciler.reporting.explain` may import (pyproject.toml): it needs
no worker and no engine thread, only entities, and so there is no second routing in Python.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from proxy import _engine
from schemas.entity import Entity, canonical


@dataclass(frozen=True, slots=True)
class Miss:
    """The first thing in which a frontend does not match.

    `what` is hostname, path, methods, headers or query; `field` names the header or parameter.
    """

    what: str
    field: str


def rank(
    frontends: Iterable[Entity],
    *,
    hostname: str,
    path: str,
    query: str,
    method: str,
    headers: Sequence[tuple[str, str]],
) -> tuple[list[str], dict[str, Miss]]:
    """Return the names of those that match, the winner first, and of the others why they do not.

    Hostname, path and the names of headers are in the engine's normal form. Raises `ValueError`
    when the engine does not know one of the frontends.
    """
    given = [(each.key.name, canonical(each.value).decode()) for each in frontends]
    try:
        matching, missed = _engine.rank_frontends(
            given,
            _bytes(hostname),
            _bytes(path),
            _bytes(query) if query else None,
            _bytes(method),
            [(name, _bytes(value)) for name, value in headers],
        )
    except _engine.Refused as refusal:
        kind, name, reason = (str(each) for each in refusal.args)
        raise ValueError(f'{kind} "{name}": {reason}') from None
    return matching, {name: Miss(what, field) for name, what, field in missed}


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
