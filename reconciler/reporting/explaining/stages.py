"""What a frontend has done with a request and with its answer, in words and in the engine's order.

The order is that of `proxy/engine/src/policy`. What depends on the client (its certificate, early
data) is told as a condition. Pure; called by `reconciler.reporting.explaining.explain`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from ipaddress import ip_address, ip_network
from typing import Any, NamedTuple

from reconciler.catalog.policies import (
    Bytes,
    Edit,
    Identified,
    Leaf,
    Networks,
    Pause,
    Statuses,
    Word,
    asked_first,
)
from schemas.entities.entity import Entity
from schemas.kinds.frontend import Frontend
from schemas.policies.basic_auth import BasicAuth
from schemas.policies.client_certificate import CertificateConditions
from schemas.policies.compression import Compression
from schemas.policies.concurrency import Concurrency
from schemas.policies.cors import ANY, Cors
from schemas.policies.error_page import ErrorPage
from schemas.policies.forward_auth import ForwardAuth
from schemas.policies.hsts import Hsts
from schemas.policies.rate import RateLimit
from schemas.policies.set_cookie import ANY as ANY_COOKIE
from schemas.policies.set_cookie import DROP, CookieChange
from schemas.routes.mirror import Mirror
from schemas.routes.places import QueryChange, Redirect, Rewrite
from schemas.routes.respond import Respond
from schemas.routes.split import goes_by, shares_of
from schemas.values.units import format_duration, format_share, format_size

Stages = list[dict[str, Any]]
"""Each with `key`, as in the configuration, `words`, and `by`: the policy that says so, or null."""
Ending = tuple[int, str]
"""The status that a request is answered with (0: none), and how to say it."""
Words = Mapping[Leaf, Word]


class _Asked(NamedTuple):
    """What of a request the stages go by."""

    client: str | None
    preflight_of: str | None
    secure: bool
    method: str


_LISTED_MAX = 4


def _takes(_cluster: str) -> bool:
    return True


def stages_of(
    frontend: Frontend,
    words: Words,
    *,
    secure: bool,
    client: str | None = None,
    preflight_of: str | None = None,
    method: str = "GET",
    takes: Callable[[str], bool] = _takes,
) -> tuple[Stages, Ending | None]:
    """Return the stages that a request comes to, and its end if it gets to no cluster.

    `words` are those that count for the frontend, its policies' included. `client` is the address
    of who asks, where that is known, and `preflight_of` the origin that a browser asks for before
    it sends a request. `takes` tells whether any backend of a cluster takes requests.
    """
    stages: Stages = []
    ending: Ending | None = None
    asked = _Asked(client, preflight_of, secure, method)
    for stage, end in _before(frontend, words, asked, takes):
        stages.append(stage)
        ending = end
        if end is not None:
            break
    else:
        if frontend.split:
            stages.append(_stage("split", _split(frontend)))
        if frontend.rewrite is not None:
            told = f"the backend gets it {_rewritten(frontend.rewrite)}"
            stages.append(_stage("rewrite", told))
        stages += _edits(words, "request_headers")
        if frontend.mirror is not None:
            stages.append(_stage("mirror", _mirrored(frontend.mirror, takes)))
        stages += _timeouts(words)
        stages += [
            _stage("intercept", _intercepted(word.said), word.by)
            for word in words.values()
            if isinstance(word.said, Statuses)
        ]
    stages += _of_responses(words, secure, theirs=ending is None)
    return stages, ending


def stages_of_nobody(words: Words, *, secure: bool, status: int) -> Stages:
    """Return what holds for a request that no frontend takes: what is done with the answer.

    `words` are those of the listener and its policies.
    """
    mine = {
        leaf: word
        for leaf, word in words.items()
        if leaf.key != "error_pages" or leaf.name == str(status)
    }
    return _of_responses(mine, secure, theirs=False)


def _of_responses(words: Words, secure: bool, *, theirs: bool) -> Stages:
    """Tell what is done with an answer, of a backend's or our own."""
    stages = _edits(words, "response_headers")
    for leaf, word in words.items():
        if isinstance(word.said, Compression):
            stages.append(_stage("compression", _compressed(word.said), word.by))
        elif isinstance(word.said, CookieChange) and theirs:
            stages.append(_stage("set_cookie", _cookie(leaf.name, word.said), word.by))
        elif isinstance(word.said, Hsts) and secure:
            told = f"browsers stay at TLS for {word.said.max_age_days} days"
            stages.append(_stage("hsts", told, word.by))
        elif isinstance(word.said, ErrorPage) and word.by.key.kind != "listener":
            told = f"the page of {leaf.name}, where the proxy answers by itself"
            stages.append(_stage("error_pages", told, word.by))
    return stages


def _stage(key: str, told: str, by: Entity | None = None) -> dict[str, Any]:
    policy = None
    if by is not None and by.key.kind == "policy":
        where = by.provenance
        policy = {"name": by.key.name, "source": {"file": where.file, "line": where.line}}
    return {"key": key, "words": told, "by": policy}


def _edits(words: Words, key: str) -> Stages:
    """Tell what is done with header fields, for each of those who say so."""
    found: dict[str, tuple[Entity, dict[str, list[str]]]] = {}
    for leaf, word in words.items():
        if leaf.key == key and isinstance(word.said, Edit):
            _, verbs = found.setdefault(str(word.by.key), (word.by, {}))
            only = f" (answers: {word.said.answers})" if word.said.answers else ""
            verbs.setdefault(word.said.verb, []).append(f"{word.written}{only}")
    return [
        _stage(
            key,
            "; ".join(
                f"{verb} {', '.join(sorted(verbs[verb]))}"
                for verb in ("set", "add", "remove")
                if verb in verbs
            ),
            by,
        )
        for by, verbs in found.values()
    ]


def _before(
    frontend: Frontend, words: Words, asked: _Asked, takes: Callable[[str], bool]
) -> Iterator[tuple[dict[str, Any], Ending | None]]:
    """Yield the stages that may answer, each with the end that a request has there."""
    if asked.method == "TRACE" and not frontend.methods and not frontend.passthrough:
        told = "TRACE is answered here, since the frontend does not name it: 405"
        yield _stage("methods", told), (405, told)
    sizes = [(word.said.most, word.by) for word in words.values() if isinstance(word.said, Bytes)]
    if sizes:
        most, by = min(sizes, key=lambda each: each[0])
        told = f"a body of more than {format_size(most)} gets 413"
        yield _stage("limits", told, by), None
    to = frontend.redirect
    if to == "https" and not asked.secure:
        told = "it is sent to the same place over TLS: 308"
        yield _stage("redirect", told), (308, told)
    yield from _access(words, asked.client, 0 if frontend.passthrough else 403)
    for stage in _limits(words):
        yield stage, None
    cors = words.get(Leaf("cors"))
    if cors is not None and isinstance(cors.said, Cors):
        yield _cors(cors.said, cors.by, asked.preflight_of)
    for stage in _certificates(words):
        yield stage, None
    for stage in _users(words):
        yield stage, None
    for question, by in asked_first(words):
        yield _stage("forward_auth", _question(question), by), _unanswered(question, takes)
    if isinstance(to, Redirect):
        told = f"it is sent to {_place(to)}: {to.status}"
        yield _stage("redirect", told), (to.status, told)
    if frontend.respond is not None:
        told = _answer(frontend.respond)
        status = 0 if frontend.respond.close else frontend.respond.status
        yield _stage("respond", told), (status, told)


def _timeouts(words: Words) -> Stages:
    """Tell how long each step may take, where that is not left to listener and cluster."""
    return [
        _stage("timeouts", f"{leaf.name} within {format_duration(word.said.longest_ms)}", word.by)
        for leaf, word in words.items()
        if isinstance(word.said, Pause)
    ]


def _intercepted(said: Statuses) -> str:
    listed = _listed([str(each) for each in said.statuses])
    return f"a page of ours stands in place of the backend's {listed}"


def _limits(words: Words) -> Iterator[dict[str, Any]]:
    """Yield how many requests there may be, at a time and in a time."""
    for word in words.values():
        if isinstance(word.said, Concurrency):
            yield _stage("concurrency", _concurrency(word.said), word.by)
    for word in words.values():
        if isinstance(word.said, RateLimit):
            yield _stage("rate_limit", _rate(word.said), word.by)


def _certificates(words: Words) -> Iterator[dict[str, Any]]:
    """Yield what clients have to show of themselves."""
    for word in words.values():
        if isinstance(word.said, Identified):
            told = "a client that has shown none gets 403"
            if isinstance(word.said.certificate, CertificateConditions):
                whose = word.said.certificate.value().items()
                of = " and ".join(f"{key} {_listed(sorted(values))}" for key, values in whose)
                told = f"{told}, and one of others than {of}"
            yield _stage("client_certificate", told, word.by)


def _users(words: Words) -> Iterator[dict[str, Any]]:
    """Yield who gets in by a password."""
    for word in words.values():
        if isinstance(word.said, BasicAuth):
            told = f'users of {word.said.users.path} get in ("{word.said.realm}"); others get 401'
            yield _stage("basic_auth", told, word.by)


def _rate(rate: RateLimit) -> str:
    burst = rate.burst or rate.requests
    often = f"{rate.requests} requests in {format_duration(rate.per)}, {burst} at once"
    return f"{often}, {_for_each(rate)}"


def _concurrency(limit: Concurrency) -> str:
    return f"{limit.requests} requests in flight, {_for_each(limit)}"


def _for_each(limit: RateLimit | Concurrency) -> str:
    by = limit.by
    whose = by.replace("_", " ") if isinstance(by, str) else " ".join(by.given())
    refused = "more are counted (dry_run)" if limit.dry_run else "more get 429"
    return f"for each {whose} and worker; {refused}"


def _compressed(said: Compression) -> str:
    what = f"answers of {_listed(said.types)} from {format_size(said.min_bytes)} on"
    private = "" if said.private else ", none with cookies or private ones"
    return f"{what} are compressed by {' or '.join(said.encodings)}{private}"


def _cookie(name: str, said: CookieChange) -> str:
    which = "other cookies" if name == ANY_COOKIE else f"cookie {name}"
    moved = ", ".join(f"{begin} to {to}" for begin, to in said.path.items())
    parts = [
        "Secure" if said.secure else "",
        "HttpOnly" if said.http_only else "",
        f"SameSite={said.same_site.capitalize()}" if said.same_site else "",
        "no Domain" if said.domain == DROP else f"Domain={said.domain}" if said.domain else "",
        f"Path from {moved}" if moved else "",
    ]
    return f"{which} of backends: {', '.join(filter(None, parts))}"


def _cors(cors: Cors, by: Entity, preflight_of: str | None) -> tuple[dict[str, Any], Ending | None]:
    if preflight_of is None:
        told = f"preflights are answered here, for pages of {_listed(cors.origins)}"
        return _stage("cors", told, by), None
    if allows(cors, preflight_of):
        told = f"the preflight of {preflight_of} is answered here: 204"
        return _stage("cors", told, by), (204, told)
    told = f"{preflight_of} is none of {_listed(cors.origins)}: 403"
    return _stage("cors", told, by), (403, told)


def allows(cors: Cors, origin: str) -> bool:
    """Tell whether pages of an origin may ask."""
    return any(_covers(each, origin) for each in cors.origins)


def _covers(allowed: str, origin: str) -> bool:
    scheme, star, parent = allowed.partition("*")
    if not star or allowed == ANY:
        return allowed in (ANY, origin)
    is_below = origin.startswith(scheme) and origin.endswith(parent)
    return is_below and len(origin) > len(scheme) + len(parent)


def _access(
    words: Words, client: str | None, status: int
) -> Iterator[tuple[dict[str, Any], Ending | None]]:
    refused = "403" if status else "the connection is closed"
    for key in ("deny", "allow"):
        for leaf, word in words.items():
            if leaf.key != key or not isinstance(word.said, Networks):
                continue
            networks = _listed(word.said.networks)
            if client is None:
                which = "in" if key == "deny" else "outside of"
                yield _stage(key, f"for clients {which} {networks}: {refused}", word.by), None
                continue
            is_in = _is_in(client, word.said.networks)
            told = f"client {client} is {'' if is_in else 'not '}in {networks}"
            end = None
            if is_in == (key == "deny"):
                told = f"{told}: {refused}"
                end = (status, told)
            yield _stage(key, told, word.by), end


def _is_in(client: str, networks: Sequence[str]) -> bool:
    address = ip_address(client)
    return any(address in ip_network(each) for each in networks)


def _listed(networks: Sequence[str]) -> str:
    more = f", … ({len(networks)} in all)" if len(networks) > _LISTED_MAX else ""
    return ", ".join(networks[:_LISTED_MAX]) + more


def _question(asked: ForwardAuth) -> str:
    copied = f", and says {', '.join(asked.copy_headers)}" if asked.copy_headers else ""
    return f"cluster {asked.cluster} is asked for {asked.path} whether it may pass{copied}"


def _unanswered(asked: ForwardAuth, takes: Callable[[str], bool]) -> Ending | None:
    if takes(asked.cluster):
        return None
    whom = f'cluster "{asked.cluster}", which is asked,'
    return 503, f"{whom} has no backend that takes requests: 503"


def _split(frontend: Frontend) -> str:
    shares = shares_of(frontend.split)
    to = ", ".join(f"{share} to {name}" for name, share in shares.items())
    return f"{to}; {goes_by(frontend.split_by)}"


def _mirrored(mirror: Mirror, takes: Callable[[str], bool]) -> str:
    if not takes(mirror.cluster):
        return f"cluster {mirror.cluster} gets none: it has no backend that takes requests"
    what = "it goes" if mirror.share == 100 else f"{format_share(mirror.share)} of them go"
    return f"{what} to cluster {mirror.cluster} as well, whose answer is thrown away"


def _place(to: Redirect) -> str:
    parts = [
        f"scheme {to.scheme}" if to.scheme else "",
        f"host {to.hostname}" if to.hostname else "",
        f"port {to.port}" if to.port else "",
        _path(to.path.given()) if to.path else "",
        _query(to.query),
    ]
    return ", ".join(filter(None, parts))


def _rewritten(rewrite: Rewrite) -> str:
    parts = [
        f"for host {rewrite.hostname}" if rewrite.hostname else "",
        f"at {_path(rewrite.path.given())}" if rewrite.path else "",
        f"with {query}" if (query := _query(rewrite.query)) else "",
    ]
    return " ".join(filter(None, parts))


def _query(use: QueryChange | str) -> str:
    if isinstance(use, QueryChange):
        return f"query {use.full}"
    return "no query" if use == "drop" else ""


def _path(given: tuple[str, str]) -> str:
    kind, text = given
    return f"path {text}" if kind == "full" else f"prefix {text}"


def _answer(respond: Respond) -> str:
    if respond.close:
        return "the connection is closed without an answer"
    what = f" with {len(respond.body.encode())} bytes" if respond.body else ""
    what = f" with {respond.file.path}" if respond.file is not None else what
    return f"it is answered here{what}: {respond.status}"
