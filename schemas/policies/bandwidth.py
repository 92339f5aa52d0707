"""How fast answers leave. Part of frontend and policy.

A bandwidth never replaces another, unless a listener's policy lets it: an answer keeps each.
"""

from typing import Annotated

from pydantic import Field, model_validator

from schemas.base import Model, fault
from schemas.policies.nulls import ADDS_UP
from schemas.values.units import Measured

Rate = Annotated[int, Measured("size", "1KiB", "1TiB")]


class Bandwidth(Model):
    """How many bytes of the bodies of answers leave in a second."""

    per_connection: Annotated[
        Rate | None,
        Field(
            description="In a second, to one connection of a client, however many requests it has.",
            examples=["1MiB"],
        ),
    ] = None
    total: Annotated[
        Rate | None,
        Field(
            description=(
                "In a second, to all together. Each worker counts by itself; that of a policy is "
                "one for all who name it."
            ),
            examples=["100MiB"],
        ),
    ] = None

    @model_validator(mode="after")
    def _says_something(self) -> "Bandwidth":
        if self.per_connection is None and self.total is None:
            raise fault(
                'expected "per_connection", "total" or both',
                "write {per_connection: 1MiB}, in a second",
            )
        return self


Throttled = Annotated[
    Bandwidth | None,
    Field(
        description=(
            "How fast the bodies of backends' answers leave, in bytes a second. An answer keeps "
            "every bandwidth that frontend, policies or listener name. Answers of the proxy itself "
            "and connections that have switched to another protocol are bounded by none. Without "
            "it this one leaves it to the others."
        ),
        examples=[{"per_connection": "1MiB"}],
    ),
    ADDS_UP,
]
