"""Warns of a written null that switches nothing off: of what adds up, nobody's word is replaced.

There it is the same as nothing, while elsewhere it switches off what comes behind it. Called by the
validator.
"""

from __future__ import annotations

from reconciler.language.document import Node
from reconciler.language.raw import RawEntity
from schemas.policies.effects import ADD_UP

_INSTEAD = (
    "leave it out; for less than a listener's policy asks of all, name that one in the frontends "
    "that want it, or make it overridable: true and say another {} here"
)


def warn_of_nulls(raw: RawEntity) -> None:
    """Warn where a frontend or a policy says null of what others ask all the same."""
    if raw.key.kind not in ("frontend", "policy"):
        return
    for key in ADD_UP:
        first, _, rest = key.partition(".")
        node = raw.body.items.get(first)
        if node is not None and rest:
            node = node.items.get(rest)
        if node is not None and _is_null(node):
            message = f"{raw.key}: {key}: null switches nothing off: everybody's word counts"
            raw.document.warn(node, message, _INSTEAD.format(key))


def _is_null(node: Node) -> bool:
    return node.value is None and not node.broken
