"""Backends that are new or well again, and take their share bit by bit. Part of a cluster."""

from typing import Annotated

from pydantic import Field

from schemas.base import Later
from schemas.values.units import Measured

SlowStart = Annotated[
    Annotated[int, Measured("duration", "1s", "1h")] | None,
    Field(
        description=(
            "A backend that is new, or healthy again, has a tenth of its weight at first and all "
            "of it after this. null: all of it at once."
        ),
        examples=["30s"],
    ),
    Later(
        counted="kakehi_backend_weight",
        told="shop/shop-2: 40 % of its weight, all of it in 18s",
        meanwhile="a commit that raises its weight does it by hand",
    ),
]
