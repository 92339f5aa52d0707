"""Backends that fail requests, and get none for a while. Part of a cluster."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from schemas.base import KEY, Later, Model, fault
from schemas.values.units import Measured

_PAUSE = Annotated[int, Measured("duration", "100ms", "1h")]


class Ejection(Model):
    """When requests that fail speak against a backend, and for how long it gets none."""

    failures: Annotated[
        int | None,
        Field(
            ge=1,
            le=1_000,
            description=(
                "So many failures in a row within `within`: no connection, a connection that is "
                "reset, no answer in time, a status from 500 on. null: rows do not count."
            ),
        ),
    ] = 5
    largest_share: Annotated[
        Annotated[int, Measured("share", "1%", "100%")],
        Field(
            description=(
                "So many of the cluster's backends may be out at a time, by weight; always one "
                "where there are two or more."
            )
        ),
    ] = 50
    least_requests: Annotated[
        int,
        Field(
            ge=1, le=1_000_000, description="Of fewer within `within` success_rate says nothing."
        ),
    ] = 100
    longest_pause: Annotated[
        _PAUSE, Field(description="Until where the pause is doubled by each that follows.")
    ] = 300_000
    pause: Annotated[
        _PAUSE, Field(description="How long it gets no requests; then one finds out.")
    ] = 30_000
    success_rate: Annotated[
        Annotated[int, Measured("share", "1%", "99%")] | None,
        Field(
            description="Of its requests within `within` fewer went well. null: not looked at.",
            examples=["90%"],
        ),
    ] = None
    within: Annotated[_PAUSE, Field(description="How far back is looked.")] = 10_000

    @model_validator(mode="after")
    def _goes_by_something(self) -> Self:
        if self.failures is None and self.success_rate is None:
            hint = "give failures or success_rate a value, or leave ejection out"
            raise fault("nothing speaks against a backend", hint, at=("failures", KEY))
        if self.pause > self.longest_pause:
            hint = "make longest_pause longer, or pause shorter"
            raise fault("pause: it is longer than longest_pause", hint, at=("pause", KEY))
        return self


Ejected = Annotated[
    Ejection | None,
    Field(
        description=(
            "Backends that fail requests get none for a while; {} has all defaults. null: only "
            "those that cannot be reached."
        ),
        examples=[{"failures": 5, "within": "10s", "pause": "30s"}],
    ),
    Later(
        counted="kakehi_backend_ejections_total, kakehi_backend_ejected",
        told="shop/shop-2: ejected for 12s more, by 5 failures within 10s",
        meanwhile="one that cannot be reached gets no requests for a while by itself (retries)",
    ),
]
