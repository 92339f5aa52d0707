"""Takes a file apart into entities as they are written, each with its place.

What cannot be one, such as a section that nobody knows or a list where entries have names, is
reported to the file. Called by the catalog; `validator` checks each entity by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from pydantic_core import PydanticCustomError

from reconciler.language import foreign, outline
from reconciler.language.document import Document, Node
from reconciler.language.outline import BACKENDS
from reconciler.language.suggest import did_you_mean, suggest
from reconciler.language.yaml_faults import unresolved_merge
from schemas.base import KEY
from schemas.entities.entity import SETTINGS_KEY, EntityKey, Provenance
from schemas.kinds.registry import SECTIONS, section_of
from schemas.values.names import parse_address, parse_name


@dataclass(slots=True)
class RawEntity:
    """An entity as written, its values not looked at yet. Lives while its file is staged."""

    key: EntityKey
    name_node: Node
    body: Node
    document: Document

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
        return Provenance(self.document.path, self.name_node.line, self.name_node.column)

    def fingerprint(self) -> bytes:
        """Return a hash of the raw value, by which an unchanged entity is known.

        `repr` tells 1, "1" and true apart, and costs less than validating.
        """
        return blake2b(repr(self.value).encode(), digest_size=16).digest()

    def node_at(self, path: tuple[str | int, ...]) -> Node:
        """Return the node at a path through the value, or the last one on the way to it.

        A step into a map is a key; into a list it is the value of an element, or its number.
        `KEY` behind a key means that itself.
        """
        node = self.body
        if path[-1:] == (KEY,):
            within = self.node_at(path[:-2])
            within = self.body if within is self.name_node else within
            return within.keys.get(str(path[-2]), within)
        for step in path:
            if isinstance(step, int):
                child = next(iter(node.elements[step : step + 1]), None)
            else:
                child = node.items.get(step)
            if child is None:
                child = next((item for item in node.elements if item.value == step), None)
            if child is None:
                break
            node = child
        return node if node is not self.body else self.name_node


def raw_entities(document: Document) -> Iterator[RawEntity]:
    """Yield the entities of a file in its order; what cannot be one is reported to the file."""
    root = document.root
    if root is None or root.broken or root.value is None:
        return
    if not isinstance(root.value, dict):
        merge = unresolved_merge(document.lines)
        if merge is not None:
            document.report(Node(None, merge.line, 1), merge.message, merge.hint)
            return
        document.report(root, f"expected a map with {_choice(SECTIONS)} at the top of the file")
        return
    keys = list(root.items)
    if foreign.is_another_file(keys, (bool(suggest(key, SECTIONS, words=False)) for key in keys)):
        document.report(root.keys[keys[0]], *foreign.another_file(keys))
        return
    above: str | None = None
    outside = _report_backends(document, root, outline.backends_of_the_last(root))
    for section, body in root.items.items():
        if document.full:
            return
        kind = SECTIONS.get(section)
        if kind is None:
            if section not in outside:
                _report_unknown(document, above, section, root)
            continue
        above = kind if kind != "settings" else None
        if kind == "settings":
            if _is_map(document, body, section):
                yield RawEntity(EntityKey(kind, kind), root.keys[section], body, document)
        elif _is_map(document, body, section):
            yield from _section_entities(document, kind, body)


def report_moved(
    document: Document, parent: Node, names: list[str], where: str, way: str, *, whose: str = ""
) -> None:
    """Report keys of a map that are to be moved, `more` to the right or `less`."""
    nodes = [(parent.keys[name], parent.items[name]) for name in names]
    belong = "belongs" if len(names) == 1 else "belong"
    message = f"{whose}{outline.listed(names)} {belong} {where}"
    document.report(nodes[0][0], message, f"indent {outline.lines_of(nodes)} {way}")


def _report_slips(document: Document, section: Node, slips: list[outline.Slip]) -> set[str]:
    """Report keys that stand where names of entities should; return what to leave alone."""
    alone: set[str] = set()
    for slip in slips:
        alone.update(slip.names)
        if slip.owner is None:
            names = outline.listed(slip.names)
            is_key = "is a key" if len(slip.names) == 1 else "are keys"
            message = f"the name of a {slip.kind} is missing: {names} {is_key} of one"
            hint = (
                f"write {section_of(slip.kind)}:, then a name of your choice, "
                f"and below it {slip.names[0]}:"
            )
            document.report(section.keys[slip.names[0]], message, hint)
        else:
            where = f'into {slip.kind} "{slip.owner}", not beside it'
            report_moved(document, section, slip.names, where, "more")
            alone.add(slip.owner)
    return alone


def _report_backends(document: Document, parent: Node, found: dict[str, list[str]]) -> set[str]:
    """Report backends that stand further left than the cluster that they are of."""
    for cluster, names in found.items():
        where = f'into {BACKENDS} of cluster "{cluster}"'
        report_moved(document, parent, names, where, "more")
    return {name for names in found.values() for name in names}


def _report_unknown(document: Document, above: str | None, name: str, root: Node) -> None:
    """Report what is no section: an entity of the one above, or anything."""
    if above and outline.is_entity_at_the_top(root.items[name], above):
        _report_at_the_top(document, above, name, root)
    else:
        _report_section(document, name, root.keys[name])


def _report_at_the_top(document: Document, kind: str, name: str, root: Node) -> None:
    nodes = [(root.keys[name], root.items[name])]
    message = f'"{name}" looks like a {kind}, and stands at the top of the file'
    document.report(nodes[0][0], message, f"indent {outline.lines_of(nodes)} more")


def _report_section_within(document: Document, section: Node, name: str) -> None:
    node = section.keys[name]
    lines = outline.lines_of([(node, section.items[name])])
    document.report(node, f'"{name}" belongs to the top of the file', f"indent {lines} less")


def _section_entities(document: Document, kind: str, section: Node) -> Iterator[RawEntity]:
    alone = _report_slips(document, section, outline.too_far_left(section, kind))
    if kind == "cluster":
        alone |= _report_backends(document, section, outline.backends_beside(section))
    document.declared.update(EntityKey(kind, name) for name in alone)
    for name, body in section.items.items():
        if document.full:
            return
        if name in alone:
            continue
        if outline.is_section_within(name, body, kind):
            _report_section_within(document, section, name)
            continue
        name_node = section.keys[name]
        key = EntityKey(kind, name)
        document.declared.add(key)
        named = _is_name(document, name, name_node)
        if not _is_map(document, body, str(key)) or not named:
            continue
        yield RawEntity(key, name_node, body, document)
        if kind == "cluster" and BACKENDS in body.items:
            yield from _backends(document, name, body.items[BACKENDS])


def _backends(document: Document, cluster: str, section: Node) -> Iterator[RawEntity]:
    if not _is_map(document, section, f'{BACKENDS} of cluster "{cluster}"'):
        return
    alone = _report_slips(document, section, outline.too_far_left(section, "backend"))
    slipped = outline.too_far_right(section)
    if slipped:
        where = f'into cluster "{cluster}", beside {BACKENDS} and not into it'
        report_moved(document, section, slipped, where, "less")
    alone.update(slipped)
    for name, body in section.items.items():
        if name in alone:
            continue
        name_node = section.keys[name]
        key = EntityKey("backend", f"{cluster}/{name}")
        named = _is_name(document, name, name_node)
        if _is_map(document, body, str(key)) and named:
            yield RawEntity(key, name_node, body, document)


def _is_map(document: Document, node: Node, what: str) -> bool:
    # Nothing at all (a key whose entries are all commented out) is an empty map.
    if node.value is None or isinstance(node.value, dict) or node.broken:
        return not node.broken or isinstance(node.value, dict)
    of_entries = what != SETTINGS_KEY.kind and (what in SECTIONS or what.startswith(BACKENDS))
    expected = "a map of entries by name" if of_entries else 'a map of "key: value"'
    takes_address = what.startswith(("backend ", "listener "))
    is_flow = (document.source_line(node.line) or "")[node.column - 1 : node.column] == "["
    hint = _map_hint(node, of_entries=of_entries, takes_address=takes_address, is_flow=is_flow)
    document.report(node, f"{what}: expected {expected}, not {_what(node)}", hint)
    return False


def _map_hint(node: Node, *, of_entries: bool, takes_address: bool, is_flow: bool) -> str | None:
    """Say how a list or a text is written as the map that is wanted."""
    if isinstance(node.value, list):
        if of_entries:
            instead = "" if is_flow else ' instead of a "-"'
            return f"give each entry a name{instead}: {_named(node.value)}"
        if is_flow:
            return 'write a map in braces: "{key: value}"'
        return 'leave the "-" out: "key: value"'
    if of_entries or not takes_address or not isinstance(node.value, str):
        return None
    try:
        return f'write {{address: "{parse_address(node.value)}"}}'
    except PydanticCustomError:
        return 'write a map: {address: "IP:port"}'


def _named(values: list[Any]) -> str:
    """Return the form of an entry of a map, with what the first of a list has."""
    first = values[0] if values else None
    if isinstance(first, dict) and isinstance(first.get("name"), str):
        return f'"{first["name"]}: {{…}}"'
    try:
        return f'NAME: {{address: "{parse_address(first)}"}}'
    except PydanticCustomError:
        return '"NAME: {…}"'


def _what(node: Node) -> str:
    return "a list" if isinstance(node.value, list) else "a single value"


def _is_name(document: Document, name: str, node: Node) -> bool:
    try:
        parse_name(name)
    except PydanticCustomError as error:
        context = error.context or {}
        hint = foreign.EXPANDED_BEFORE if foreign.is_template(name) else context["hint"] or None
        document.report(node, context["message"], hint)
        return False
    return True


def _report_section(document: Document, section: str, node: Node) -> None:
    message = f'unknown key "{section}" at the top of the file: expected {_choice(SECTIONS)}'
    hint = foreign.sentence(section) or did_you_mean(section, SECTIONS)
    document.report(node, message, hint)


def _choice(words: dict[str, str]) -> str:
    listed = list(words)
    return f"{', '.join(listed[:-1])} or {listed[-1]}"
