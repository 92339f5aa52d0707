"""Who may ask: the stages that may refuse a request, in words, and what they say to this one.

What only a connection or a password tells is a condition: nothing is hashed here, and nobody is
asked. Pure; called by `reconciler.reporting.explaining.stages`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_address, ip_network
from typing import Any, NamedTuple

from reconciler.catalog.policies import (
    IDENTITY,
    Bytes,
    Edit,
    Identified,
    Leaf,
    Networks,
    Word,
    asked_first,
    waits_for_identity,
)
from reconciler.reporting.explaining.making import Made, short
from schemas.entities.entity import Entity
from schemas.kinds.listener import Listener
from schemas.policies.basic_auth import BasicAuth
from schemas.policies.client_certificate import CertificateConditions
from schemas.policies.concurrency import Concurrency
from schemas.policies.cors import Cors
from schemas.policies.forward_auth import ForwardAuth
from schemas.policies.jwt import Jwt, TokenPlace
from schemas.policies.rate import IPV6_PREFIX, RateLimit, each_by
from schemas.record import record
from schemas.values.units import format_duration, format_size

Stage = dict[str, Any]
Stages = list[Stage]
"""Each with `key`, as in the configuration, `words`, `source`: where whoever says so is written,
and `by`: that one, where it is a policy."""
Ending = tuple[int, str]
"""The status that a request is answered with (0: none), and how to say it."""
Words = Mapping[Leaf, Word]

_LISTED_MAX = 4


class Step(NamedTuple):
    """A stage, and what comes of it for the request."""

    stage: Stage
    end: Ending | None = None
    condition: str = ""
    """What has to be so that the request gets further, where that is not known here."""


def _takes(_cluster: str) -> bool:
    return True


@record
class Seen:
    """What of a request, and of where it comes to, the stages go by."""

    made: Made
    secure: bool
    listener: Entity | None = None
    method: str = "GET"
    client: str | None = None
    """The address of who asks, where that is known."""
    preflight_of: str | None = None
    """The origin that a browser asks for before it sends a request."""
    origin: str | None = None
    length: int | None = None
    """Of its body, as far as its head tells."""
    takes: Callable[[str], bool] = _takes
    """Whether any backend of a cluster takes requests."""


def stage(key: str, told: str, by: Entity | None) -> Stage:
    """Return what is told of a key, by whoever has it written."""
    place = by.place if by is not None else None
    source = {"file": place.file, "line": place.line} if place is not None else None
    is_policy = by is not None and by.key.kind == "policy"
    policy = {"name": by.key.name, "source": source} if is_policy and by is not None else None
    return {"key": key, "words": told, "by": policy, "source": source}


def listed(texts: Sequence[str]) -> str:
    """Return the first of some texts, and how many there are."""
    more = f", … ({len(texts)} in all)" if len(texts) > _LISTED_MAX else ""
    return ", ".join(texts[:_LISTED_MAX]) + more


def sizes(words: Words, seen: Seen) -> Iterator[Step]:
    """Yield how large a body may be."""
    found = [(word.said.most, word.by) for word in words.values() if isinstance(word.said, Bytes)]
    own = seen.listener.typed(Listener).limits.body_bytes if seen.listener is not None else None
    if own is not None and seen.listener is not None and seen.length is not None:
        found.append((own, seen.listener))
    if not found:
        return
    most, by = min(found, key=lambda each: each[0])
    told, end = f"a body of more than {format_size(most)} gets 413", None
    if seen.length is not None and seen.length > most:
        told = f"a body of {seen.length} bytes is longer than {format_size(most)}: 413"
        end = (413, told)
    if end is not None or by is not seen.listener:
        yield Step(stage("limits", told, by), end)


def asked_for(words: Words, seen: Seen, *, unread: bool) -> Iterator[Step]:
    """Yield the stages of those who have to let a request pass; `unread`: TLS that is passed on."""
    yield from _access(words, seen.client, 0 if unread else 403)
    yield from _limits(words, behind=False)
    cors = words.get(Leaf("cors"))
    if cors is not None and isinstance(cors.said, Cors):
        yield _cors(cors.said, cors.by, seen)
    yield from _certificates(words, secure=seen.secure)
    yield from _users(words, seen.made.user)
    yield from _tokens(words)
    for question, by in asked_first(words):
        end = _unanswered(question, seen.takes)
        condition = f"if cluster {question.cluster} lets it pass"
        told = f"cluster {question.cluster} is asked for {question.path} whether it may pass"
        if question.cache is not None:
            by_these = " and ".join(question.cache.headers)
            told += f" (which counts for {format_duration(question.cache.ttl)} by {by_these})"
        told += _told(", and says ", question.copy_headers, by, words)
        yield Step(stage("forward_auth", told, by), end, condition)
    yield from _limits(words, behind=True)


def _access(words: Words, client: str | None, status: int) -> Iterator[Step]:
    refused = "403" if status else "the connection is closed"
    for key in ("deny", "allow"):
        for leaf, word in words.items():
            if leaf.key != key or not isinstance(word.said, Networks):
                continue
            networks = listed(word.said.networks)
            if client is None:
                which = "in" if key == "deny" else "outside of"
                told = f"for clients {which} {networks}: {refused}"
                condition = "if its client may ask (--client-address)"
                yield Step(stage(key, told, word.by), None, condition)
                continue
            is_in = _is_in(client, word.said.networks)
            told = f"client {client} is {'' if is_in else 'not '}in {networks}"
            end = None
            if is_in == (key == "deny"):
                told = f"{told}: {refused}"
                end = (status, told)
            yield Step(stage(key, told, word.by), end)


def _is_in(client: str, networks: Sequence[str]) -> bool:
    address = ip_address(client)
    return any(address in ip_network(each) for each in networks)


def _limits(words: Words, *, behind: bool) -> Iterator[Step]:
    """Yield how many requests there may be, at a time and in a time; `behind` who says who asks."""
    for word in words.values():
        if isinstance(word.said, Concurrency) and waits_for_identity(word.said, words) == behind:
            yield Step(stage("concurrency", _concurrency(word.said), word.by))
    for word in words.values():
        if isinstance(word.said, RateLimit) and waits_for_identity(word.said, words) == behind:
            # Of several each is told by its name.
            called = f"{word.written}: " if word.written else ""
            told = stage("rate_limit", called + _rate(word.said), word.by)
            yield Step({**told, "name": word.written} if word.written else told)


def _rate(rate: RateLimit) -> str:
    burst = rate.burst or rate.requests
    often = f"{rate.requests} requests in {format_duration(rate.per)}, {burst} at once"
    return f"{often}, for each {_whose(rate)}; {_refused(rate)}"


def _concurrency(limit: Concurrency) -> str:
    whose = f"for each {_whose(limit)}"
    return f"{limit.requests} requests in flight, {whose}; {_refused(limit)}"


def _whose(limit: RateLimit | Concurrency) -> str:
    whose = " and ".join(
        by.replace("_", " ") if isinstance(by, str) else " ".join(by.given())
        for by in each_by(limit.by)
    )
    is_usual = limit.ipv6_prefix == IPV6_PREFIX
    return whose if is_usual else f"{whose} (of IPv6 a network of {limit.ipv6_prefix} bits)"


def _refused(limit: RateLimit | Concurrency) -> str:
    status = limit.status if isinstance(limit, RateLimit) else 429
    return "more are counted (dry_run)" if limit.dry_run else f"more get {status}"


def _cors(cors: Cors, by: Entity, seen: Seen) -> Step:
    """Tell it by the engine's own word about the origin."""
    may, origins = seen.made.origin is not None, listed(cors.origins)
    if seen.preflight_of is not None:
        told = f"{short(seen.preflight_of)} is none of {origins}: 403"
        if may:
            told = f"the preflight of {short(seen.preflight_of)} is answered here: 204"
        return Step(stage("cors", told, by), (204 if may else 403, told))
    told = f"preflights are answered here, for pages of {origins}"
    if seen.origin is not None:
        which = "may read the answer" if may else f"may not read the answer: none of {origins}"
        told = f"pages of {short(seen.origin)} {which}"
    return Step(stage("cors", told, by))


def _certificates(words: Words, *, secure: bool) -> Iterator[Step]:
    """Yield what clients have to show of themselves."""
    for word in words.values():
        if not isinstance(word.said, Identified):
            continue
        if not secure:
            told = "in clear text no client shows a certificate: 403"
            yield Step(stage("client_certificate", told, word.by), (403, told))
            continue
        told = "a client that has shown none gets 403"
        if isinstance(word.said.certificate, CertificateConditions):
            whose = word.said.certificate.value().items()
            of = " and ".join(f"{key} {listed(sorted(values))}" for key, values in whose)
            told = f"{told}, and one of others than {of}"
        condition = "if its client shows such a certificate"
        yield Step(stage("client_certificate", told, word.by), None, condition)


def _users(words: Words, user: str | None) -> Iterator[Step]:
    """Yield who gets in by a password, of which none is checked here."""
    for word in words.values():
        if not isinstance(word.said, BasicAuth):
            continue
        told = f'users of {word.said.users.path} get in ("{word.said.realm}")'
        if user is None:
            told = f"{told}, and no user is named with a password: 401"
            yield Step(stage("basic_auth", told, word.by), (401, told))
            continue
        if word.said.header is not None:
            told += _told("; told in ", [word.said.header], word.by, words)
        whose = f'"{short(user)}"'
        told = f"{told}; whether {whose} is one, by the password, is not checked here"
        condition = f"if {whose} and the password are in {word.said.users.path}"
        yield Step(stage("basic_auth", told, word.by), None, condition)


def _tokens(words: Words) -> Iterator[Step]:
    """Yield whose tokens are asked for, the outermost first; none is looked at here."""
    asked = [(word.said, word.by) for word in words.values() if isinstance(word.said, Jwt)]
    known: list[Jwt] = []
    for said, by in asked[::-1]:
        if said in known:
            # One token convinces all who ask for the same.
            continue
        known.append(said)
        if said.keys.sha256 is None:
            told = f"the keys of {said.issuer} have not been fetched yet: 503"
            yield Step(stage("jwt", told, by), (503, told))
            continue
        where = " ".join(said.place.given()) if isinstance(said.place, TokenPlace) else said.place
        whom = f" for {' or '.join(said.audiences)}" if said.audiences else ""
        told = f"a token in {where} by {said.issuer}{whom}: others get 401"
        more = [f"scope {each}" for each in said.scopes]
        more += [f"{claim} {' or '.join(texts)}" for claim, texts in sorted(said.claims.items())]
        told += f"; one without {' and '.join(more)} gets 403" if more else ""
        told += _told("; it says ", said.headers, by, words)
        yield Step(stage("jwt", told, by), None, f"if a token by {said.issuer} lets it pass")


def _told(begin: str, names: Iterable[str], by: Entity, words: Words) -> str:
    """Say in which headers the backend is told who asks, and who says it in the others."""
    own, others = [], []
    for name in sorted(names):
        edit, author = (words.get(Leaf(key, name.lower())) for key in ("request_headers", IDENTITY))
        if edit is not None and isinstance(edit.said, Edit) and edit.said.verb != "add":
            others.append(f"; {name} is what request_headers of {edit.by.key} says")
        elif author is not None and author.by is not by:
            others.append(f"; {name} is what {author.by.key} says, which is nearer")
        else:
            own.append(name)
    return (f"{begin}{', '.join(own)}" if own else "") + "".join(others)


def _unanswered(asked: ForwardAuth, takes: Callable[[str], bool]) -> Ending | None:
    if takes(asked.cluster):
        return None
    whom = f'cluster "{asked.cluster}", which is asked,'
    return 503, f"{whom} has no backend that takes requests: 503"
