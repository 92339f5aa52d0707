"""How many requests of one sort may be in flight. Part of frontend and policy.

None replaces another: a request has to find room in each that holds for it.
"""

from typing import Annotated, Self

from pydantic import Field, model_validator

from schemas.base import Model
from schemas.policies.nulls import ADDS_UP
from schemas.policies.rate import IPV6_PREFIX, CountedBy, DryRun, Ipv6Prefix, check_prefix

REQUESTS_MAX = 1_000_000


class Concurrency(Model):
    """How many requests at a time."""

    by: CountedBy = "client_address"
    dry_run: DryRun = False
    ipv6_prefix: Ipv6Prefix = IPV6_PREFIX
    requests: Annotated[
        int,
        Field(
            ge=1, le=REQUESTS_MAX, description="How many requests may be in flight.", examples=[20]
        ),
    ]

    @model_validator(mode="after")
    def _has_networks_of_addresses(self) -> Self:
        check_prefix(self.by, self.ipv6_prefix)
        return self


Crowded = Annotated[
    Concurrency | None,
    Field(
        description=(
            "How many requests of a client may be in flight at a backend, by all workers of a "
            "host together; one more gets 429. There has to be room in every one that frontend, "
            "policies or listener name, and that of a policy is one for all who name it. Without "
            "it this one leaves it to the others."
        ),
        examples=[{"requests": 20}],
    ),
    ADDS_UP,
]
