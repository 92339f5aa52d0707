"""How the requests of a frontend are split over several clusters. Part of a frontend."""

from collections.abc import Mapping
from typing import Annotated, Literal

from annotated_types import Ge, Le
from pydantic import AfterValidator, BeforeValidator, Field

from schemas.base import OneOf, fault, shown
from schemas.routes.match import CookieName, HeaderName
from schemas.values.forms import A_MAP, A_WORD, BY_FORM
from schemas.values.names import Name

CLUSTERS_MAX = 16
SHARE_MAX = 65_535


class SplitBy(OneOf):
    """What has the same value where a request is to come to the same cluster again."""

    cookie: Annotated[
        CookieName | None, Field(description="The cookie of this name.", examples=["lane"])
    ] = None
    header: Annotated[
        HeaderName | None, Field(description="The header of this name.", examples=["x-user"])
    ] = None


def _split_by(value: object) -> object:
    if value is None or value == "client_address" or isinstance(value, (dict, SplitBy)):
        return value
    hint = None
    if isinstance(value, str):
        hint = f"write {{cookie: {value}}} or {{header: {value}}}"
    raise fault(f'expected "client_address" or a map, not {shown(value)}', hint)


def _some_share(value: dict[str, int]) -> dict[str, int]:
    if value and not any(value.values()):
        raise fault("no cluster has a share", "give one of them more than 0")
    return value


Share = Annotated[int, Ge(0), Le(SHARE_MAX)]
Shares = Annotated[dict[Name, Share], AfterValidator(_some_share)]
SplitByOrClient = Annotated[
    Annotated[
        Annotated[Literal["client_address"], A_WORD] | Annotated[SplitBy, A_MAP],
        BY_FORM,
    ]
    | None,
    BeforeValidator(_split_by),
]


def shares_of(split: Mapping[str, int]) -> dict[str, str]:
    """Return the share of each cluster in words, the largest first."""
    total = sum(split.values())
    ordered = sorted(split.items(), key=lambda each: (-each[1], each[0]))
    return {name: f"{100 * share / total:.3g} %" for name, share in ordered}


def goes_by(by: SplitBy | str | None) -> str:
    """Return what shares go by in words."""
    if by is None:
        return "each request by chance"
    if isinstance(by, SplitBy):
        kind, name = by.given()
        return f"by {kind} {name}"
    return "by the client's address"
