"""Warns of words that are valid and do nothing: a null that switches nothing off, a step's timeout
that the whole request's is never longer than.

Of what adds up nobody's word is replaced: there a written null is the same as nothing, while
elsewhere it switches off what comes behind it. Called by the validator.
"""

from __future__ import annotations

from reconciler.language.document import Node
from reconciler.language.raw import RawEntity
from schemas.base import Plain
from schemas.policies.effects import ADD_UP, Effects
from schemas.values.units import format_duration

_INSTEAD = (
    "leave it out; for less than a listener's policy asks of all, name that one in the frontends "
    "that want it, or make it overridable: true and say another {} here"
)
_STEPS = ("request_body", "response_body", "response_head")


def warn_of_what_does_nothing(raw: RawEntity, model: Plain) -> None:
    """Warn of what a frontend or a policy says in vain."""
    if isinstance(model, Effects):
        _warn_of_nulls(raw)
        _warn_of_timeouts(raw, model)


def _warn_of_nulls(raw: RawEntity) -> None:
    for key in ADD_UP:
        first, _, rest = key.partition(".")
        node = raw.body.items.get(first)
        if node is not None and rest:
            node = node.items.get(rest)
        if node is not None and _is_null(node):
            message = f"{raw.key}: {key}: null switches nothing off: everybody's word counts"
            raw.document.warn(node, message, _INSTEAD.format(key))


def _warn_of_timeouts(raw: RawEntity, model: Effects) -> None:
    whole = model.timeouts.request
    node = raw.body.items.get("timeouts")
    if not isinstance(whole, int) or node is None:
        return
    for step in _STEPS:
        own = getattr(model.timeouts, step)
        if isinstance(own, int) and own >= whole and step in node.items:
            ends = f"request: {format_duration(whole)} ends all of it before"
            message = f"{raw.key}: timeouts.{step}: {format_duration(own)} never passes: {ends}"
            raw.document.warn(node.items[step], message, "leave it out, or write less than that")


def _is_null(node: Node) -> bool:
    return node.value is None and not node.broken
