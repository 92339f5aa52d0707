"""How often who may ask. Part of frontend and policy.

A rate never replaces another: a request has to be within each that holds for it.
"""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from schemas.base import Model, fault, shown
from schemas.routes.split import SplitBy
from schemas.values.forms import A_MAP, A_WORD, BY_FORM
from schemas.values.units import Measured

REQUESTS_MAX = 1_000_000
_WORDS = ("client_address", "frontend")


def _rate_by(value: object) -> object:
    if value in _WORDS or isinstance(value, (dict, SplitBy)):
        return value
    hint = 'the key of a header or a cookie is written {header: "x-api-key"}'
    if value in ("address", "client", "client_ip", "ip", "remote_addr", "source_ip"):
        hint = 'write "client_address"'
    elif isinstance(value, str) and value:
        hint = f"write {{header: {value}}} or {{cookie: {value}}}"
    raise fault(f'expected "client_address", "frontend" or a map, not {shown(value)}', hint)


CountedBy = Annotated[
    Annotated[
        Annotated[Literal["client_address", "frontend"], A_WORD] | Annotated[SplitBy, A_MAP],
        BY_FORM,
    ],
    BeforeValidator(_rate_by),
    Field(
        description=(
            "Whose requests are counted together: those of a client_address (of IPv6 a network "
            "of 64 bits), all of a frontend, or those with the same value of a cookie or a "
            "header by name; those without it are counted together too."
        ),
        examples=[{"header": "x-api-key"}],
    ),
]
"""Whose requests are counted together; also for `schemas.policies.concurrency`."""


class RateLimit(Model):
    """How many requests in how much time."""

    burst: Annotated[
        int | None,
        Field(
            ge=1,
            le=REQUESTS_MAX,
            description="How many may come at once. null: as many as `requests`.",
            examples=[10],
        ),
    ] = None
    by: CountedBy = "client_address"
    dry_run: Annotated[
        bool,
        Field(
            description="Nobody is refused; `kakehi_rate_limit_dry_run_total` counts who would be."
        ),
    ] = False
    per: Annotated[
        Annotated[int, Measured("duration", "1s", "24h")],
        Field(description="In how much time.", examples=["1m"]),
    ] = 1_000
    requests: Annotated[
        int,
        Field(ge=1, le=REQUESTS_MAX, description="How many requests.", examples=[5]),
    ]


RateLimited = Annotated[
    RateLimit | None,
    Field(
        description=(
            "How often clients may ask; whoever asks more often gets 429 with Retry-After. Each "
            "worker counts by itself. A request has to be within every rate that frontend, "
            "policies or listener name, and that of a policy is one for all who name it. null: "
            "this one leaves it to the others."
        ),
        examples=[{"requests": 5, "per": "1m"}],
    ),
]
