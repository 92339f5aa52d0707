"""Which pages of other origins may ask (Fetch standard). Part of frontend and policy.

A browser asks before it sends what a form could not have sent (a preflight), and looks in every
answer whether its page may read it. Both are said here, in place of what backends say.
"""

import re
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from schemas.base import Model, fault, no_items, shown
from schemas.policies.edits import parse_field_name
from schemas.values.forms import A_MAP, A_WORD, BY_FORM, inherit_or
from schemas.values.names import SortedUnique, parse_hostname, parse_method
from schemas.values.units import Measured

ANY = "*"
LISTED_MAX = 256
_PORTS = {"http": 80, "https": 443}
_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://([^/?#@]+?)(?::([0-9]{1,5}))?")


def parse_origin(value: object) -> str:
    """Return an origin as browsers write it, perhaps with `*.` before its hostname; or `*`."""
    expected = 'expected an origin like "https://app.example.com", "https://*.example.com" or "*"'
    if value == ANY:
        return ANY
    if not isinstance(value, str):
        raise fault(f"{expected}, not {shown(value)}")
    found = _ORIGIN.fullmatch(value.lower())
    if found is None:
        raise fault(f"{expected}, not {shown(value)}", _origin_hint(value))
    scheme, host, port = found.groups()
    try:
        name = parse_hostname(host)
    except PydanticCustomError:
        raise fault(f"{expected}, not {shown(value)}") from None
    if name == ANY or not 0 < int(port or 1) <= 65535:
        raise fault(f"{expected}, not {shown(value)}")
    is_usual = port is None or int(port) == _PORTS.get(scheme)
    return f"{scheme}://{name}" if is_usual else f"{scheme}://{name}:{int(port)}"


def _origin_hint(value: str) -> str | None:
    if value.lower() == "null":
        return "any sandboxed page and any file has it: allowing it is allowing everybody"
    if "://" not in value:
        return f'write the scheme: "https://{value.strip("/")}"'
    return "an origin is a scheme, a hostname and perhaps a port: no path, no slash at its end"


def _method(value: object) -> str:
    return ANY if value == ANY else parse_method(value)


def _name(value: object) -> str:
    return ANY if value == ANY else parse_field_name(value).lower()


class Cors(Model):
    """Which pages of other origins may ask, and what they may read of the answers."""

    credentials: Annotated[
        bool,
        Field(description='Cookies may come along. Not with "*" anywhere: that would be anybody.'),
    ] = False
    expose: Annotated[
        list[Annotated[str, BeforeValidator(_name)]],
        SortedUnique,
        Field(
            max_length=LISTED_MAX,
            description='Headers of answers that pages may read beside the usual ones. "*": all.',
            examples=[["x-request-id"]],
        ),
    ] = Field(default_factory=no_items)
    headers: Annotated[
        list[Annotated[str, BeforeValidator(_name)]],
        SortedUnique,
        Field(
            max_length=LISTED_MAX,
            description='Headers that pages may send. "*": all but Authorization.',
            examples=[["authorization", "content-type"]],
        ),
    ] = Field(default_factory=no_items)
    max_age: Annotated[
        Annotated[int, Measured("duration", "1s", "24h")] | None,
        Field(
            description="How long browsers remember a preflight. null: as they like, 5 seconds.",
            examples=["2h"],
        ),
    ] = None
    methods: Annotated[
        list[Annotated[str, BeforeValidator(_method)]],
        SortedUnique,
        Field(
            max_length=LISTED_MAX,
            description='Methods that pages may use beside GET, HEAD and POST. "*": all.',
            examples=[["DELETE", "PUT"]],
        ),
    ] = Field(default_factory=no_items)
    origins: Annotated[
        list[Annotated[str, BeforeValidator(parse_origin)]],
        SortedUnique,
        Field(
            min_length=1,
            max_length=LISTED_MAX,
            description='Whose pages may ask; `https://*.example.com` is all below. "*": all.',
            examples=[["https://app.example.com"]],
        ),
    ]

    @model_validator(mode="after")
    def _credentials_are_not_for_anybody(self) -> Self:
        for key in ("origins", "methods", "headers", "expose"):
            listed: list[str] = getattr(self, key)
            if ANY in listed and self.credentials:
                message = f'credentials: with "*" in {key} browsers refuse them'
                raise fault(message, f"name the {key}, or leave credentials out", at=(key,))
            if ANY in listed and len(listed) > 1:
                raise fault('"*" is all of them, beside which the others say nothing', at=(key,))
        return self


InheritedCors = Annotated[
    Annotated[
        Annotated[Literal["inherit"], A_WORD] | Annotated[Cors, A_MAP],
        BY_FORM,
    ]
    | None,
    Field(
        description=(
            "Which pages of other origins may ask (CORS). Preflights are answered here, and all "
            "Access-Control headers of backends are replaced. inherit: as policies say that hold "
            "here, and without one backends are asked. null: backends are asked, whatever they say."
        ),
        examples=[{"origins": ["https://app.example.com"]}],
    ),
    inherit_or(Cors, '{origins: ["https://app.example.com"]}'),
]
