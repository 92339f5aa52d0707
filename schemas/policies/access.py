"""Who may ask: networks that are turned away, and networks that alone are let in.

Part of frontend and policy. None of these words replaces another: whoever is denied anywhere is
denied, and whoever is allowed has to be by each that allows anybody.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from typing import Annotated

from pydantic import Field

from schemas.base import fault
from schemas.policies.nulls import ADDS_UP
from schemas.values.names import Network, SortedUnique

ACCESS_NETWORKS_MAX = 1000

Allowed = Annotated[
    Annotated[list[Network], SortedUnique] | None,
    Field(
        min_length=1,
        max_length=ACCESS_NETWORKS_MAX,
        description=(
            "Networks of the clients that may ask; all others get 403. Of frontend, policies and "
            "listener each that allows anybody has to allow a client. Without it "
            "this one leaves it to the others. Who a client is, the PROXY protocol or a trusted "
            "proxy says, as for `{client_address}`."
        ),
        examples=[["10.0.0.0/8"]],
    ),
    ADDS_UP,
]
Denied = Annotated[
    Annotated[list[Network], SortedUnique] | None,
    Field(
        min_length=1,
        max_length=ACCESS_NETWORKS_MAX,
        description=(
            "Networks of clients that get 403, whoever allows them. Without it "
            "this one leaves it to the others."
        ),
        examples=[["192.0.2.0/24"]],
    ),
    ADDS_UP,
]


def check_access(allow: Sequence[str] | None, deny: Sequence[str] | None) -> None:
    """Raise a fault about networks that are allowed, and denied in the same breath."""
    for network in allow or ():
        wider = next(_wider(network, deny or ()), None)
        if wider is not None:
            hint = (
                "leave deny out: with allow, all others get 403 anyhow"
                if wider.endswith("/0")
                else "leave one of the two out"
            )
            message = f"{network} is allowed in vain: deny goes first, and has {wider}"
            raise fault(message, hint, at=("allow",))


def _wider(network: str, others: Sequence[str]) -> Iterator[str]:
    inner = ipaddress.ip_network(network)
    for other in others:
        outer = ipaddress.ip_network(other)
        if (
            inner.version == outer.version
            and inner.prefixlen >= outer.prefixlen
            and inner.network_address in outer
        ):
            yield other
