"""The error page: what a client reads when the proxy answers by itself.

Part of frontend, policy, listener and settings. The frontend's goes first, then its policies', the
listener's, its policies', the one of the settings, and the built-in one.
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, Field, WithJsonSchema

from schemas.base import Model, fault, shown

BODY_BYTES_MAX = 64 * 1024
"""An error page is held by every worker and sent in one piece: 64 KiB is a large one."""

_FIELD_VALUE = re.compile(r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?")


def parse_body(value: object) -> str:
    """Return the text of an answer."""
    if not isinstance(value, str):
        raise fault(f"expected the text of the page, not {shown(value)}")
    if len(value.encode()) > BODY_BYTES_MAX:
        raise fault(f"the page is too large: it may have {BODY_BYTES_MAX // 1024}KiB")
    return value


def parse_content_type(value: object) -> str:
    """Return a media type."""
    if not isinstance(value, str) or "/" not in value or not _FIELD_VALUE.fullmatch(value):
        expected = 'expected a media type like "text/html; charset=utf-8"'
        raise fault(f"{expected}, not {shown(value)}")
    return value


def _status(value: object) -> str:
    # The loader hands an int key over as its decimal text, so 503 and "503" are the same key.
    if not isinstance(value, str) or not re.fullmatch(r"[45][0-9][0-9]", value):
        raise fault(f"expected a status from 400 to 599, not {shown(value)}")
    return value


class ErrorPage(Model):
    """One page."""

    body: Annotated[
        str,
        BeforeValidator(parse_body),
        Field(description="The text of the page.", examples=["<h1>Back in a minute</h1>"]),
    ]
    content_type: Annotated[
        str,
        BeforeValidator(parse_content_type),
        Field(description="Its media type.", examples=["application/json"]),
    ] = "text/html; charset=utf-8"


Status = Annotated[
    str, BeforeValidator(_status), WithJsonSchema({"type": "string", "pattern": "^[45][0-9][0-9]$"})
]
ErrorPages = Annotated[
    dict[Status, ErrorPage],
    Field(
        description="Own pages for answers that the proxy gives by itself, by status, 400 to 599.",
        examples=[{"503": {"body": "<h1>Back in a minute</h1>"}}],
    ),
]
OwnErrorPages = Annotated[
    dict[Status, ErrorPage | None],
    Field(
        description=(
            "Own pages for answers that the proxy gives by itself, by status, 400 to 599. null: "
            "the built-in page, whoever else has one."
        ),
        examples=[{"503": {"body": "<h1>Back in a minute</h1>"}, "404": None}],
    ),
]
