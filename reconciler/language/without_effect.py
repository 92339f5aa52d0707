"""Warns of words that are valid and do nothing: a step's timeout that the whole request's is never
longer than. Called by the validator.
"""

from __future__ import annotations

from reconciler.language.raw import RawEntity
from schemas.base import Plain
from schemas.policies.effects import Effects
from schemas.values.units import format_duration

_STEPS = ("request_body", "response_body", "response_head")


def warn_of_what_does_nothing(raw: RawEntity, model: Plain) -> None:
    """Warn of what a frontend or a policy says in vain."""
    if isinstance(model, Effects):
        _warn_of_timeouts(raw, model)


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
