"""The validator: raw values of one file → entities, each checked by itself.

`raw_entities` takes a loaded file apart and reports what is wrong with its outline; `validate`
checks one entity against its model. Called by the catalog, which calls `validate` only for what
changed. What entities have to do with one another is checked in `references` and `matches`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from reconciler.language.loader import LoadedFile, Node
from reconciler.language.suggest import did_you_mean, suggest
from reconciler.language.wording import wording
from schemas.base import shown
from schemas.entity import Entity, EntityKey, Json, Provenance
from schemas.kinds import MODELS, SECTIONS, fields_at
from schemas.names import parse_address, parse_name

BACKENDS = "backends"
"""The one key of a cluster that is not in its model: the entities that nest in it."""


@dataclass(slots=True)
class RawEntity:
    """An entity as written, its values not looked at yet. Lives while its file is staged."""

    key: EntityKey
    name_node: Node
    body: Node
    loaded: LoadedFile

    @property
    def value(self) -> dict[str, Any]:
        """The raw value: a cluster's without its backends, and an empty one as an empty map."""
        value = self.body.value or {}
        if self.key.kind == "cluster":
            return {key: item for key, item in value.items() if key != BACKENDS}
        return dict(value)

    @property
    def provenance(self) -> Provenance:
        """Where its name stands."""
        return Provenance(self.loaded.path, self.name_node.line, self.name_node.column)

    def fingerprint(self) -> bytes:
        """Return a hash of the raw value, by which an unchanged entity is known.

        `repr` tells 1, "1" and true apart, and costs less than validating.
        """
        return blake2b(repr(self.value).encode(), digest_size=16).digest()

    def node_at(self, path: tuple[str, ...]) -> Node:
        """Return the node at a path through the value, or the last one on the way to it.

        A step into a map is a key; into a list it is the value of an element.
        """
        node = self.body
        for step in path:
            child = node.items.get(step)
            if child is None:
                child = next((item for item in node.elements if item.value == step), None)
            if child is None:
                break
            node = child
        return node if node is not self.body else self.name_node


def raw_entities(loaded: LoadedFile) -> Iterator[RawEntity]:
    """Yield the entities of a file in its order; what cannot be one is reported to the file."""
    root = loaded.root
    if root is None or root.broken or root.value is None:
        return
    if not isinstance(root.value, dict):
        loaded.report(root, f"expected a map with {_choice(SECTIONS)} at the top of the file")
        return
    for section, body in root.items.items():
        if loaded.full:
            return
        kind = SECTIONS.get(section)
        if kind is None:
            _report_section(loaded, section, root.keys[section])
        elif kind == "settings":
            if _is_map(loaded, body, section):
                yield RawEntity(EntityKey(kind, kind), root.keys[section], body, loaded)
        elif _is_map(loaded, body, section):
            yield from _section_entities(loaded, kind, body)


def validate(raw: RawEntity) -> Entity | None:
    """Return the entity with its canonical value; None if it is invalid, which is reported."""
    kind = raw.key.kind
    if raw.loaded.full:
        return None
    try:
        model = MODELS[kind].model_validate(raw.value)
    except ValidationError as error:
        found = error.errors(include_url=False)
        meant = {_meant(kind, details["loc"]) for details in found if _is_unknown_key(details)}
        for details in found:
            # A misspelt key is not missing too.
            if details["type"] != "missing" or details["loc"] not in meant:
                _report_error(raw, details)
        return None
    # What is broken was reported: where nothing was, the walk is spared.
    if raw.loaded.diagnostics and _has_broken(raw.body):
        return None
    _warn_of_repetitions(raw)
    value: dict[str, Json] = model.value()
    return Entity(raw.key, value, raw.provenance)


def _section_entities(loaded: LoadedFile, kind: str, section: Node) -> Iterator[RawEntity]:
    for name, body in section.items.items():
        if loaded.full:
            return
        name_node = section.keys[name]
        key = EntityKey(kind, name)
        loaded.declared.add(key)
        named = _is_name(loaded, name, name_node)
        if not _is_map(loaded, body, str(key)) or not named:
            continue
        yield RawEntity(key, name_node, body, loaded)
        if kind == "cluster" and BACKENDS in body.items:
            yield from _backends(loaded, name, body.items[BACKENDS])


def _backends(loaded: LoadedFile, cluster: str, section: Node) -> Iterator[RawEntity]:
    if not _is_map(loaded, section, f'{BACKENDS} of cluster "{cluster}"'):
        return
    for name, body in section.items.items():
        name_node = section.keys[name]
        key = EntityKey("backend", f"{cluster}/{name}")
        named = _is_name(loaded, name, name_node)
        if _is_map(loaded, body, str(key)) and named:
            yield RawEntity(key, name_node, body, loaded)


def _is_map(loaded: LoadedFile, node: Node, what: str) -> bool:
    # Nothing at all (a key whose entries are all commented out) is an empty map.
    if node.value is None or isinstance(node.value, dict) or node.broken:
        return not node.broken or isinstance(node.value, dict)
    of_entries = what in SECTIONS or what.startswith(BACKENDS)
    expected = "a map of entries by name" if of_entries else 'a map of "key: value"'
    takes_address = what.startswith(("backend ", "listener "))
    hint = _map_hint(node, of_entries=of_entries, takes_address=takes_address)
    loaded.report(node, f"{what}: expected {expected}, not {_what(node)}", hint)
    return False


def _map_hint(node: Node, *, of_entries: bool, takes_address: bool) -> str | None:
    """Say how a list or a text is written as the map that is wanted."""
    if isinstance(node.value, list):
        if of_entries:
            return 'give each entry a name instead of a "-": "NAME: {…}"'
        return 'leave the "-" out: "key: value"'
    if of_entries or not takes_address or not isinstance(node.value, str):
        return None
    try:
        return f'write {{address: "{parse_address(node.value)}"}}'
    except PydanticCustomError:
        return 'write a map: {address: "IP:port"}'


def _what(node: Node) -> str:
    return "a list" if isinstance(node.value, list) else "a single value"


def _is_name(loaded: LoadedFile, name: str, node: Node) -> bool:
    return _checked(loaded, node, lambda: parse_name(name))


def _checked(loaded: LoadedFile, node: Node, check: Callable[[], object]) -> bool:
    try:
        check()
    except PydanticCustomError as error:
        context = error.context or {}
        loaded.report(node, context["message"], context["hint"] or None)
        return False
    return True


def _report_section(loaded: LoadedFile, section: str, node: Node) -> None:
    message = f'unknown key "{section}" at the top of the file: expected {_choice(SECTIONS)}'
    loaded.report(node, message, did_you_mean(section, SECTIONS))


def _report_error(raw: RawEntity, error: ErrorDetails) -> None:
    """Report one finding of pydantic at its place; nothing, where a node was refused already."""
    kind, loc = raw.key.kind, error["loc"]
    node, path = _locate(raw, loc)
    if node.broken:
        return
    if _is_unknown_key(error):
        _report_unknown_key(raw, loc)
        return
    message, hint = wording(kind, error)
    where = f"{path}: " if path else ""
    raw.loaded.report(node, f"{raw.key}: {where}{message}", hint)


def _warn_of_repetitions(raw: RawEntity) -> None:
    """Warn of list entries that are there already: the lists of the language are sets."""
    for field, node in raw.body.items.items():
        seen: set[Any] = set()
        for element in node.elements:
            if isinstance(element.value, (dict, list)):
                continue
            if element.value in seen:
                message = f"{raw.key}: {field}: {shown(element.value)} is there twice"
                raw.loaded.warn(element, message, "keep one of them")
            seen.add(element.value)


def _is_unknown_key(error: ErrorDetails) -> bool:
    return error["type"] == "extra_forbidden"


def _meant(kind: str, loc: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """Return where the key stands that an unknown key was meant to be."""
    meant = suggest(str(loc[-1]), _known_keys(kind, loc))
    return (*loc[:-1], meant or "")


def _known_keys(kind: str, loc: tuple[int | str, ...]) -> list[str]:
    """Return the keys that are known beside the one at the end of a path."""
    nested = [BACKENDS] if kind == "cluster" and len(loc) == 1 else []
    return [*fields_at(kind, loc[:-1]), *nested]


def _report_unknown_key(raw: RawEntity, loc: tuple[int | str, ...]) -> None:
    key = str(loc[-1])
    parent = _descend(raw, loc[:-1])
    node = parent.keys.get(key, parent)
    known = _known_keys(raw.key.kind, loc)
    where = f" in {'.'.join(map(str, loc[:-1]))}" if len(loc) > 1 else ""
    hint = did_you_mean(key, known) or f"known here: {', '.join(known)}"
    raw.loaded.report(node, f'{raw.key}: unknown key "{key}"{where}', hint)


def _locate(raw: RawEntity, loc: tuple[int | str, ...]) -> tuple[Node, str]:
    """Return where an error stands and its path in words, as far as the file goes."""
    node = raw.body
    keys: list[str] = []
    place = raw.name_node
    for step in loc:
        if step == "[key]":
            break
        child = _child(node, step)
        if child is None:
            break
        # Where a map's entry is wrong as a whole, its key is the place to look at.
        place = node.keys.get(str(step), child) if isinstance(child.value, dict) else child
        place = child if child.broken else place
        node = child
        keys += [step] if isinstance(step, str) else []
    if loc and loc[-1] == "[key]":
        place = _descend(raw, loc[:-2]).keys.get(str(loc[-2]), place)
        keys = keys[:-1]
    return place, ".".join(keys)


def _descend(raw: RawEntity, loc: tuple[int | str, ...]) -> Node:
    node = raw.body
    for step in loc:
        node = _child(node, step) or node
    return node


def _child(node: Node, step: int | str) -> Node | None:
    if isinstance(step, int):
        return node.elements[step] if step < len(node.elements) else None
    return node.items.get(step)


def _has_broken(node: Node) -> bool:
    children = (*node.items.values(), *node.elements)
    return node.broken or any(_has_broken(child) for child in children)


def _choice(words: dict[str, str]) -> str:
    listed = list(words)
    return f"{', '.join(listed[:-1])} or {listed[-1]}"
