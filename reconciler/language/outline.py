"""Finds what stands at the wrong level: keys that are indented too little or too much.

One slip of indentation makes an error of every key that it moves. Here they are taken together, so
that an operator reads one sentence with the lines to move. Pure; called by `raw` and `validator`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from reconciler.language.document import Node
from reconciler.language.suggest import suggest
from schemas.kinds.registry import SECTIONS, fields_at, inner_model

BACKENDS = "backends"
"""The one key of a cluster that is not in its model: the entities that nest in it."""


@dataclass(slots=True)
class Slip:
    """Entries of a section that are no entities. `owner`: whose keys they are, None: nobody's."""

    kind: str
    owner: str | None
    names: list[str] = field(default_factory=list)


def keys_of(kind: str, loc: tuple[int | str, ...] = ()) -> list[str]:
    """Return the keys that may stand in the map at a path."""
    nested = [BACKENDS] if kind == "cluster" and not loc else []
    return [*fields_at(kind, loc), *nested]


def too_far_left(section: Node, kind: str) -> list[Slip]:
    """Return entries that are keys of the entity above them, or of one without a name."""
    known = keys_of(kind)
    slips: list[Slip] = []
    owner: str | None = None
    for name, body in section.items.items():
        if name not in known or _fits(body, known) or _is_named_like(body, kind, name):
            owner = name
        elif slips and slips[-1].owner == owner:
            slips[-1].names.append(name)
        else:
            slips.append(Slip(kind, owner, [name]))
    return slips


def too_far_right(backends: Node) -> list[str]:
    """Return entries among the backends of a cluster that are keys of the cluster itself."""
    known, keys = keys_of("backend"), keys_of("cluster")
    return [
        name
        for name, body in backends.items.items()
        if name in keys and not _fits(body, known) and not _is_alike(body, known)
    ]


def backends_beside(section: Node) -> dict[str, list[str]]:
    """Return entries among clusters that are backends of the one above them, by it."""
    found: dict[str, list[str]] = {}
    opened: str | None = None
    for name, body in section.items.items():
        if opened is not None and _is_backend(body):
            found.setdefault(opened, []).append(name)
        else:
            opened = name if is_open(body) else None
    return found


def backends_of_the_last(root: Node) -> dict[str, list[str]]:
    """Return the keys at the top that are backends of the last cluster above them, by it."""
    found: dict[str, list[str]] = {}
    opened: str | None = None
    for name, body in root.items.items():
        if opened is not None and name not in SECTIONS and _is_backend(body):
            found.setdefault(opened, []).append(name)
        else:
            last = [*body.items][-1:] if SECTIONS.get(name) == "cluster" else []
            opened = last[0] if last and is_open(body.items[last[0]]) else None
    return found


def is_open(cluster: Node) -> bool:
    """Tell whether a cluster ends by `backends:`, with none below it."""
    return [*cluster.items][-1:] == [BACKENDS] and cluster.items[BACKENDS].value is None


def _is_backend(body: Node) -> bool:
    if not isinstance(body.value, dict):
        return False
    known, others = keys_of("backend"), keys_of("cluster")
    is_alike = any(suggest(str(key), known, words=False) for key in body.value)
    return is_alike and not any(key in others for key in body.value)


def is_section_within(name: str, body: Node, kind: str) -> bool:
    """Tell whether an entry of a section is itself a section."""
    return name in SECTIONS and isinstance(body.value, dict) and not _fits(body, keys_of(kind))


def is_entity_at_the_top(body: Node, kind: str) -> bool:
    """Tell whether an unknown key at the top is an entity of the section above it."""
    known = keys_of(kind)
    return isinstance(body.value, dict) and bool(body.value) and _fits(body, known)


def not_indented(body: Node, kind: str, loc: tuple[int | str, ...]) -> dict[str, list[str]]:
    """Return the unknown keys of the map at a path that belong into the one above them, by it."""
    known, opened = keys_of(kind, loc), ""
    found: dict[str, list[str]] = {}
    for name, value in body.items.items():
        if name in known:
            opened = name if value.value is None or isinstance(value.value, dict) else ""
        elif opened and _belongs_into(opened, kind, loc, name, value):
            found.setdefault(opened, []).append(name)
        else:
            opened = ""
    return found


def _belongs_into(
    opened: str, kind: str, loc: tuple[int | str, ...], name: str, body: Node
) -> bool:
    if opened == BACKENDS:
        # Whatever its name is; one with a mistake in it is like what a backend has.
        known = keys_of("backend")
        return isinstance(body.value, dict) and any(
            suggest(str(key), known, words=False) for key in body.value
        )
    field = fields_at(kind, loc)[opened]
    return inner_model(field) is not None and name in keys_of(kind, (*loc, opened))


def level_of(kind: str, loc: tuple[int | str, ...]) -> int | None:
    """Return how many steps further left an unknown key would be known; None: nowhere."""
    *parents, key = loc
    names = [step for step in parents if isinstance(step, str)]
    for steps in range(1, len(names) + 1):
        if key in keys_of(kind, tuple(names[: len(names) - steps])):
            return steps
    return None


def lines_of(nodes: Iterable[tuple[Node, Node]]) -> str:
    """Return `line 3` or `lines 3–5` of some keys with their values."""
    found = [line for key, value in nodes for line in (key.line, *_lines(value))]
    first, last = min(found), max(found)
    return f"line {first}" if first == last else f"lines {first}–{last}"


def listed(names: list[str]) -> str:
    """Return names as a sentence has them: "a", "b" and "c"."""
    quoted = [f'"{name}"' for name in names]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} and {quoted[-1]}"


def _fits(body: Node, known: list[str]) -> bool:
    """Tell whether a value may be the body of an entity, by its keys."""
    if body.value is None or body.broken:
        return True
    return isinstance(body.value, dict) and all(key in known for key in body.value)


def _is_alike(body: Node, known: list[str]) -> bool:
    """Tell whether a value is the body of an entity with a mistake in it: most keys are right."""
    if not isinstance(body.value, dict):
        return False
    return 2 * sum(key in known for key in body.value) > len(body.value)


def _is_named_like(body: Node, kind: str, key: str) -> bool:
    """Tell whether a value is an entity with a mistake in it, whose name is a key of its kind."""
    known = keys_of(kind)
    if not isinstance(body.value, dict) or _is_alike(body, known):
        return _is_alike(body, known)
    inner = keys_of(kind, (key,))
    own = sum(each in known for each in body.value)
    return own > 0 and own >= sum(each in inner and each not in known for each in body.value)


def _lines(node: Node) -> Iterator[int]:
    yield node.line
    for key in node.keys.values():
        yield key.line
    for child in (*node.items.values(), *node.elements):
        yield from _lines(child)
