"""What becomes of a request: where it arrives, which frontend serves it, what is done with it.

In words, and with the places in the files where it is written. Called by
`reconciler.reporting.control.answers`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from reconciler.catalog.candidates import passes_tls_on
from reconciler.catalog.fallbacks import said_of, served_by, usable
from reconciler.catalog.policies import Leaf, Networks, Word, beyond, levels_of, merged
from reconciler.catalog.relations import View, is_bytes, is_secure, listeners_of, passes_unread
from reconciler.catalog.tls.handshake import Shown, certificates_for
from reconciler.planning.unreached import fault_of
from reconciler.reporting.explaining.admission import Seen, Stage, Stages, stage
from reconciler.reporting.explaining.making import Made, arriving, made_of
from reconciler.reporting.explaining.question import Asked, as_read, asked_by
from reconciler.reporting.explaining.ranking import clusters_of, rank
from reconciler.reporting.explaining.slipping import slips_past
from reconciler.reporting.explaining.stages import (
    Course,
    answered,
    further,
    stages_of,
    stages_of_nobody,
)
from reconciler.reporting.explaining.switching import switched_off
from schemas.clusters.balancing import called
from schemas.entities.entity import Entity, EntityKey
from schemas.kinds.backend import Backend
from schemas.kinds.cluster import Cluster
from schemas.kinds.listener import Listener
from schemas.messages.control import ExplainRequest
from schemas.messages.results import ExplainResult
from schemas.values.names import port_of

# Beyond this nobody reads on; the best ones come first.
LOST_MAX = 100


def _no_fault(_backend: str) -> str | None:
    return None


def explain(
    request: ExplainRequest,
    state: View,
    drained: Sequence[str],
    tls_fault: Callable[[str], str | None] = _no_fault,
    not_listening: Mapping[str, str] = MappingProxyType({}),
    without: Mapping[EntityKey, str] = MappingProxyType({}),
) -> ExplainResult:
    """Raises `UnexplainableError` on a URL that is none.

    `tls_fault` says why handshakes with a backend fail, if they do; `not_listening` what is to be
    said of listeners that take no connections, `without` of entities whose files are lost.
    """
    result = _answered(request, state, drained, tls_fault)
    lost = [f"{key}: {without[key]}" for key in _met(result) if key in without]
    if lost:
        result["message"] = f"{'; '.join(lost)}; elsewhere: {result['message']}"
    names = [each["name"] for each in result["listeners"]]
    silent = [not_listening[name] for name in names if name in not_listening]
    if silent and len(silent) == len(names):
        # What would become of it is still to be known.
        then = "once it does" if len(silent) == 1 else "once they do"
        result["message"] = f"{'; '.join(silent)}; {then}: {result['message']}"
        result["status"] = None
    elif silent:
        result["message"] = f"{'; '.join(silent)}; elsewhere: {result['message']}"
    return result


def _met(result: ExplainResult) -> Iterator[EntityKey]:
    """The entities by which the request comes."""
    for listener in result["listeners"]:
        yield EntityKey("listener", listener["name"])
        for certificate in listener["certificates"]:
            yield EntityKey("certificate", certificate["name"])
    for kind, found in (("frontend", result["frontend"]), ("cluster", result["cluster"])):
        if found is not None:
            yield EntityKey(kind, found["name"])
    policies = (each["by"]["name"] for each in result["stages"] if each["by"])
    yield from (EntityKey("policy", name) for name in dict.fromkeys(policies))


def _answered(
    request: ExplainRequest,
    state: View,
    drained: Sequence[str],
    tls_fault: Callable[[str], str | None],
) -> ExplainResult:
    written = asked_by(request)
    listeners, note = _listeners(written, state)
    asked = _as_read_by(listeners, written)
    secure = [each for each in listeners if is_secure(each)]
    passing = {each.key.name for each in secure if passes_tls_on(state, each.key.name, asked.name)}
    shown = {
        each.key.name: certificates_for(asked.name, each, state)
        for each in secure
        if each.key.name not in passing
    }
    refusing = {name for name, found in shown.items() if not found.certificates}
    names = {listener.key.name for listener in listeners} - refusing
    won, lost = rank(asked, names, passing, state)
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
        # No request gets as far as to them.
        result["lost"] = [] if refusing else result["lost"]
        return result
    if won is None:
        return _not_taken(result, names, listeners, state)
    if passes_unread(won, state):
        what = "bytes pass" if any(map(is_bytes, listeners)) else "TLS is passed on"
        result["message"] += f"{what} unread; "
    elif (slip := slips_past(won, asked, written, names, passing, state)) is not None:
        result["status"] = 400
        result["message"] += slip
        return result
    way = _way(won, names, state, written, drained, secure=bool(secure))
    result["stages"] = [*way.stages, *_switched_off(won, names, state)]
    if way.ending is not None:
        result["frontend"] = {"name": won.key.name, "source": _source(won)}
        result["status"], words = way.ending
        result["message"] += words
    else:
        led = clusters_of(won, asked)
        result["stages"] += [each for name in led for each in _of_cluster(name, state)]
        _describe_winner(result, won, led, state, drained, tls_fault)
    if way.conditions:
        result["message"] += f", {' and '.join(way.conditions)}"
    return result


def _switched_off(won: Entity, names: set[str], state: View) -> Iterator[Stage]:
    listener = min(names & set(listeners_of(won)))
    return switched_off(_words(won, names, state), levels_of(won, listener, state))


def _way(
    won: Entity,
    names: set[str],
    state: View,
    written: Asked,
    drained: Sequence[str],
    *,
    secure: bool,
) -> Course:
    """What the request comes to at the frontend that takes it."""
    listeners = arriving(won, names, state)
    words = _words(won, names, state)
    made = Made()
    is_unread = passes_unread(won, state)
    if not is_unread:
        made = made_of(won, words, listeners, written, secure=secure)
    seen = Seen(
        made,
        secure,
        listener=None if is_unread else listeners[0],
        method=written.method,
        client=written.client,
        preflight_of=written.preflight_of,
        origin=written.header("origin"),
        length=written.length,
        takes=lambda cluster: usable(cluster, state, drained),
    )
    return stages_of(won, words, seen)


def _as_read_by(listeners: Sequence[Entity], asked: Asked) -> Asked:
    keeping = bool(listeners) and not any(each.typed(Listener).merge_slashes for each in listeners)
    head_bytes = max((each.typed(Listener).limits.head_bytes for each in listeners), default=None)
    return as_read(asked, merge_slashes=not keeping, head_bytes=head_bytes)


def _not_taken(
    result: ExplainResult, names: set[str], listeners: Sequence[Entity], state: View
) -> ExplainResult:
    if any(map(is_bytes, listeners)):
        result["message"] += "no frontend takes it: the connection is closed"
        return result
    said = merged(beyond(min(names), state))
    secure = any(map(is_secure, listeners))
    result["status"] = 404
    result["stages"] = stages_of_nobody(said, secure=secure, status=404)
    result["message"] += "no frontend matches: the proxy answers 404"
    return result


def _words(won: Entity, names: set[str], state: View) -> Mapping[Leaf, Word]:
    """What counts for a frontend where the request arrives."""
    listener = min(names & set(listeners_of(won)))
    words = merged(levels_of(won, listener, state))
    if passes_unread(won, state):
        # Of what passes unread it is known who has sent it.
        return {leaf: word for leaf, word in words.items() if isinstance(word.said, Networks)}
    return words


def _describe_winner(
    result: ExplainResult,
    won: Entity,
    clusters: Sequence[str],
    state: View,
    drained: Sequence[str],
    tls_fault: Callable[[str], str | None],
    *,
    may_fall_back: bool = True,
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
            "backup": each.typed(Backend).backup,
            "drained": each.key.name in drained,
            "tls_fault": tls_fault(each.key.name),
            "unreached": fault_of(each.typed(Backend).address),
            "health": None,
            "source": _source(each),
        }
        for each in backends
    ]
    ready = [each for each in result["backends"] if each["weight"] and not each["drained"]]
    # Backups are asked while no other can be.
    ready = [each for each in ready if not each["backup"]] or ready
    if len(clusters) > 1:
        result["message"] += f"one of {len(clusters)} clusters serves it: {', '.join(clusters)}"
    elif not ready:
        _describe_none(result, won, (name, may_fall_back), state, drained, tls_fault)
    elif all(each["tls_fault"] for each in ready):
        names = ready[0]["name"] if len(ready) == 1 else f"all {len(ready)} backends"
        result["message"] += f"TLS to {names} failed when it was last tried: 502"
    elif len(ready) == 1:
        result["message"] += f"{ready[0]['name']} serves it"
    else:
        policy = called(cluster.typed(Cluster).load_balancing) if cluster else "round_robin"
        result["message"] += f"one of {len(ready)} backends serves it, by {policy}"


def _describe_none(
    result: ExplainResult,
    won: Entity,
    cluster: tuple[str, bool],
    state: View,
    drained: Sequence[str],
    tls_fault: Callable[[str], str | None],
) -> None:
    """Tell what becomes of a request of a cluster without a usable backend."""
    name, may_fall_back = cluster
    none = f'cluster "{name}" has no backend that takes requests'
    said = said_of(name, state) if may_fall_back and served_by(name, state, drained) else None
    if said is None or (said.respond is not None and passes_unread(won, state)):
        result["status"] = 503
        result["message"] += f"{none}: 503"
    elif said.cluster is not None:
        result["message"] += f"{none}, so that its fallback is asked: "
        at = (state, drained, tls_fault)
        _describe_winner(result, won, [said.cluster], *at, may_fall_back=False)
    elif said.respond is not None:
        result["status"] = 0 if said.respond.close else said.respond.status
        result["message"] += f"{none}: {answered(said.respond)}"


def _of_cluster(name: str, state: View) -> Stages:
    """Tell what a cluster has done for a request."""
    cluster, said = state.get(EntityKey("cluster", name)), said_of(name, state)
    if cluster is None:
        return []
    retry = cluster.typed(Cluster).retry
    stages = [stage("retry", further(retry), cluster)] if retry is not None else []
    if said is None:
        return stages
    instead = f"cluster {said.cluster} serves it"
    if said.respond is not None:
        instead = answered(said.respond)
    told = f"while no backend of {name} is usable, {instead}"
    return [*stages, stage("fallback", told, cluster)]


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
    spoken = ("http", "https") if asked.scheme is None else (asked.scheme,)
    speaking = [each for each in every if each.typed(Listener).protocol in spoken]
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


def _source(entity: Entity) -> dict[str, Any] | None:
    place = entity.place
    return {"file": place.file, "line": place.line} if place else None
