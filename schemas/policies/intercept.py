"""Answers of backends in whose place our own pages are sent. Part of frontend and policy."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from schemas.base import fault, shown
from schemas.values.forms import INHERIT, WORD
from schemas.values.names import SortedUnique

STATUSES_MAX = 64
_LIST = "[list]"


def parse_intercepted(value: object) -> int:
    """Return a status in whose place a page may stand."""
    is_number = isinstance(value, int) and not isinstance(value, bool)
    if not is_number or not isinstance(value, int) or not 400 <= value <= 599:
        hint = "write each status by itself" if isinstance(value, str) else None
        raise fault(f"expected a status from 400 to 599, not {shown(value)}", hint)
    return value


def _word_or_list(value: object) -> object:
    if value is None or value == INHERIT or isinstance(value, list):
        return value
    hint = "write [502, 503], or null for none"
    raise fault(f'expected a list of statuses or "inherit", not {shown(value)}', hint)


def _form_of(value: object) -> str:
    return WORD if isinstance(value, str) else _LIST


InheritedIntercept = Annotated[
    Annotated[
        Annotated[Literal["inherit"], Tag(WORD)]
        | Annotated[
            Annotated[
                list[Annotated[int, BeforeValidator(parse_intercepted)]],
                SortedUnique,
                Field(min_length=1, max_length=STATUSES_MAX),
            ],
            Tag(_LIST),
        ],
        Discriminator(_form_of),
    ]
    | None,
    Field(
        description=(
            "Statuses of backends, 400 to 599, in place of whose answers the proxy sends its own "
            "page of that status (`error_pages`). inherit: as policies say that hold here, and "
            "without one all are passed on. null: all are passed on, whatever they say."
        ),
        examples=[[502, 503]],
    ),
    BeforeValidator(_word_or_list),
]
