"""Checks one entity as it is written against the model of its kind, and says what is wrong where.

Called by the catalog, for what has changed alone. What entities have to do with one another is
checked in `reconciler.catalog`.
"""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from reconciler.language import foreign, outline
from reconciler.language.compiled import report_uncompilable
from reconciler.language.document import Node
from reconciler.language.expressions import warn_of_expressions
from reconciler.language.forms import instead, way_out
from reconciler.language.normal_paths import warn_of_texts
from reconciler.language.outline import keys_of
from reconciler.language.raw import RawEntity, report_moved
from reconciler.language.suggest import suggest
from reconciler.language.unknown import hint_for, one_text
from reconciler.language.without_effect import warn_of_what_does_nothing
from reconciler.language.wording import wording
from schemas.base import KEY, OneOf, Plain, not_there_yet, shown
from schemas.entities.entity import Entity
from schemas.kinds.registry import MODELS
from schemas.values.forms import LIST, MAP, WORD
from schemas.values.names import parse_hostname


def validate(raw: RawEntity) -> Entity | None:
    """Return the entity with its canonical value; None if it is invalid, which is reported."""
    kind = raw.key.kind
    if raw.document.full:
        return None
    try:
        model = MODELS[kind].model_validate(raw.value)
    except ValidationError as error:
        _report_errors(raw, [_as_written(each) for each in error.errors(include_url=False)])
        return None
    if _report_what_is_not_there_yet(raw, model):
        return None
    # What is broken was reported: where nothing was, the walk is spared.
    if raw.document.diagnostics and _has_broken(raw.body):
        return None
    if report_uncompilable(raw):
        return None
    _warn_of_repetitions(raw)
    warn_of_expressions(raw)
    warn_of_texts(raw)
    warn_of_what_does_nothing(raw, model)
    return Entity.of(raw.key, model, raw.provenance)


def _report_what_is_not_there_yet(raw: RawEntity, model: Plain) -> bool:
    """Report keys and values that the language has and no part of us does yet; tell of any."""
    found = sorted(not_there_yet(model), key=lambda each: [str(step) for step in each[0]])
    for loc, mark, value in found:
        key = str(loc[-1])
        of_value = mark.has is not None and not isinstance(value, dict)
        node, path = _locate(raw, loc if of_value else (*loc, KEY))
        what = _said(value) if of_value else key
        where = f"{path}: " if path else ""
        hint = f"leave it out for now: {mark.meanwhile}" if not of_value else mark.meanwhile
        raw.document.report(node, f"{raw.key}: {where}{what} is not there yet", hint)
    return bool(found)


def _said(value: object) -> str:
    """Return what is written: of a map that is one of several, which."""
    return f'"{value.given()[0]}"' if isinstance(value, OneOf) else shown(value)


def _as_written(found: ErrorDetails) -> ErrorDetails:
    """Return an error whose place says nothing of the form in which a value was read."""
    loc = tuple(step for step in found["loc"] if step not in (WORD, MAP, LIST))
    return {**found, "loc": loc}


def _report_errors(raw: RawEntity, found: list[ErrorDetails]) -> None:
    kind = raw.key.kind
    unknown = [details["loc"] for details in found if _is_unknown_key(details)]
    inward = _report_not_indented(raw, {loc[:-1] for loc in unknown})
    slipped = {
        loc: steps
        for loc in unknown
        if loc not in inward
        and not _is_on_its_line(raw, loc)
        and (steps := outline.level_of(kind, loc))
    }
    meant = {_meant(kind, loc) for loc in unknown if loc not in slipped}
    meant |= {(*loc[: len(loc) - 1 - steps], loc[-1]) for loc, steps in slipped.items()}
    for place in dict.fromkeys((loc[:-1], steps) for loc, steps in slipped.items()):
        _report_slipped(raw, [loc for loc in slipped if (loc[:-1], slipped[loc]) == place])
    for details in found:
        # A misspelt key is not missing too.
        is_meant = details["type"] == "missing" and details["loc"] in meant
        # What is opened and empty lacks what stands beside it.
        if not is_meant and details["loc"] not in slipped and details["loc"] not in inward:
            _report_error(raw, details)


def _is_on_its_line(raw: RawEntity, loc: tuple[int | str, ...]) -> bool:
    """Tell whether a key is on the line of the key of its map, where nothing is indented."""
    if len(loc) < 2:
        return False
    *_, opened, key = (_descend(raw, loc[:at]).keys.get(str(loc[at])) for at in range(len(loc)))
    return key is not None and opened is not None and key.line == opened.line


def _report_not_indented(
    raw: RawEntity, parents: set[tuple[int | str, ...]]
) -> set[tuple[int | str, ...]]:
    """Report keys beside the map that they belong into; return whose errors are told by that."""
    told: set[tuple[int | str, ...]] = set()
    for loc in sorted(parents, key=str):
        parent = _descend(raw, loc)
        for opened, names in outline.not_indented(parent, raw.key.kind, loc).items():
            where = f"into {opened}, not beside it"
            report_moved(raw.document, parent, names, where, "more", whose=f"{raw.key}: ")
            told.update((*loc, name) for name in (opened, *names))
    return told


def _report_slipped(raw: RawEntity, locs: list[tuple[int | str, ...]]) -> None:
    """Report keys that stand within a map and belong beside it."""
    parent = _descend(raw, locs[0][:-1])
    where = f"beside {locs[0][-2]}, not into it"
    names = [str(loc[-1]) for loc in locs]
    report_moved(raw.document, parent, names, where, "less", whose=f"{raw.key}: ")


def _report_error(raw: RawEntity, error: ErrorDetails) -> None:
    """Report one finding of pydantic at its place; nothing, where a node was refused already."""
    kind, loc = raw.key.kind, (*error["loc"], *error.get("ctx", {}).get("at", ()))
    node, path = _locate(raw, loc)
    if node.broken:
        return
    if _is_unknown_key(error):
        _report_unknown_key(raw, loc)
        return
    message, hint = wording(kind, error)
    hint = instead(kind, loc, error) or hint
    # Where values of ours stand in texts, it is said which one was meant.
    is_template = foreign.is_template(error["input"]) or _is_taken_for_comment(raw, node)
    if is_template and not (hint or "").startswith('write "{'):
        hint = foreign.EXPANDED_BEFORE
    elif hint is None:
        hint = one_text(kind, loc, error["input"]) or way_out(kind, loc, error)
        if hint is None and error["type"] == "model_type":
            hint = f"write a map; known there: {', '.join(keys_of(kind, loc))}"
    where = f"{path}: " if path else ""
    raw.document.report(node, f"{raw.key}: {where}{message}", hint)


def _is_taken_for_comment(raw: RawEntity, node: Node) -> bool:
    """Tell whether a value is missing because it is a template that begins like a comment."""
    line = raw.document.source_line(node.line)
    return node.value is None and line is not None and line[node.column - 1 :].lstrip()[:2] == "#{"


def _warn_of_repetitions(raw: RawEntity) -> None:
    """Warn of list entries that are there already: the lists of the language are sets."""
    for field, node in raw.body.items.items():
        seen: set[Any] = set()
        for element in node.elements:
            if isinstance(element.value, (dict, list)):
                continue
            value = parse_hostname(element.value) if field == "hostnames" else element.value
            if value in seen:
                message = f"{raw.key}: {field}: {shown(element.value)} is there twice"
                raw.document.warn(element, message, "keep one of them")
            seen.add(value)


def _is_unknown_key(error: ErrorDetails) -> bool:
    return error["type"] == "extra_forbidden"


def _meant(kind: str, loc: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """Return where the key stands that an unknown key was meant to be."""
    meant = suggest(str(loc[-1]), keys_of(kind, loc[:-1]))
    return (*loc[:-1], meant or "")


def _report_unknown_key(raw: RawEntity, loc: tuple[int | str, ...]) -> None:
    key = str(loc[-1])
    parent = _descend(raw, loc[:-1])
    node = parent.keys.get(key, parent)
    where = f" in {'.'.join(map(str, loc[:-1]))}" if len(loc) > 1 else ""
    hint = hint_for(raw.key.kind, loc, parent.items.get(key, parent).value)
    raw.document.report(node, f'{raw.key}: unknown key "{key}"{where}', hint)


def _locate(raw: RawEntity, loc: tuple[int | str, ...]) -> tuple[Node, str]:
    """Return where an error stands and its path in words, as far as the file goes."""
    node = raw.body
    keys: list[str] = []
    place = raw.name_node
    for step in loc:
        if step == KEY:
            break
        child = _child(node, step)
        if child is None:
            break
        # Where a map's entry is wrong as a whole, its key is the place to look at.
        place = node.keys.get(str(step), child) if isinstance(child.value, dict) else child
        place = child if child.broken else place
        keys += [step] if isinstance(step, str) and step in node.items else []
        node = child
    if loc and loc[-1] == KEY:
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
    return node.items.get(step) or next((it for it in node.elements if it.value == step), None)


def _has_broken(node: Node) -> bool:
    children = (*node.items.values(), *node.elements)
    return node.broken or any(_has_broken(child) for child in children)
