"""The backend: one address in a cluster."""

from typing import Annotated, ClassVar

from pydantic import Field

from schemas.base import Kind
from schemas.values.names import Target


class Backend(Kind):
    """One address that serves requests of its cluster."""

    KIND: ClassVar[str] = "backend"

    address: Annotated[
        Target,
        Field(description="IP address and port; IPv6 in brackets.", examples=["127.0.0.1:9001"]),
    ]
    weight: Annotated[
        int,
        Field(
            ge=0,
            le=65_535,
            description="Its share among the cluster's backends. 0: no new requests.",
        ),
    ] = 100
