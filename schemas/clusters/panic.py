"""When too few backends are healthy to believe it. Part of a cluster."""

from typing import Annotated

from pydantic import Field

from schemas.values.units import Measured

Panic = Annotated[
    Annotated[int, Measured("share", "0%", "100%")] | None,
    Field(
        description=(
            "With a smaller share of healthy backends, by weight, all are tried, whatever checks "
            "and ejection say: it is more likely that these are wrong, and a few would break down "
            "under what all had. null and 0%: only where none is healthy is any tried, and with a "
            "fallback not even then."
        ),
        examples=["30%"],
    ),
]
