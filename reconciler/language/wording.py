"""Puts what pydantic found into plain words: one sentence per type of error.

Called by the validator. Our own checks bring their sentence along (`schemas.base.fault`); the table
here is for what pydantic checks itself. A type that is missing here still gets a plain sentence.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from pydantic_core import ErrorDetails

from schemas.base import FAULT, shown
from schemas.kinds.registry import field_at


def wording(kind: str, error: ErrorDetails) -> tuple[str, str | None]:
    """Return the sentence and the hint for an error in an entity of a kind."""
    context = error.get("ctx", {})
    if error["type"] == FAULT:
        return context["message"], context["hint"] or None
    if error["type"] == "missing":
        return f'"{error["loc"][-1]}" is missing', _example(kind, error["loc"])
    sentence = _SENTENCES.get(error["type"])
    if sentence is None:
        return f"{shown(error['input'])} is not valid here", None
    return sentence(error["input"], context), _quotes_hint(error)


def _expected(what: str) -> Callable[[Any, dict[str, Any]], str]:
    return lambda value, _context: f"expected {what}, not {shown(value)}"


_SENTENCES: dict[str, Callable[[Any, dict[str, Any]], str]] = {
    "bool_type": _expected("true or false"),
    "dict_type": _expected('a map of "key: value"'),
    "int_from_float": _expected("a whole number"),
    "int_type": _expected("a whole number"),
    "list_type": _expected('a list like "[a, b]"'),
    "model_type": _expected('a map of "key: value"'),
    "string_type": _expected("text"),
    "greater_than_equal": lambda value, context: (
        f"{shown(value)} is too small: it must be at least {context['ge']}"
    ),
    "less_than_equal": lambda value, context: (
        f"{shown(value)} is too large: it must be at most {context['le']}"
    ),
    "literal_error": lambda value, context: "expected {}, not {}".format(
        context["expected"].replace("'", '"'), shown(value)
    ),
    "too_long": lambda _value, context: (
        f"there are {context['actual_length']} entries; at most {context['max_length']} may be"
    ),
    "too_short": lambda _value, context: (
        f"the list is empty; it needs at least {context['min_length']}"
    ),
}


def _quotes_hint(error: ErrorDetails) -> str | None:
    value = error["input"]
    if error["type"] == "string_type" and isinstance(value, (int, float)):
        return f'write it in quotes: "{shown(value)}"'
    if error["type"] == "dict_type" and isinstance(value, list) and value:
        name, colon, text = str(value[0]).partition(":")
        return f"write a map: {{{name}: {text.strip()}}}" if colon else None
    if error["type"] == "list_type" and isinstance(value, str):
        # What YAML reads as something else within brackets.
        is_plain = re.fullmatch(r"[A-Za-z0-9/_.-]+", value) is not None
        return f"write a list: [{value}]" if is_plain else f'write a list: ["{value}"]'
    if error["type"] in ("int_type", "bool_type") and isinstance(value, str):
        unquoted = value.lower()
        if unquoted[:-1].isdecimal() and unquoted.endswith("%"):
            return f"write the number alone: {unquoted[:-1]}"
        thousands = unquoted.removesuffix("k")
        if thousands != unquoted and thousands.isdecimal():
            return f"write it out: {thousands}000"
        if unquoted.isdecimal() or unquoted in ("true", "false"):
            return f"write it without quotes: {unquoted}"
    return None


def _example(kind: str, loc: tuple[int | str, ...]) -> str | None:
    field = field_at(kind, loc)
    if field is None or not field.examples:
        return None
    return f"for example: {loc[-1]}: {_yaml(field.examples[0])}"


def _yaml(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(str(item) for item in value)}]"
    return shown(value)
