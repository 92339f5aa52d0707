"""How entities relate, as rows: a relation, a term, and the entity that stands under it.

`relations_of` is the whole of it, pure, and so the same for a configuration in memory and for the
database. Whoever wants to know who names a cluster, or what listens on a port, asks a `View` for
that term and gets the few entities under it; nothing walks all of them. Called by
`reconciler.catalog`, and by the database when it writes an entity.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import product
from typing import NamedTuple, Protocol

from reconciler.language.compiled import compiled
from reconciler.materials.completing import NOTHING_HERE, Machine, fetched_files, is_ordered
from schemas.entities.entity import Entity, EntityKey, Mark, canonical_text
from schemas.entities.material import materials_of, may_name_files
from schemas.kinds.backend import Backend
from schemas.kinds.certificate import Certificate
from schemas.kinds.cluster import Cluster
from schemas.kinds.frontend import Frontend
from schemas.kinds.listener import Listener
from schemas.kinds.policy import Policy
from schemas.kinds.settings import Settings
from schemas.routes.mirror import mirrors_of
from schemas.values.names import port_of
from schemas.values.targets import UNIX, is_unix

USE = "use"
"""`KIND/NAME` → who refers to it."""
LISTEN = "listen"
"""Port → who listens on it; the note is the address."""
DIAL = "dial"
"""Port → backends there; the note is the address."""
MATCH = "match"
"""All of a match but methods and clients, on one listener → frontends; the note is "" without
methods."""
HOST = "host"
"""Hostname → frontends; those with an exact one also under the wildcard that covers it."""
WIDE = "wide"
"""Listener and a hostname that others may have more exactly → frontends that ask for more."""
PASSED = "passed"
"""Listener and hostname → frontends that pass TLS on unread."""
COVER = "cover"
"""Hostname → certificates that have it."""
SECURE = "secure"
"""No term → listeners that speak TLS."""
FETCHED = "fetched"
"""URL and the file with whom to trust, "" without one → who needs what is there."""
CLEAR = "clear"
"""No term → listeners that do not."""
BYTES = "bytes"
"""No term → listeners of which nothing is read."""
CHECKED = "checked"
"""No term → clusters whose backends are checked."""
ORDERED = "ordered"
"""No term → certificates that come from an authority."""
EXPRESSION = "expression"
"""Expression → who has it; the note is what it takes in a worker. The database keeps their sum."""
FILE = "file"
"""Path → who names it; the note is the SHA-256, "" of a file that has not come yet."""
CONTENT = "content"
"""SHA-256 → whose content it is."""

# No name, hostname or port has it; what a path or a header has is compared once more by its reader.
_SEPARATOR = "\x1f"

LOOKED_AT_MAX = 1000
"""Of so many frontends it is looked up what they have a cluster for."""


class Relation(NamedTuple):
    """One row, without the entity."""

    relation: str
    term: str
    note: str = ""


class View(Protocol):
    """A configuration to be asked: entities by key, and who stands under a term."""

    def get(self, key: EntityKey, /) -> Entity | None:
        """Return an entity, or None."""

    def __getitem__(self, key: EntityKey, /) -> Entity:
        """Return an entity. Raises `KeyError`."""

    def __contains__(self, key: object, /) -> bool:
        """Say whether an entity is there."""

    def names(self, kind: str, under: str = "") -> list[str]:
        """Return the names of a kind that begin by `under`, in order."""

    def count(self, kind: str) -> int:
        """Return how many of a kind there are."""

    def related(self, relation: str, term: str = "") -> dict[EntityKey, str]:
        """Return the entities under a term, with their notes."""

    def related_under(
        self, relation: str, prefix: str, most: int | None = None
    ) -> dict[str, dict[EntityKey, str]]:
        """Return what `related` does for terms that begin by `prefix`: all, or `most` at most."""

    def weight(self) -> int:
        """Return what all expressions take in a worker, in bytes."""

    def heaviest(self, most: int) -> list[tuple[int, EntityKey]]:
        """Return what the largest expressions take, and who has them. Walks over all."""

    def marks(self, path: str) -> dict[EntityKey, Mark]:
        """Return what a file defines."""

    def expect(self, keys: Iterable[EntityKey]) -> None:
        """Know that these are about to be asked for."""

    def expect_files(self, paths: Iterable[str]) -> None:
        """Know that it is about to be asked what these files define."""


def term(*parts: str) -> str:
    """Return several parts as one term."""
    return _SEPARATOR.join(parts)


def url_and_ca(term: str) -> tuple[str, str | None]:
    """Return what stands in a term of `FETCHED`."""
    url, _, ca = term.partition(_SEPARATOR)
    return url, ca or None


Relate = Callable[[Entity], Iterable[Relation]]
"""Gives the rows of an entity, on some machine."""


def relations_of(entity: Entity, machine: Machine = NOTHING_HERE) -> Iterator[Relation]:
    """Yield the rows of one entity. `machine` says where ordered certificates lie."""
    for target in targets(entity):
        yield Relation(USE, use_term(target))
    for address in listened(entity):
        yield Relation(LISTEN, port_of(address), address)
    for address in dialled(entity):
        yield Relation(DIAL, port_of(address), address)
    match entity.key.kind:
        case "frontend":
            yield from _of_frontend(entity)
        case "cluster":
            if entity.value.get("health_check") is not None:
                yield Relation(CHECKED, "")
        case "listener":
            yield Relation(SECURE if is_secure(entity) else CLEAR, "")
            if is_bytes(entity):
                yield Relation(BYTES, "")
        case "certificate":
            yield from (Relation(COVER, name) for name in dict.fromkeys(hostnames(entity)))
            if is_ordered(entity):
                yield Relation(ORDERED, "")
    # Most do not, and this is asked of each.
    if may_name_files(entity):
        yield from _of_files(entity, machine)


class Remembered:
    """The relations of entities, each found out once: a check asks for them, and who writes too."""

    def __init__(self, relate: Relate) -> None:
        self._relate = relate
        self._known: dict[EntityKey, tuple[Entity, Sequence[Relation]]] = {}

    def remember(self, entity: Entity, rows: Sequence[Relation]) -> None:
        """Take in what another process has found out."""
        self._known[entity.key] = entity, rows

    def __call__(self, entity: Entity) -> Sequence[Relation]:
        """Return the relations of an entity."""
        known = self._known.get(entity.key)
        if known is None or known[0] is not entity:
            known = self._known[entity.key] = entity, list(self._relate(entity))
        return known[1]


def _of_frontend(entity: Entity) -> Iterator[Relation]:
    frontend = entity.typed(Frontend)
    for slot in slots(entity):
        yield Relation(MATCH, slot.term, "+" if frontend.methods else "")
        if frontend.passthrough:
            yield Relation(PASSED, term(slot.listener, slot.hostname))
    for term_of, weight in _expressions(entity):
        yield Relation(EXPRESSION, term_of, str(weight))
    wildcards = filter(None, map(wildcard_of, frontend.names))
    yield from (Relation(HOST, name) for name in dict.fromkeys((*frontend.names, *wildcards)))
    wide = [name for name in frontend.names if is_wide(name)]
    if wide and not frontend.passthrough and not takes_all(frontend):
        yield from (Relation(WIDE, term(*each)) for each in product(frontend.listeners, wide))


def expressions_of(entity: Entity) -> Iterator[tuple[tuple[str, ...], str, bool]]:
    """Yield where an entity has expressions, what they are, and whether they ignore case."""
    if entity.key.kind != "frontend":
        return
    frontend = entity.typed(Frontend)
    if frontend.path.regex is not None:
        yield ("path", "regex"), frontend.path.regex, frontend.path.ignore_case
    fields = ("headers", frontend.headers), ("query", frontend.query), ("cookies", frontend.cookies)
    for field, asked in fields:
        for name, match in asked.items():
            if match.regex is not None:
                yield (field, name, "regex"), match.regex, False


def expression_terms(entity: Entity) -> dict[str, tuple[str, bool]]:
    """Return the terms under which the expressions of an entity stand, each with what it is."""
    return {
        ("i" if ignores else "-") + pattern: (pattern, ignores)
        for _, pattern, ignores in expressions_of(entity)
    }


def _expressions(entity: Entity) -> Iterator[tuple[str, int]]:
    for found, (pattern, ignores) in expression_terms(entity).items():
        yield found, compiled(pattern, ignore_case=ignores).weight


def _of_files(entity: Entity, machine: Machine) -> Iterator[Relation]:
    materials = list(materials_of(entity))
    named = {material.path: material.sha256 for material in materials}
    if is_ordered(entity):
        path = machine.issued_path(entity.key.name)
        named = {path: named.get(path, "")} if path else {}
    for each in fetched_files(entity):
        path = machine.fetched_path(each.url, each.ca)
        if path is not None:
            named.setdefault(path, "")
        yield Relation(FETCHED, term(each.url, each.ca or ""))
    for path, digest in named.items():
        yield Relation(FILE, path, digest)
    for digest in dict.fromkeys(material.sha256 for material in materials):
        yield Relation(CONTENT, digest)


class MatchSlot(NamedTuple):
    """All of a match but methods and clients, on one listener: who shares it may be in conflict."""

    listener: str
    hostname: str
    path_kind: str
    path: str
    headers: str = "{}"
    query: str = "{}"
    more: str = ""
    """Whatever else is asked for."""

    @property
    def term(self) -> str:
        """The slot as one term."""
        return term(*self)


def slots(entity: Entity | None) -> Iterator[MatchSlot]:
    """Yield where a frontend matches; nothing of any other entity."""
    if entity is None or entity.key.kind != "frontend":
        return
    frontend = entity.typed(Frontend)
    path_kind, path = frontend.path.given()
    headers, query, more = _asked(entity, "headers"), _asked(entity, "query"), ""
    if frontend.cookies:
        more = _asked(entity, "cookies")
    if frontend.path.ignore_case:
        more += "ignore_case"
    for listener in frontend.listeners:
        for hostname in frontend.names:
            yield MatchSlot(listener, hostname, path_kind, path, headers, query, more)


def _asked(entity: Entity, key: str) -> str:
    # Most frontends ask for nothing.
    return canonical_text(entity.value[key]) if key in entity.value else "{}"


def use_term(key: EntityKey) -> str:
    """Return the term under which the users of an entity stand."""
    return f"{key.kind}/{key.name}"


def users(view: View, key: EntityKey) -> set[EntityKey]:
    """Return what refers to an entity."""
    return set(view.related(USE, use_term(key)))


def is_aside(view: View, cluster: str) -> bool:
    """Tell whether no client waits for a cluster: requests are only mirrored to it, or it has no
    share of them.

    Of more than can be looked at some may wait; so they do where nobody leads to it.
    """
    found = users(view, EntityKey("cluster", cluster))
    waits = (cluster in waited_for(view[key]) for key in found)
    return 0 < len(found) <= LOOKED_AT_MAX and not any(waits)


def waited_for(entity: Entity) -> set[str]:
    """Return the clusters that a client waits for, by what an entity says itself."""
    match entity.key.kind:
        case "frontend":
            says = entity.typed(Frontend)
            shares = {name for name, share in says.split.items() if share > 0}
            return shares.union(filter(None, [says.cluster]), _asked_first(says))
        case "policy":
            return {*_asked_first(entity.typed(Policy))}
        case "cluster":
            return {name for name in [fallback_of(entity)] if name is not None}
        case _:
            return set()


def targets(entity: Entity) -> tuple[EntityKey, ...]:
    """Return what an entity refers to."""
    match entity.key.kind:
        case "listener":
            default = default_certificate(entity)
            certificates = [EntityKey("certificate", default)] if default else []
            return (*certificates, *_policies(entity.typed(Listener).policies))
        case "frontend":
            frontend = entity.typed(Frontend)
            mirrored = [each.cluster for each in mirrors_of(frontend.mirror)]
            clusters = dict.fromkeys([*frontend.clusters, *mirrored, *_asked_first(frontend)])
            return (
                *(EntityKey("cluster", name) for name in clusters),
                *(EntityKey("listener", name) for name in frontend.listeners),
                *_policies(frontend.policies),
            )
        case "policy":
            return tuple(EntityKey("cluster", name) for name in _asked_first(entity.typed(Policy)))
        case "cluster":
            name = fallback_of(entity)
            return (EntityKey("cluster", name),) if name is not None else ()
        case _:
            return ()


def fallback_of(cluster: Entity) -> str | None:
    """Return the cluster that serves the requests of one without a usable backend."""
    # Most have none, and this is asked of each.
    if "fallback" not in cluster.value:
        return None
    fallback = cluster.typed(Cluster).fallback
    return fallback.cluster if fallback is not None else None


def _asked_first(says: Frontend | Policy) -> list[str]:
    return [says.forward_auth.cluster] if says.forward_auth is not None else []


def _policies(names: Sequence[str]) -> list[EntityKey]:
    return [EntityKey("policy", name) for name in names]


def cluster_of(key: EntityKey) -> str:
    """Return the cluster's name in the key of a cluster or of a backend."""
    return key.name.partition("/")[0]


def listeners_of(frontend: Entity) -> Sequence[str]:
    """Return the names of a frontend's listeners."""
    return frontend.typed(Frontend).listeners


def hostnames(certificate: Entity) -> Sequence[str]:
    """Return the hostnames of a certificate, which has been completed by what its file has."""
    return certificate.typed(Certificate).hostnames or ()


def listened(entity: Entity) -> tuple[str, ...]:
    """Return the addresses on which an entity makes us listen."""
    if entity.key.kind == "listener":
        return (entity.typed(Listener).address,)
    admin = entity.typed(Settings).admin if entity.key.kind == "settings" else None
    return (admin,) if admin is not None else ()


def dialled(entity: Entity) -> tuple[str, ...]:
    """Return the addresses to which an entity makes us connect, of those that have a port."""
    address = entity.typed(Backend).address if entity.key.kind == "backend" else UNIX
    return () if is_unix(address) else (address,)


def is_secure(entity: Entity) -> bool:
    """Tell whether an entity is a listener that speaks TLS."""
    return entity.key.kind == "listener" and entity.typed(Listener).tls is not None


def is_bytes(entity: Entity | None) -> bool:
    """Tell whether an entity is a listener of which nothing is read."""
    if entity is None or entity.key.kind != "listener":
        return False
    return entity.typed(Listener).is_bytes


def passes_unread(frontend: Entity, view: View) -> bool:
    """Tell whether nothing is read of what a frontend takes: TLS, or all of its listeners."""
    if is_passthrough(frontend):
        return True
    listeners = (view.get(EntityKey("listener", name)) for name in listeners_of(frontend))
    return any(map(is_bytes, listeners))


def default_certificate(listener: Entity | None) -> str | None:
    """Return the name of a listener's default certificate, "" without one, None without TLS."""
    tls = listener.typed(Listener).tls if listener else None
    return tls.default_certificate or "" if tls is not None else None


def is_passthrough(entity: Entity) -> bool:
    """Tell whether an entity is a frontend that passes TLS on unread."""
    return entity.key.kind == "frontend" and entity.typed(Frontend).passthrough


def is_wide(hostname: str) -> bool:
    """Tell whether another hostname may be more exact than this one, and be covered by it."""
    return hostname.startswith("*")


def takes_all(frontend: Frontend) -> bool:
    """Tell whether a frontend takes every request of its hostnames, whatever is asked for."""
    asks = (
        frontend.client_addresses,
        frontend.cookies,
        frontend.headers,
        frontend.methods,
        frontend.query,
    )
    return frontend.path.prefix == "/" and not any(asks) and not frontend.passthrough


def wildcard_of(hostname: str) -> str | None:
    """Return the wildcard by which a certificate may have an exact hostname."""
    label, _, parent = hostname.partition(".")
    return f"*.{parent}" if parent and label != "*" else None
