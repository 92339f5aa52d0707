"""The backend: one address in a cluster."""

from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from schemas.base import KEY, Kind, Later, fault
from schemas.values.names import ADDRESS_PATTERN
from schemas.values.targets import UNIX_PATTERN, Target, is_named

PRIORITY_MAX = 7


def _is_reached(address: object) -> bool:
    return isinstance(address, str) and not is_named(address)


class Backend(Kind):
    """One address that serves requests of its cluster."""

    KIND: ClassVar[str] = "backend"

    address: Annotated[
        Target,
        Field(
            description=(
                "IP address and port; IPv6 in brackets. unix: and a path is a Unix socket. A name "
                "and a port is all addresses that the name has, srv: and a name all hosts and "
                "ports of that record, asked for again as it says; the last answer is kept for as "
                "long as there is no better one."
            ),
            examples=["127.0.0.1:9001", "unix:/run/app.sock"],
        ),
        Later(
            counted="kakehi_backend_addresses, kakehi_names_failures_total",
            told="shop/pool: app.internal is 10.0.0.1 and 10.0.0.2, for 25s more",
            meanwhile="write IP address and port, or unix: and a path",
            has=_is_reached,
            narrows={"pattern": f"^({ADDRESS_PATTERN}|{UNIX_PATTERN})$"},
        ),
    ]
    backup: Annotated[
        bool,
        Field(
            description=(
                "It gets requests only while no other backend of its cluster can: all are drained, "
                "have the weight 0, or could not be reached. Weights count among backups."
            )
        ),
    ] = False
    priority: Annotated[
        int,
        Field(
            ge=0,
            le=PRIORITY_MAX,
            description=(
                "Backends of the smallest number are asked first. As far as those are not healthy, "
                "or full, those of the next get the rest."
            ),
        ),
        Later(
            counted="kakehi_cluster_priority",
            told="shop/shop-3: priority 1, which gets 40 % while 0 is at 60 %",
            meanwhile="weights say who gets how much",
        ),
    ] = 0
    weight: Annotated[
        int,
        Field(
            ge=0,
            le=65_535,
            description="Its share among the cluster's backends. 0: no new requests.",
        ),
    ] = 100

    @model_validator(mode="after")
    def _waits_by_one_word(self) -> Self:
        if self.backup and self.priority:
            hint = 'remove "backup": the largest number is asked last'
            raise fault("backup: priority says already when it is asked", hint, ("backup", KEY))
        return self
