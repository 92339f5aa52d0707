"""Says what to write instead of an unknown key. Pure; called by the validator."""

from __future__ import annotations

from typing import Any

from reconciler.language import foreign
from reconciler.language.forms import key_way_out
from reconciler.language.outline import keys_of
from reconciler.language.suggest import suggest
from reconciler.language.upstreams import until_then
from schemas.base import shown
from schemas.kinds.registry import SECTIONS, field_at, is_text


def hint_for(kind: str, loc: tuple[int | str, ...], value: Any) -> str:
    """Return the hint for the key at the end of a path, with what somebody wrote under it."""
    by_place = key_way_out(loc)
    if by_place is not None:
        return by_place
    key, parents = str(loc[-1]), loc[:-1]
    known = keys_of(kind, parents)
    plain = foreign.normal(key)
    same = next((each for each in known if each in (plain, f"{plain}s", plain.rstrip("s"))), None)
    if same is not None:
        return _meant(kind, (*parents, same), value)
    if key in SECTIONS and isinstance(value, dict) and value:
        nested = all(isinstance(each, dict) for each in value.values())
        if nested and SECTIONS[key] != kind:
            own = next((section for section, of in SECTIONS.items() if of == kind), None)
            return f"{key}: stands at the top of a file" + (f", as {own}: does" if own else "")
    said = foreign.sentence(key, kind, parents)
    if said is not None:
        return said
    close = suggest(key, known, words=True)
    if close is not None and _is_by_word(key, close):
        return _meant(kind, (*parents, close), value)
    elsewhere = foreign.belongs(key, kind, parents)
    if elsewhere is not None:
        return elsewhere
    if close is not None:
        return _meant(kind, (*parents, close), value)
    return f"known here: {', '.join(known)}"


def _is_by_word(key: str, close: str) -> bool:
    """Tell whether another proxy calls it so, rather than that the letters are alike."""
    return suggest(key, [close], words=False) is None


def _meant(kind: str, loc: tuple[int | str, ...], value: Any) -> str:
    """Return the question for a known key, with its form where the value has another one."""
    name = str(loc[-1])
    asked = f'did you mean "{name}"?'
    later = until_then(kind, loc, wholly=True)
    if later:
        return f'did you mean "{name}"{later}'
    one = one_text(kind, loc, value)
    if one is not None:
        return f"{asked} {one[0].upper()}{one[1:]}"
    field = field_at(kind, loc)
    if field is not None and "list[" in str(field.annotation) and isinstance(value, str):
        return f"{asked} It takes a list: {name}: [{value}]"
    return asked


def one_text(kind: str, loc: tuple[int | str, ...], value: Any) -> str | None:
    """Return the form of a key that takes one text, where somebody wrote a list."""
    field = field_at(kind, loc)
    if field is None or not isinstance(value, list) or not value:
        return None
    if not is_text(field) or any(of in str(field.annotation) for of in ("list[", "dict[")):
        return None
    several = f"{loc[-1]}s"
    if several in keys_of(kind, loc[:-1]):
        listed = ", ".join(shown(each).strip('"') for each in value)
        return f"for several write {several}: [{listed}]"
    first = shown(value[0]).strip('"')
    more = f"; for each other one write another {kind}" if len(value) > 1 else ""
    return f"it takes one text: {loc[-1]}: {first}{more}"
