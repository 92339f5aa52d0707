"""Who gets a request and where it goes, from the engine's own routing, and why others do not.

Who matches, and in which order, the engine says (`routing`), on those of the running frontends that
may match; only the reason why one was beaten by the winner is put into words here. A test compares
the answers with what workers really do. Called by `reconciler.reporting.explaining.explain`, and by
`plan` for who inherits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from reconciler.catalog.candidates import candidates, covering
from reconciler.catalog.relations import View, listeners_of
from reconciler.planning.samples import Sample, UntriedError
from reconciler.reporting.explaining.question import Asked
from schemas.entities.entity import Entity, EntityKey
from schemas.entities.secrecy import without_secrets
from schemas.kinds.frontend import Frontend
from schemas.routes.match import ValueMatch
from schemas.routes.split import shares_of

if TYPE_CHECKING:
    from routing import Miss

# Of more frontends only those are looked at that may match, by hostname and path.
_ALL_SHOWN_MAX = 500
_LISTED_MAX = 4


class EngineRouter:
    """The engine's own routing, for who looks for requests that it can tell apart."""

    def matching(
        self, frontends: Sequence[Entity], samples: Sequence[Sample]
    ) -> Sequence[Sequence[str]]:
        """Return the names of those that match each request, the winner first.

        Raises `UntriedError` where the engine does not take one.
        """
        from routing import (  # noqa: PLC0415  # loads the engine, only for who asks
            PrepareRefusedError,
            rank_requests,
        )

        try:
            return rank_requests(frontends, samples)
        except PrepareRefusedError:
            raise UntriedError from None

    def witnesses(
        self, musts: Sequence[str], others: Sequence[str], states: int
    ) -> tuple[Sequence[str], bool]:
        """Return texts that tell expressions apart, and whether these are all."""
        from routing import witnesses  # noqa: PLC0415  # loads the engine, only for who asks

        try:
            return witnesses(musts, others, states)
        except ValueError:
            return (), False


def clusters_of(won: Entity, asked: Asked) -> Sequence[str]:
    """The clusters to which a request may go: one, unless it is drawn for it."""
    frontend = won.typed(Frontend)
    if not frontend.split:
        return frontend.clusters
    from routing import share_of  # noqa: PLC0415  # loads the engine, only for who asks

    stable = share_of(won, asked.headers, asked.client)
    drawn = [name for name in shares_of(frontend.split) if frontend.split[name]]
    return drawn if stable is None else [stable]


def rank(
    asked: Asked, listeners: set[str], passing: set[str], state: View
) -> tuple[Entity | None, list[tuple[Entity, str]]]:
    """(the winner, the others with their reasons, the nearest first)."""
    from routing import rank_frontends  # noqa: PLC0415  # loads the engine, only for who asks

    frontends = {key.name: state[key] for key in sorted(_looked_at(asked, listeners, state))}
    there = {name: each for name, each in frontends.items() if listeners & set(listeners_of(each))}
    matching, missed = rank_frontends(
        there.values(),
        hostname=asked.hostname,
        path=asked.path,
        query=asked.query,
        method=asked.method,
        headers=asked.headers,
        client=asked.client,
    )
    lost: list[tuple[int, Entity, str]] = []
    for name, each in frontends.items():
        if name not in there:
            lost.append((0, each, f"is on {', '.join(listeners_of(each))}"))
            continue
        miss = missed.get(name)
        frontend = each.typed(Frontend)
        passed_on = _passed_on(asked, listeners, passing, frontend)
        if miss is not None and (passed_on is None or miss.what == "hostname"):
            lost.append((_STEPS.index(miss.what), each, _why_missed(miss, frontend, asked)))
        elif passed_on is not None:
            lost.append((_STEPS.index("passthrough"), each, passed_on))
    lost.sort(key=lambda each: (-each[0], _precedence(each[1], asked.hostname)))
    beaten_or_won = [
        there[name]
        for name in matching
        if _passed_on(asked, listeners, passing, there[name].typed(Frontend)) is None
    ]
    rest = [(each, reason) for _, each, reason in lost]
    if not beaten_or_won:
        return None, rest
    won, *others = beaten_or_won
    return won, [*((each, _why_beaten(won, each, asked.hostname)) for each in others), *rest]


_STEPS = (
    "listener",
    "hostname",
    "passthrough",
    "path",
    "methods",
    "headers",
    "query",
    "cookies",
    "client_addresses",
)
"""The order in which a frontend is looked at: one that fails later was nearer."""


def _looked_at(asked: Asked, listeners: set[str], state: View) -> set[EntityKey]:
    """The frontends of which something is said: all if they are few, else those that may match."""
    if state.count("frontend") <= _ALL_SHOWN_MAX:
        return {EntityKey("frontend", name) for name in state.names("frontend")}
    return {
        key
        for listener in listeners
        for key in candidates(state, listener, asked.hostname, asked.path)
    }


def _passed_on(
    asked: Asked, listeners: set[str], passing: set[str], frontend: Frontend
) -> str | None:
    """Why a frontend is not asked, by who ends TLS."""
    on = listeners & set(frontend.listeners)
    if frontend.passthrough:
        beaten = f"passes TLS on, and another has {asked.name} more exactly"
        return None if passing & on else beaten
    return None if on - passing else f"TLS for {asked.name} is passed on unread"


def _why_missed(miss: Miss, frontend: Frontend, asked: Asked) -> str:
    match miss.what:
        case "hostname":
            return f"hostname is {_listed(frontend.names)}"
        case "path":
            kind, pattern = frontend.path.given()
            folded = " (ignore_case)" if frontend.path.ignore_case else ""
            return f"path is {kind} {pattern}{folded}"
        case "methods":
            return f"method is {', '.join(frontend.methods)}"
        case "headers":
            return f"header {_unmet('headers', miss.field, frontend.headers[miss.field])}"
        case "query":
            return f"query parameter {_unmet('query', miss.field, frontend.query[miss.field])}"
        case "cookies":
            return f"cookie {_unmet('cookies', miss.field, frontend.cookies[miss.field])}"
        case _:
            networks = _listed(frontend.client_addresses or ())
            if asked.client is None:
                return f"client is not known to be in {networks} (--client-address)"
            return f"client {asked.client} is not in {networks}"


def _listed(values: Sequence[str]) -> str:
    more = f", … ({len(values)} in all)" if len(values) > _LISTED_MAX else ""
    return ", ".join(values[:_LISTED_MAX]) + more


def _unmet(field: str, name: str, match: ValueMatch) -> str:
    """Say what of a condition is not as it should be."""
    kind, pattern = match.given()
    if kind == "present":
        return f"{name} is {'missing' if pattern else 'there'}"
    shown = without_secrets("frontend", pattern, (field, name, kind))
    if shown == pattern:
        shown = f'"{pattern}"' if kind == "exact" else f"{kind} {pattern}"
    return f"{name} is {'' if match.negated else 'not '}{shown}"


def _precedence(entity: Entity, asked: str) -> tuple[Any, ...]:
    """Return the place of a frontend among those that are asked for a hostname."""
    frontend = entity.typed(Frontend)
    names = frontend.names
    # The most exact of its own by which it stands there.
    hostname = next((name for name in covering(asked) if name in names), names[0])
    exact = hostname != "*" and not hostname.startswith("*.")
    kind, pattern = frontend.path.given()
    length = len(pattern.rstrip("/") if kind == "prefix" else pattern.encode())
    return (
        0 if exact else 2 if hostname == "*" else 1,
        -len(hostname),
        0 if frontend.passthrough else 1,
        0 if kind == "exact" else 1,
        # The engine knows which of two is the more specific; here it is enough that they differ.
        (-length, kind, pattern),
        0 if frontend.methods else 1,
        -len(frontend.headers),
        -len(frontend.query),
        -len(frontend.cookies),
        0 if frontend.client_addresses else 1,
        entity.key.name,
    )


_PRECEDENCE_WORDS = (
    "its hostname is less specific",
    "its hostname is less specific",
    "TLS for its hostname is passed on unread",
    "its path is not exact",
    "its path is less specific",
    "it asks for no method",
    "it asks for fewer headers",
    "it asks for fewer query parameters",
    "it asks for fewer cookies",
    "it is for any client",
    "its name comes later",
)


def _why_beaten(won: Entity, other: Entity, asked: str) -> str:
    both = (_precedence(each, asked) for each in (won, other))
    pairs = zip(*both, _PRECEDENCE_WORDS, strict=True)
    words = next(words for one, two, words in pairs if one != two)
    return f"matches too, but {words}"
