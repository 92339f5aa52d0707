"""The error page: what a client reads when the proxy answers by itself.

Part of frontend, policy, listener and settings. The frontend's goes first, then its policies', the
listener's, its policies', the one of the settings, and the built-in one.
"""

import re
from typing import Annotated

from pydantic import BeforeValidator, Field, WithJsonSchema

from schemas.base import Model, fault, shown
from schemas.values.content import parse_body, parse_content_type


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
