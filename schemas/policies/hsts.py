"""Strict-Transport-Security: what browsers remember of a host. Part of frontend and policy."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from schemas.base import Model, fault
from schemas.values.forms import A_MAP, A_WORD, BY_FORM, inherit_or

HSTS_DAYS_MAX = 3650
HSTS_PRELOAD_DAYS = 365


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
    def _preloading_is_for_good(self) -> Self:
        if self.preload and not (
            self.include_subdomains and self.max_age_days >= HSTS_PRELOAD_DAYS
        ):
            hint = f"write include_subdomains: true and at least max_age_days: {HSTS_PRELOAD_DAYS}"
            raise fault("preload: browsers take it only for a year, with the hosts below", hint)
        return self


InheritedHsts = Annotated[
    Annotated[
        Annotated[Literal["inherit"], A_WORD] | Annotated[Hsts, A_MAP],
        BY_FORM,
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
    inherit_or(Hsts, "{max_age_days: 365}"),
]
