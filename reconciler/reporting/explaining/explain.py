"""Which frontend would serve a request, and why the others would not, in words.

Who matches, and in which order, the engine's own routing says (`routing`), on those of the running
frontends that may match; only the reason why one was beaten by the winner is put into words here. A
test compares the answers with what workers really do. Called by
`reconciler.reporting.control.answers`, and, for what the engine would not compile, by `validate`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from reconciler.catalog.candidates import candidates, covering, passes_tls_on
from reconciler.catalog.handshake import Shown, certificates_for
from reconciler.catalog.policies import Leaf, Word, levels_of, merged
from reconciler.catalog.relations import (
    View,
    has_expression,
    is_passthrough,
    is_secure,
    listeners_of,
)
from reconciler.planning.consequences import Sample
from reconciler.reporting.explaining.stages import stages_of
from schemas.entities.diagnostic import Diagnostic
from schemas.entities.entity import Entity, EntityKey
from schemas.entities.secrecy import without_secrets
from schemas.kinds.backend import Backend
from schemas.kinds.cluster import Cluster
from schemas.kinds.frontend import Frontend
from schemas.kinds.listener import Listener
from schemas.kinds.match import ValueMatch
from schemas.kinds.split import shares_of
from schemas.messages.control import ExplainRequest, ExplainResult
from schemas.values.names import port_of

if TYPE_CHECKING:
    from routing import Miss

# Beyond this nobody reads on; the best ones come first.
LOST_MAX = 100
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
# Of more frontends only those are looked at that may match, by hostname and path.
_ALL_SHOWN_MAX = 500
_LISTED_MAX = 4


class UnexplainableError(ValueError):
    """The request makes no sense; the message says why."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The request: as it is written, and behind `_normal` as a listener reads it."""

    scheme: str | None
    """None: the URL leaves it open."""
    name: str
    """The host in the URL, which a client names in its handshake."""
    hostname: str
    port: int | None
    path: str
    query: str
    method: str
    headers: list[tuple[str, str]] = field(default_factory=list)
    client: str | None = None
    """The address of who asks; None where that is not known."""


def _no_fault(_backend: str) -> str | None:
    return None


def explain(
    request: ExplainRequest,
    state: View,
    drained: Sequence[str],
    tls_fault: Callable[[str], str | None] = _no_fault,
) -> ExplainResult:
    """Raises `UnexplainableError` on a URL that is none.

    `tls_fault` says why handshakes with a backend fail, if they do.
    """
    asked = _asked(request)
    listeners, note = _listeners(asked, state)
    keeping = bool(listeners) and not any(each.typed(Listener).merge_slashes for each in listeners)
    asked = _normal(asked, merge_slashes=not keeping)
    secure = [each for each in listeners if is_secure(each)]
    passing = {each.key.name for each in secure if passes_tls_on(state, each.key.name, asked.name)}
    shown = {
        each.key.name: certificates_for(asked.name, each, state)
        for each in secure
        if each.key.name not in passing
    }
    refusing = {name for name, found in shown.items() if not found.certificates}
    names = {listener.key.name for listener in listeners} - refusing
    won, lost = _rank(asked, names, passing, state)
    result: ExplainResult = {
        "listeners": [_listener(each, shown.get(each.key.name)) for each in listeners],
        "frontend": None,
        "stages": [],
        "cluster": None,
        "backends": [],
        "lost": [
            {"name": each.key.name, "source": _source(each), "reason": reason}
            for each, reason in lost[:LOST_MAX]
        ],
        "status": None,
        "message": note,
    }
    if refusing:
        refused = ", ".join(f'"{name}"' for name in sorted(refusing))
        reason = shown[min(refusing)].reason
        note = f"{note}listener {refused} refuses the handshake: {reason}"
        result["message"] = note = note + ("; " if names else "")
    if not names:
        if refusing:
            # No request gets as far as to them.
            result["lost"] = []
        return result
    if won is None:
        result["status"] = 404
        result["message"] = f"{note}no frontend matches: the proxy answers 404"
        return result
    if is_passthrough(won):
        result["message"] += "TLS is passed on unread; "
    stages, answered = stages_of(
        won.typed(Frontend), _words(won, names, state), secure=bool(secure)
    )
    result["stages"] = stages
    if answered is not None:
        result["frontend"] = {"name": won.key.name, "source": _source(won)}
        result["status"], words = answered
        result["message"] += words
        return result
    _describe_winner(result, won, _clusters(won, asked), state, drained, tls_fault)
    return result


def _words(won: Entity, names: set[str], state: View) -> Mapping[Leaf, Word]:
    """What counts for a frontend where the request arrives."""
    if is_passthrough(won):
        return {}
    listener = min(names & set(listeners_of(won)))
    return merged(levels_of(won, listener, state))


def winners(frontends: Iterable[Entity], sample: Sample) -> Sequence[str]:
    """The names of those that match a request, the winner first.

    None does where the engine does not take one of them: `uncompilable` tells of that.
    """
    from routing import PrepareRefusedError  # noqa: PLC0415  # loads the engine, only for who asks

    try:
        return _ranked(frontends, sample)
    except PrepareRefusedError:
        return []


def _ranked(frontends: Iterable[Entity], sample: Sample) -> Sequence[str]:
    from routing import rank_frontends  # noqa: PLC0415  # loads the engine, only for who asks

    matching, _ = rank_frontends(
        frontends,
        hostname=sample.hostname,
        path=sample.path,
        query=sample.query,
        method=sample.method,
        headers=sample.headers,
        client=sample.client,
    )
    return matching


def uncompilable(entities: Iterable[Entity]) -> Iterator[Diagnostic]:
    """Tell of expressions that the engine would not take, such as one that is too large.

    The language lets through what only a compiler can tell.
    """
    expressive = [entity for entity in entities if has_expression(entity)]
    if not expressive:
        return
    from routing import PrepareRefusedError  # noqa: PLC0415  # loads the engine, only for who asks

    sample = Sample("", "/", "", "GET")
    for entity in expressive:
        try:
            _ranked([entity], sample)
        except PrepareRefusedError as error:
            where, message = entity.provenance, f"{entity.key}: {error.reason}"
            yield Diagnostic("error", where.file, where.line, where.column, message)


def _clusters(won: Entity, asked: Asked) -> Sequence[str]:
    """The clusters to which a request may go: one, unless it is drawn for it."""
    frontend = won.typed(Frontend)
    if not frontend.split:
        return frontend.clusters
    from routing import share_of  # noqa: PLC0415  # loads the engine, only for who asks

    stable = share_of(won, asked.headers, asked.client)
    drawn = [name for name in shares_of(frontend.split) if frontend.split[name]]
    return drawn if stable is None else [stable]


def _describe_winner(
    result: ExplainResult,
    won: Entity,
    clusters: Sequence[str],
    state: View,
    drained: Sequence[str],
    tls_fault: Callable[[str], str | None],
) -> None:
    name = clusters[0]
    cluster = state.get(EntityKey("cluster", name)) if len(clusters) == 1 else None
    backends = [
        state[EntityKey("backend", backend)]
        for each in clusters
        for backend in state.names("backend", f"{each}/")
    ]
    result["frontend"] = {"name": won.key.name, "source": _source(won)}
    result["cluster"] = {"name": name, "source": _source(cluster)} if cluster else None
    result["backends"] = [
        {
            "name": each.key.name,
            "address": each.typed(Backend).address,
            "weight": each.typed(Backend).weight,
            "drained": each.key.name in drained,
            "tls_fault": tls_fault(each.key.name),
            "source": _source(each),
        }
        for each in backends
    ]
    ready = [each for each in result["backends"] if each["weight"] and not each["drained"]]
    if len(clusters) > 1:
        result["message"] += f"one of {len(clusters)} clusters serves it: {', '.join(clusters)}"
    elif not ready:
        result["status"] = 503
        result["message"] += f'cluster "{name}" has no backend that takes requests: 503'
    elif len(ready) == 1:
        result["message"] += f"{ready[0]['name']} serves it"
    else:
        policy = cluster.typed(Cluster).load_balancing if cluster else "round_robin"
        result["message"] += f"one of {len(ready)} backends serves it, by {policy}"
    if ready and all(each["tls_fault"] for each in ready):
        result["message"] += "; TLS to all that could failed when it was last tried: 502"


def _asked(request: ExplainRequest) -> Asked:
    has_scheme = "://" in request.url
    url = request.url if has_scheme else f"http://{request.url}"
    if "\t" in url or _CONTROLS.search(url):
        # Some of them `urlsplit` takes out silently.
        raise UnexplainableError(f"{request.url!r} has control characters, which no URL has")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise UnexplainableError(f"{request.url!r} is not a URL: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UnexplainableError(f"{request.url!r} is not an http URL with a hostname")
    headers = [_header(each) for each in request.headers]
    client = _address(request.client_address)
    host = next((value for name, value in headers if name == "host"), None)
    return Asked(
        scheme=parts.scheme if has_scheme else None,
        name=parts.hostname.rstrip("."),
        hostname=host or parts.netloc.rpartition("@")[2],
        port=port,
        path=parts.path or "/",
        query=parts.query,
        method=request.method,
        headers=headers,
        client=client,
    )


def _header(field_line: list[str]) -> tuple[str, str]:
    """The field as it is compared. Raises `UnexplainableError` when no client can send it."""
    text = ": ".join(field_line)
    if len(field_line) != 2 or not _TOKEN.fullmatch(field_line[0]) or _CONTROLS.search(text):
        raise UnexplainableError(f"{text!r} is not a header that a client can send")
    return field_line[0].lower(), field_line[1]


def _address(text: str | None) -> str | None:
    """Return who asks in the engine's form. Raises `UnexplainableError` when it is no address."""
    if text is None:
        return None
    try:
        return str(ip_address(text.strip("[]")))
    except ValueError:
        raise UnexplainableError(f"{text!r} is not an IP address that a client may have") from None


def _normal(asked: Asked, *, merge_slashes: bool) -> Asked:
    """The request as a listener reads it. Raises `UnexplainableError` when it would be refused."""
    from routing import place_of  # noqa: PLC0415  # loads the engine, only for who asks

    target = f"{asked.path}?{asked.query}" if asked.query else asked.path
    try:
        place = place_of(asked.method, target, asked.hostname, merge_slashes=merge_slashes)
    except ValueError as error:
        reason, status = error.args
        what = f"{asked.method} {target} of {asked.hostname}"
        raise UnexplainableError(f"the proxy answers {status} to {what}: {reason}") from None
    return replace(asked, hostname=place.hostname, path=place.path, query=place.query)


def _listener(listener: Entity, shown: Shown | None) -> dict[str, Any]:
    described: dict[str, Any] = {
        "name": listener.key.name,
        "address": listener.typed(Listener).address,
        "protocol": listener.typed(Listener).protocol,
        "source": _source(listener),
        "certificates": [],
        "handshake": None,
    }
    if shown is not None:
        described["handshake"] = shown.reason
        described["certificates"] = [
            {"name": each.key.name, "source": _source(each)} for each in shown.certificates
        ]
    return described


def _listeners(asked: Asked, state: View) -> tuple[list[Entity], str]:
    """The listeners that the URL can arrive at, and what is to be said about them."""
    every = [state[EntityKey("listener", name)] for name in state.names("listener")]
    speaking = [each for each in every if asked.scheme in (None, each.typed(Listener).protocol)]
    wanted = asked.port
    if wanted is None:
        wanted = 443 if asked.scheme == "https" else 80
    found = [each for each in speaking if _port(each) == wanted]
    if found:
        return found, ""
    other = next((each for each in every if _port(each) == wanted), None)
    if other is not None:
        speaks = other.typed(Listener).protocol
        what = f'listener "{other.key.name}" on port {wanted} speaks {speaks}'
        return [], f"{what}, not {asked.scheme}"
    if asked.port is None and speaking:
        return speaking, f"no listener on port {wanted}, so all listeners are looked at; "
    ports = ", ".join(sorted({str(_port(each)) for each in every}))
    have = f"there are listeners on {ports}" if ports else "there is none at all"
    return [], f"no listener on port {wanted}: {have}"


def _port(listener: Entity) -> int:
    return int(port_of(listener.typed(Listener).address))


def _rank(
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


def _source(entity: Entity) -> dict[str, Any] | None:
    place = entity.place
    return {"file": place.file, "line": place.line} if place else None
