"""Values in whose place a word may stand: `redirect: https`, `cors: inherit`, `query: keep`.

pydantic is told by a tag which form is written, so that an error is about that one alone. For the
models of `schemas.routes` and `schemas.policies`.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, BeforeValidator, Discriminator, Tag

from schemas.base import fault, shown

WORD, MAP, LIST = "[word]", "[map]", "[list]"
"""In the place of an error: which form was read."""
A_WORD, A_MAP, A_LIST = Tag(WORD), Tag(MAP), Tag(LIST)
INHERIT: Literal["inherit"] = "inherit"
"""What a key says that leaves it to policies, and behind them to whoever comes next."""


def _form_of(value: object) -> str:
    return WORD if isinstance(value, str) else MAP


def _listed(value: object) -> str:
    return LIST if isinstance(value, list) else MAP


BY_FORM = Discriminator(_form_of)
LISTED = Discriminator(_listed)


def inherit_or(model: type[BaseModel], example: str) -> BeforeValidator:
    """Return the check of a key that takes a map of `model`, "inherit" or null."""

    def check(value: object) -> object:
        if value is None or value == INHERIT or isinstance(value, (dict, model)):
            return value
        hint = f"write {example}, or null for none"
        raise fault(f'expected a map or "inherit", not {shown(value)}', hint)

    return BeforeValidator(check)
