"""What holds for a frontend on a listener: its own word, its policies', the listener's policies'.

Merged by leaf: the name of a header or a cookie, the status of a page; HSTS, CORS and compression
as a whole. A header in which a backend is told who asks has one author, by whatever key. Whoever is
nearer to the frontend goes first, and a written null switches off. Two policies of one list that
differ about a leaf are in conflict, unless the frontend itself decides. Who may ask, who is asked
whether they may, how often and how much, is a leaf of each who says something of it, so that nobody
replaces it, unless a policy of the listener's is overridable. The engine does the same
(`proxy/engine/src/policy/merged.rs`); a test holds the two together. Called by the catalog, by
`planning` and by `explain`. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from reconciler.catalog.relations import View, users
from reconciler.language.findings import Finding, place
from schemas.entities.entity import Entity, EntityKey
from schemas.kinds.frontend import Frontend
from schemas.kinds.listener import Listener
from schemas.kinds.policy import Policy
from schemas.policies.bandwidth import Bandwidth
from schemas.policies.basic_auth import BasicAuth
from schemas.policies.client_certificate import CertificateConditions
from schemas.policies.compression import Compression
from schemas.policies.concurrency import Concurrency
from schemas.policies.cors import Cors
from schemas.policies.edits import AnswerLine, SaidLine
from schemas.policies.effects import ADD_UP, Effects
from schemas.policies.error_page import ErrorPage
from schemas.policies.forward_auth import ForwardAuth
from schemas.policies.hsts import Hsts
from schemas.policies.jwt import Jwt, TokenPlace
from schemas.policies.rate import RateLimit, each_by, each_of
from schemas.policies.set_cookie import CookieChange
from schemas.values.forms import INHERIT

_EDITED = ("request_headers", "response_headers")
IDENTITY = "identity"
"""Of leaves that are no key: headers in which backends are told who asks, by whichever key."""


_SAYING = frozenset(Effects.model_fields)


class Leaf(NamedTuple):
    """What one word is about."""

    key: str
    name: str = ""
    """Of a header, in lower case, a cookie or a status; of who speaks, where all words count."""

    def __str__(self) -> str:
        return f"{self.key}.{self.name}" if self.name else self.key


class Edit(NamedTuple):
    """What is done with a header: set, add or remove."""

    verb: str
    texts: tuple[str, ...] = ()
    """One for each line."""
    answers: str = ""
    """Which of them, where that is said."""


class Networks(NamedTuple):
    """Those of the clients that may ask, or may not."""

    networks: Sequence[str]


class Identified(NamedTuple):
    """What a client has to show of itself."""

    certificate: CertificateConditions | str


class Told(NamedTuple):
    """Who tells a backend who asks, in a header, and by what."""

    key: str
    of: tuple[str, ...]


class Bytes(NamedTuple):
    """The largest body of a request."""

    most: int


class Statuses(NamedTuple):
    """Those of backends in whose place our own pages are sent."""

    statuses: Sequence[int]


class Pause(NamedTuple):
    """How long a step may take, in milliseconds."""

    longest_ms: int


Said = (
    Identified
    | Bandwidth
    | Compression
    | CookieChange
    | Concurrency
    | BasicAuth
    | RateLimit
    | Cors
    | Edit
    | ErrorPage
    | ForwardAuth
    | Hsts
    | Jwt
    | Networks
    | Bytes
    | Statuses
    | Pause
    | Told
    | None
)
"""None switches off what others say."""


class Word(NamedTuple):
    """What is said about a leaf, and by whom."""

    said: Said
    by: Entity
    written: str
    """The name as it is written."""


def words_of(entity: Entity) -> Iterator[tuple[Leaf, Word]]:
    """Yield what a frontend, a policy or a listener says itself."""
    # Most frontends say nothing, and of each it is asked some times.
    if _SAYING.isdisjoint(entity.value):
        return
    if entity.key.kind == "listener":
        for status, own in entity.typed(Listener).error_pages.items():
            yield Leaf("error_pages", status), Word(own, entity, status)
        return
    is_policy = entity.key.kind == "policy"
    says = entity.typed(Policy) if is_policy else entity.typed(Frontend)
    yield from _bounds(says, entity)
    yield from _shown(says, entity)
    yield from _identities(says, entity)
    for status, page in says.error_pages.items():
        yield Leaf("error_pages", status), Word(page, entity, status)
    if says.compression is None or isinstance(says.compression, Compression):
        yield Leaf("compression"), Word(says.compression, entity, "")
    if says.cors is None or isinstance(says.cors, Cors):
        yield Leaf("cors"), Word(says.cors, entity, "")
    for name, change in says.set_cookie.items():
        yield Leaf("set_cookie", name), Word(change, entity, name)
    if says.forward_auth is not None:
        yield Leaf("forward_auth", str(entity.key)), Word(says.forward_auth, entity, "")
    if says.hsts is None or isinstance(says.hsts, Hsts):
        yield Leaf("hsts"), Word(says.hsts, entity, "")
    yield from _edits(says, entity)


def _edits(says: Policy | Frontend, entity: Entity) -> Iterator[tuple[Leaf, Word]]:
    """Yield what is done with header fields."""
    for key in _EDITED:
        edits = says.request_headers if key == _EDITED[0] else says.response_headers
        for verb, lines in (("set", edits.set), ("add", edits.add)):
            for name, line in lines.items():
                yield Leaf(key, name.lower()), Word(_edit(verb, line), entity, name)
        for name in edits.remove:
            yield Leaf(key, name.lower()), Word(Edit("remove"), entity, name)


def _edit(verb: str, line: SaidLine) -> Edit | None:
    if isinstance(line, AnswerLine):
        return Edit(verb, (line.text,), line.answers)
    if isinstance(line, list):
        return Edit(verb, tuple(line))
    return Edit(verb, (line,)) if line is not None else None


def _shown(says: Policy | Frontend, entity: Entity) -> Iterator[tuple[Leaf, Word]]:
    """Yield what clients have to show of themselves."""
    if says.client_certificate is not None:
        asked = Identified(says.client_certificate)
        yield Leaf("client_certificate", str(entity.key)), Word(asked, entity, "")
    if says.basic_auth is not None:
        yield Leaf("basic_auth", str(entity.key)), Word(says.basic_auth, entity, "")
    if says.jwt is not None:
        yield Leaf("jwt", str(entity.key)), Word(says.jwt, entity, "")


def _identities(says: Policy | Frontend, entity: Entity) -> Iterator[tuple[Leaf, Word]]:
    """Yield the headers in which backends are told who asks."""
    if says.jwt is not None:
        token = says.jwt.place
        where = token.given() if isinstance(token, TokenPlace) else (token,)
        for name, claim in says.jwt.headers.items():
            # Another issuer's policy that takes the same token says the same of it.
            yield Leaf(IDENTITY, name.lower()), Word(Told("jwt", (claim, *where)), entity, name)
    if says.forward_auth is not None:
        told = Told("forward_auth", (says.forward_auth.cluster, says.forward_auth.path))
        for name in says.forward_auth.copy_headers:
            yield Leaf(IDENTITY, name.lower()), Word(told, entity, name)
    if says.basic_auth is not None and says.basic_auth.header is not None:
        # A request names one user, whoever has looked for it.
        name = says.basic_auth.header
        yield Leaf(IDENTITY, name.lower()), Word(Told("basic_auth", ()), entity, name)


def _bounds(says: Policy | Frontend, entity: Entity) -> Iterator[tuple[Leaf, Word]]:
    """Yield who may ask, how much, how long it may take, and which errors are passed on."""
    for key, networks in (("deny", says.deny), ("allow", says.allow)):
        if networks is not None:
            yield Leaf(key, str(entity.key)), Word(Networks(networks), entity, "")
    most = says.limits.body_bytes
    if most is not None:
        yield Leaf("limits.body_bytes", str(entity.key)), Word(Bytes(most), entity, "")
    if says.bandwidth is not None:
        yield Leaf("bandwidth", str(entity.key)), Word(says.bandwidth, entity, "")
    if says.concurrency is not None:
        yield Leaf("concurrency", str(entity.key)), Word(says.concurrency, entity, "")
    limits = each_of(says.rate_limit)
    for limit in limits:
        by = f"{entity.key} {limit.called()}" if len(limits) > 1 else str(entity.key)
        yield Leaf("rate_limit", by), Word(limit, entity, limit.called() if len(limits) > 1 else "")
    intercept = says.intercept
    if intercept is None or not isinstance(intercept, str):
        statuses = Statuses(intercept) if intercept is not None else None
        yield Leaf("intercept"), Word(statuses, entity, "")
    for step, pause in says.timeouts:
        if pause != INHERIT:
            said = Pause(pause) if pause is not None else None
            yield Leaf("timeouts", step), Word(said, entity, step)


_AUTHENTICATION = ("basic_auth", "client_certificate", "forward_auth", "jwt")
_OVERRIDDEN = {
    **dict(zip(ADD_UP, ADD_UP, strict=True)),
    **dict.fromkeys((*_AUTHENTICATION, IDENTITY), "authentication"),
}
"""Of what an overridable policy of a listener says, what goes with what."""


def merged(levels: Iterable[Sequence[Entity]]) -> dict[Leaf, Word]:
    """Return who has the last word about each leaf: the first of the levels that says anything.

    The first two are the frontend and its policies.
    """
    found: dict[Leaf, Word] = {}
    nearer: set[str] = set()
    for number, level in enumerate(levels):
        for entity in level:
            lets = number >= _BEYOND and _is_overridable(entity)
            for leaf, word in words_of(entity):
                what = _OVERRIDDEN.get(leaf.key)
                if number < _BEYOND and what is not None:
                    nearer.add(what)
                if not (lets and what in nearer):
                    found.setdefault(leaf, word)
    return found


_BEYOND = 2


def _is_overridable(entity: Entity) -> bool:
    return entity.key.kind == "policy" and entity.typed(Policy).overridable


def asked_first(words: Mapping[Leaf, Word]) -> list[tuple[ForwardAuth, Entity]]:
    """Return who is asked whether a request may pass, in the engine's order, nobody twice."""
    asked: list[tuple[ForwardAuth, Entity]] = []
    for said, by, _ in words.values():
        if isinstance(said, ForwardAuth) and said not in [other for other, _ in asked]:
            asked.append((said, by))
    return asked[::-1]


def identified(words: Mapping[Leaf, Word]) -> Iterator[tuple[str, Entity, str]]:
    """Yield headers in which clients say nothing of themselves: by whom they are said, and how."""
    for asked, by in asked_first(words):
        yield from ((name, by, "forward_auth.copy_headers") for name in asked.copy_headers)
    for said, by, _ in words.values():
        if isinstance(said, Jwt):
            yield from ((name, by, "jwt.headers") for name in said.headers)
        if isinstance(said, BasicAuth) and said.header is not None:
            yield said.header, by, "basic_auth.header"


def waits_for_identity(limit: RateLimit | Concurrency, words: Mapping[Leaf, Word]) -> bool:
    """Return whether a limit goes by who asks, so that it is behind all who say that."""
    fields = [by for by in each_by(limit.by) if not isinstance(by, str)]
    if any(by.claim is not None for by in fields):
        return True
    named = {by.header for by in fields if by.header is not None}
    return bool(named) and any(name.lower() in named for name, _, _ in identified(words))


def levels_of(frontend: Entity, listener: str, view: View) -> list[list[Entity]]:
    """Return who has a word about a frontend's requests at a listener, the nearest first."""
    return [[frontend], policies_of(frontend, view), *beyond(listener, view)]


def beyond(listener: str, view: View) -> list[list[Entity]]:
    """Return who has a word about requests at a listener, whatever frontend takes them."""
    found = view.get(EntityKey("listener", listener))
    return [[found], policies_of(found, view)] if found is not None else []


def policies_of(entity: Entity, view: View) -> list[Entity]:
    """Return the policies that a frontend or a listener names, as far as they are there."""
    found = (view.get(EntityKey("policy", name)) for name in named_policies(entity))
    return [policy for policy in found if policy is not None]


def named_policies(entity: Entity) -> Sequence[str]:
    """Return the names of the policies that an entity lists."""
    match entity.key.kind:
        case "frontend":
            return entity.typed(Frontend).policies
        case "listener":
            return entity.typed(Listener).policies
        case _:
            return ()


def concerned(policy: EntityKey, view: View) -> set[EntityKey]:
    """Return the frontends for which a policy counts: they name it, or their listener does."""
    found: set[EntityKey] = set()
    for user in users(view, policy):
        if user.kind == "listener":
            found |= {key for key in users(view, user) if key.kind == "frontend"}
        else:
            found.add(user)
    return found


def conflicts(changed: Iterable[EntityKey], view: View) -> Iterator[Finding]:
    """Yield errors about lists of which two policies differ about a leaf that nobody decides."""
    suspects: set[EntityKey] = set()
    for key in changed:
        if key.kind == "policy":
            suspects |= users(view, key)
        elif key.kind in ("frontend", "listener") and key in view:
            suspects.add(key)
    clashing: dict[tuple[str, ...], dict[Leaf, tuple[Word, Word]]] = {}
    told: set[tuple[tuple[str, ...], Leaf]] = set()
    for key in sorted(suspects):
        entity = view[key]
        names = tuple(named_policies(entity))
        if len(names) < 2:
            continue
        if names not in clashing:
            clashing[names] = dict(_clashing(policies_of(entity, view)))
        decided = set(_decided(entity)) if key.kind == "frontend" else set()
        for leaf, pair in clashing[names].items():
            # Thousands of frontends have the same list, which is mended at one place.
            if leaf not in decided and (names, leaf) not in told:
                told.add((names, leaf))
                yield _conflict(entity, leaf, *pair)


def _decided(frontend: Entity) -> Iterator[Leaf]:
    """Yield what a frontend says itself; where it edits a header, nobody else says that."""
    for leaf, word in words_of(frontend):
        yield leaf
        if leaf.key == _EDITED[0] and isinstance(word.said, Edit) and word.said.verb != "add":
            yield Leaf(IDENTITY, leaf.name)


def _clashing(policies: Sequence[Entity]) -> Iterator[tuple[Leaf, tuple[Word, Word]]]:
    first: dict[Leaf, Word] = {}
    for policy in policies:
        for leaf, word in words_of(policy):
            other = first.setdefault(leaf, word)
            if other.said != word.said:
                yield leaf, (other, word)


def _conflict(entity: Entity, leaf: Leaf, one: Word, other: Word) -> Finding:
    both = f"{one.by.key} ({place(one.by)}) and {other.by.key} ({place(other.by)})"
    message = f"{entity.key}: {both} say different things about {leaf}"
    hint = "leave one of the two out"
    key = leaf.key
    if isinstance(one.said, Told) and isinstance(other.said, Told):
        name = other.written
        keys = " and ".join(dict.fromkeys((one.said.key, other.said.key)))
        message = f"{entity.key}: {both} tell backends different things in {name} (by {keys})"
        hint, key = f"leave {name} out of one of the two", "it (or request_headers)"
    if entity.key.kind == "frontend":
        hint += f", or write {key} in the frontend itself, whose word goes first"
    return Finding("error", entity.key, ("policies", other.by.key.name), message, hint)
