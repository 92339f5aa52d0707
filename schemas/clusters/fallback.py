"""What becomes of requests of a cluster without a usable backend. Part of a cluster."""

from typing import Annotated

from pydantic import Field

from schemas.base import Later, OneOf
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
            "0, cannot be reached or are not healthy. null: 503, or 502 where one was tried."
        ),
        examples=[{"cluster": "maintenance"}],
    ),
    Later(
        counted="kakehi_cluster_fallbacks_total",
        told="fallback: no backend of shop is usable: cluster maintenance serves it",
        meanwhile="error_pages of a frontend is the page of 502 and 503",
    ),
]
