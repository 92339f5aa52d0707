"""Strict-Transport-Security: what browsers remember of a host. Part of frontend and policy."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from schemas.base import Model, fault, shown
from schemas.kinds.places import MAP, WORD, form_of

HSTS_DAYS_MAX = 3650
HSTS_PRELOAD_DAYS = 365
INHERIT: Literal["inherit"] = "inherit"


class Hsts(Model):
    """What browsers remember: that this host is asked over TLS only (RFC 6797)."""

    include_subdomains: Annotated[
        bool, Field(description="Hosts below this one are meant, too.")
    ] = False
    max_age_days: Annotated[
        int,
        Field(
            ge=0,
            le=HSTS_DAYS_MAX,
            description="How long browsers remember it; 0 makes them forget it.",
            examples=[365],
        ),
    ]
    preload: Annotated[
        bool,
        Field(description="Browsers may have it built in: needs a year, and the hosts below."),
    ] = False

    @model_validator(mode="after")
    def _preloading_is_for_good(self) -> Hsts:
        if self.preload and not (
            self.include_subdomains and self.max_age_days >= HSTS_PRELOAD_DAYS
        ):
            hint = f"write include_subdomains: true and at least max_age_days: {HSTS_PRELOAD_DAYS}"
            raise fault("preload: browsers take it only for a year, with the hosts below", hint)
        return self


def _word_or_map(value: object) -> object:
    if value is None or value == INHERIT or isinstance(value, (dict, Hsts)):
        return value
    hint = "write {max_age_days: 365}, or null for none"
    raise fault(f'expected a map or "inherit", not {shown(value)}', hint)


InheritedHsts = Annotated[
    Annotated[
        Annotated[Literal["inherit"], Tag(WORD)] | Annotated[Hsts, Tag(MAP)],
        Discriminator(form_of),
    ]
    | None,
    Field(
        description=(
            "Strict-Transport-Security, set in responses over TLS in place of the backend's. "
            "inherit: as policies say that hold here, and without one the backend's is passed on. "
            "null: the backend's is passed on, whatever they say."
        ),
        examples=[{"max_age_days": 365}],
    ),
    BeforeValidator(_word_or_map),
]
