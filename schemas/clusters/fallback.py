"""What becomes of requests of a cluster without a usable backend. Part of a cluster."""

from typing import Annotated

from pydantic import Field

from schemas.base import OneOf
from schemas.routes.respond import Respond
from schemas.values.names import Name


class Fallback(OneOf):
    """Where requests go instead, or what they are answered."""

    cluster: Annotated[
        Name | None,
        Field(
            description="The cluster that serves them. Its own fallback is not asked.",
            examples=["maintenance"],
        ),
    ] = None
    respond: Annotated[
        Respond | None,
        Field(description="The answer, as a frontend has it.", examples=[{"status": 503}]),
    ] = None


FallenBack = Annotated[
    Fallback | None,
    Field(
        description=(
            "What becomes of requests while no backend is usable: all are drained, have the weight "
            "0, cannot be reached in as many attempts as there are, or are not healthy. Not of "
            "those that are mirrored, nor of questions of forward_auth. null: 503, or 502 where "
            "one was tried."
        ),
        examples=[{"cluster": "maintenance"}],
    ),
]
