"""References between entities: dangling names, clashing addresses, what nothing uses.

The catalog asks for the findings about the changed keys; what a change does not touch is not looked
at. How frontends match is in `matches`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from reconciler.catalog.fallbacks import served_by
from reconciler.catalog.relations import (
    LISTEN,
    View,
    cluster_of,
    is_aside,
    is_bytes,
    listened,
    targets,
    users,
)
from reconciler.language.findings import Finding, later_first, place
from reconciler.language.suggest import GUESSES_MAX, suggest
from schemas.base import KEY
from schemas.entities.entity import Entity, EntityKey
from schemas.kinds.backend import Backend
from schemas.kinds.frontend import Frontend
from schemas.kinds.registry import section_of
from schemas.messages.frames import LISTENERS_MAX
from schemas.routes.mirror import mirrors_of
from schemas.values.names import is_name, port_of, split_address
from schemas.values.targets import is_unix

NAMES_SHOWN_MAX = 5
"""So many names are listed for one that is unknown and like none of them."""


@dataclass(slots=True)
class Written:
    """What entities that are invalid for another reason refer to, as far as it can be read."""

    named: dict[EntityKey, tuple[EntityKey, ...]] = field(default_factory=dict)
    unclear: set[str] = field(default_factory=set)
    """The kinds of which nobody knows what is referred to."""
    _texts: set[str] = field(default_factory=set)
    """All that is written in them: a name may stand below a key that is not known."""

    def add(self, key: EntityKey, value: Mapping[str, Any]) -> None:
        """Take in an entity's value as it is written."""
        found: list[EntityKey] = []
        for kind, names in _names_written(key.kind, value):
            found += [EntityKey(kind, name) for name in names if is_name(name)]
            if not all(map(is_name, names)):
                self.unclear.add(kind)
        self.named[key] = tuple(found)
        self._texts.update(_texts(value))

    def may_name(self, target: EntityKey) -> bool:
        """Say whether one of them names an entity, or might once it is mended."""
        return target.kind in self.unclear or target.name in self._texts


def dangling(
    changed: Iterable[EntityKey],
    view: View,
    declared: set[EntityKey],
    written: Written,
) -> Iterator[Finding]:
    """Yield references to what does not exist, those of invalid view too.

    `declared` are view that are there and invalid: their own error is enough.
    """
    guesses = _Guesses(view)
    for key, named in sorted(written.named.items()):
        for target in named:
            if target not in view and target not in declared:
                written.unclear.add(target.kind)
                yield _dangling(key, target, guesses)
    suspects: set[EntityKey] = set()
    for key in changed:
        suspects |= {key} if key in view else users(view, key)
    for key in sorted(suspects):
        for target in targets(view[key]):
            if target not in view and target not in declared:
                # What it should say instead is a name that nobody seems to use.
                written.unclear.add(target.kind)
                yield _dangling(key, target, guesses, view[key])


def clashes(changed: Iterable[EntityKey], view: View) -> Iterator[Finding]:
    """Yield addresses on which two would listen."""
    seen: set[frozenset[EntityKey]] = set()
    for key in changed:
        entity = view.get(key)
        for address in listened(entity) if entity else ():
            port = port_of(address)
            for other, other_address in view.related(LISTEN, port).items():
                pair = frozenset((key, other))
                if len(pair) == 2 and pair not in seen and _overlap(address, other_address):
                    seen.add(pair)
                    yield _clash(key, other, view)


def too_many(changed: Iterable[EntityKey], view: View) -> Iterator[Finding]:
    """Yield the listener that is one more than a worker can have."""
    count = view.count("listener")
    if count <= LISTENERS_MAX or not any(key.kind == "listener" for key in changed):
        return
    found = [view[EntityKey("listener", name)] for name in view.names("listener")]
    found.sort(key=lambda each: (each.provenance.file, each.provenance.line, each.key))
    key = found[LISTENERS_MAX].key
    message = f"{key}: {count} listeners are more than the {LISTENERS_MAX} supported"
    hint = "have frontends share listeners, which tell them apart by hostname and path"
    yield Finding("error", key, (), message, hint)


def without_backends(changed: Iterable[EntityKey], view: View) -> Iterator[Finding]:
    """Yield warnings about clusters that can serve nothing."""
    clusters = {
        EntityKey("cluster", cluster_of(key))
        for key in changed
        if key.kind in ("cluster", "backend")
    }
    for key in sorted(clusters):
        if key not in view:
            continue
        weights = [
            view[EntityKey("backend", name)].typed(Backend).weight
            for name in view.names("backend", f"{key.name}/")
        ]
        if any(weights):
            continue
        why = f"every backend of {key} has the weight 0" if weights else f"{key} has no backends"
        means = served_by(key.name, view) or "its frontends get 503"
        if is_aside(view, key.name):
            means = "no client notices, since it has no share and is at most mirrored to"
        yield Finding("warning", key, (), f"{why}: {means}")


def unspecified(changed: Iterable[EntityKey], view: View) -> Iterator[Finding]:
    """Yield warnings about backends at the address that stands for all where one listens."""
    for key in sorted(key for key in changed if key.kind == "backend" and key in view):
        address = view[key].typed(Backend).address
        if is_unix(address):
            continue
        ip, port = split_address(address)
        if ip.is_unspecified:
            meant = f"127.0.0.1:{port}" if ip.version == 4 else f"[::1]:{port}"
            message = f"{key}: {address} is the address of no host: who connects to it comes to "
            message += "this machine"
            hint = f"write {meant} for this machine, or the address of another"
            yield Finding("warning", key, ("address",), message, hint)


_LISTS = {"listener": "listeners", "policy": "policies"}


def unused(
    changed: Iterable[EntityKey],
    before: Iterable[Entity],
    view: View,
    written: Written,
) -> Iterator[Finding]:
    """Yield warnings about what nobody names, not even a frontend or a listener that is wrong.

    `before` are the changed entities as they were: what they named may be unused now.
    """
    suspects = {key for key in changed if key.kind in ("cluster", "listener", "policy")}
    for entity in before:
        suspects.update(targets(entity))
    for key in sorted(suspects):
        if key in view and not users(view, key) and not written.may_name(key):
            yield Finding("warning", key, (), *_unused(view[key]))


def _unused(entity: Entity) -> tuple[str, str]:
    key = entity.key
    list_of = f"in the list `{_LISTS[key.kind]}` of a frontend" if key.kind in _LISTS else None
    hint = f"name it {list_of or 'as the `cluster` of a frontend'}, or remove it"
    match key.kind:
        case "listener":
            then = "every connection is closed" if is_bytes(entity) else "every request gets 404"
            return f"no frontend names {key}: {then}", hint
        case "policy":
            return f"no frontend and no listener names {key}", hint
        case _:
            return f"no frontend names {key}", hint


def _texts(value: object) -> Iterator[str]:
    """Yield every text in a value as it is written, keys of maps among them."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from chain.from_iterable(map(_texts, chain(value, value.values())))
    elif isinstance(value, list):
        yield from chain.from_iterable(map(_texts, value))


def _names_written(kind: str, value: Mapping[str, Any]) -> Iterator[tuple[str, list[Any]]]:
    """Yield the kinds that an entity refers to, each with the names as they are written."""
    if kind == "listener":
        tls = value.get("tls")
        default = tls.get("default_certificate") if isinstance(tls, dict) else None
        yield "certificate", [default] if default is not None else []
    elif kind == "frontend":
        if value.get("cluster") is not None or not _answers(value):
            yield "cluster", [value.get("cluster")]
        split = value.get("split")
        if isinstance(split, dict):
            yield "cluster", list(split)
        mirrors = value.get("mirror")
        for mirror in mirrors if isinstance(mirrors, list) else [mirrors]:
            if isinstance(mirror, dict):
                yield "cluster", [mirror.get("cluster")]
        listeners = value.get("listeners")
        yield "listener", (isinstance(listeners, list) and listeners) or [None]
    elif kind == "cluster":
        fallback = value.get("fallback")
        if isinstance(fallback, dict) and "cluster" in fallback:
            yield "cluster", [fallback["cluster"]]
    asked = value.get("forward_auth")
    if kind in ("policy", "frontend") and isinstance(asked, dict):
        yield "cluster", [asked.get("cluster")]
    if kind in ("listener", "frontend") and value.get("policies") is not None:
        policies = value["policies"]
        yield "policy", policies if isinstance(policies, list) else [None]


def _answers(frontend: Mapping[str, Any]) -> bool:
    """Tell whether a frontend as it is written has no need of one cluster."""
    by_itself = "respond" in frontend or isinstance(frontend.get("redirect"), dict)
    return by_itself or isinstance(frontend.get("split"), dict)


def _overlap(one: str, other: str) -> bool:
    # "[::]" is bound for IPv6 alone, so that the two families never meet.
    ip, other_ip = split_address(one)[0], split_address(other)[0]
    wildcard = ip.is_unspecified or other_ip.is_unspecified
    return ip.version == other_ip.version and (wildcard or ip == other_ip)


class _Guesses:
    """What may have been meant by unknown names, as often as it is worth the time."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._names: dict[str, list[str]] = {}
        self._hints: dict[EntityKey, str] = {}

    def hint(self, target: EntityKey) -> str:
        """Return what to do about a name that is not there."""
        if target not in self._hints:
            if len(self._hints) == GUESSES_MAX:
                return f"define it under {section_of(target.kind)}:, in any file"
            self._hints[target] = self._guess(target)
        return self._hints[target]

    def _guess(self, target: EntityKey) -> str:
        names = self._names.get(target.kind)
        if names is None:
            names = self._names[target.kind] = self._view.names(target.kind)
        close = suggest(target.name, names)
        if close is not None:
            there = place(self._view[EntityKey(target.kind, close)])
            return f'did you mean "{close}" ({there})?'
        if not names:
            return f"define it under {section_of(target.kind)}:, in any file"
        more = ", …" if len(names) > NAMES_SHOWN_MAX else ""
        return f"known: {', '.join(names[:NAMES_SHOWN_MAX])}{more}"


def _dangling(
    key: EntityKey, target: EntityKey, guesses: _Guesses, by: Entity | None = None
) -> Finding:
    path: tuple[str | int, ...] = {
        "listener": ("listeners", target.name),
        "certificate": ("tls", "default_certificate"),
        "policy": ("policies", target.name),
    }.get(target.kind, (target.kind,))
    if key.kind == "policy":
        path = ("forward_auth", "cluster")
    elif key.kind == "cluster":
        path = ("fallback", "cluster")
    elif by is not None and (key.kind, target.kind) == ("frontend", "cluster"):
        path = _names_at(by.typed(Frontend), target.name)
    return Finding("error", key, path, f"{key}: there is no {target}", guesses.hint(target))


def _names_at(frontend: Frontend, cluster: str) -> tuple[str | int, ...]:
    """Return where a frontend names a cluster."""
    if cluster in frontend.split:
        return ("split", cluster, KEY)
    if frontend.cluster == cluster:
        return ("cluster",)
    for at, mirror in enumerate(mirrors_of(frontend.mirror)):
        if mirror.cluster == cluster:
            is_one = not isinstance(frontend.mirror, list)
            return ("mirror", "cluster") if is_one else ("mirror", at, "cluster")
    return ("forward_auth", "cluster")


def _clash(one: EntityKey, other: EntityKey, view: View) -> Finding:
    later, first = later_first(view[one], view[other])
    (address,), (taken,) = listened(later), listened(first)
    name = "admin" if later.key.kind == "settings" else "address"
    taken_by = f"{first.key} ({place(first)})"
    message = f"{later.key}: {address} is taken by {taken_by}"
    if address != taken:
        message += f", which listens on {taken}"
    return Finding("error", later.key, (name,), message, "choose another port or IP address")
