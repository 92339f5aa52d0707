"""Whether a request would get past a frontend for servers that read its path otherwise.

The engine refuses such a request (`proxy/engine/src/session/exchange/routed.rs`); which paths
others read in one it says itself. Called by `reconciler.reporting.explaining.explain`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from reconciler.catalog.policies import Bytes, Said, levels_of, merged
from reconciler.catalog.relations import View, listeners_of
from reconciler.reporting.explaining.making import arriving, made_of
from reconciler.reporting.explaining.question import Asked
from reconciler.reporting.explaining.ranking import rank
from schemas.entities.entity import Entity
from schemas.kinds.frontend import Frontend

_GUARDS = frozenset(
    {
        "allow",
        "basic_auth",
        "client_certificate",
        "concurrency",
        "deny",
        "forward_auth",
        "jwt",
        "rate_limit",
    }
)
# What is counted, each for itself.
_COUNTED = frozenset({"concurrency", "rate_limit"})


def slips_past(
    won: Entity, asked: Asked, written: Asked, names: set[str], passing: set[str], state: View
) -> str | None:
    """Return why the request is refused: another frontend would let fewer pass; None if not.

    `written` is the request as the engine gets it, `asked` as the listeners `names` read it.
    """
    from routing import other_readings  # noqa: PLC0415  # loads the engine, only for who asks

    frontend = won.typed(Frontend)
    own = frontend.path
    spelled = own.exact or own.prefix or own.regex or own.suffix or ""
    if not (frontend.cluster or frontend.split) or any(sign in spelled for sign in "%;"):
        return None

    def beyond(other: Entity) -> bool:
        to_tls = _is_for_tls(other) and not _is_for_tls(won)
        return _guards_beyond(other, won, names, state) or (
            to_tls and _is_sent_to_tls(other, arriving(other, names, state), written)
        )

    for path in other_readings(asked.path):
        other, _ = rank(replace(asked, path=path), names, passing, state)
        if other is not None and other.key != won.key and beyond(other):
            return (
                f"servers may read {path} in it, which frontend "
                f'"{other.key.name}" guards: 400 (ambiguous_path)'
            )
    return None


def _guards_beyond(other: Entity, won: Entity, names: set[str], state: View) -> bool:
    if other.typed(Frontend).respond is not None:
        return True
    most, theirs = (_most(each, names, state) for each in (other, won))
    if most is not None and (theirs is None or most < theirs):
        return True
    known = list(_guards(won, names, state))
    return any(guard not in known for guard in _guards(other, names, state))


def _is_for_tls(entity: Entity) -> bool:
    """Whether what comes in clear text is sent to TLS."""
    return entity.typed(Frontend).redirect == "https"


def _is_sent_to_tls(entity: Entity, listeners: Sequence[Entity], written: Asked) -> bool:
    """Whether this request is: a proxy that is trusted may have had it over TLS."""
    return made_of(entity, {}, listeners, written, secure=False).to_tls is not None


def _most(entity: Entity, names: set[str], state: View) -> int | None:
    """Return how large a body may be."""
    listener = min(names & set(listeners_of(entity)))
    words = merged(levels_of(entity, listener, state)).values()
    return min((word.said.most for word in words if isinstance(word.said, Bytes)), default=None)


def _guards(entity: Entity, names: set[str], state: View) -> Iterator[tuple[str, str, Said]]:
    listener = min(names & set(listeners_of(entity)))
    for leaf, word in merged(levels_of(entity, listener, state)).items():
        if leaf.key in _GUARDS and word.said is not None:
            yield leaf.key, leaf.name if leaf.key in _COUNTED else "", word.said
