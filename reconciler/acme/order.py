"""An order of a certificate: what is wanted, of which authority.

Made by `reconciler.acme.certifying`, carried out by `reconciler.acme.client`; apart from that one,
which takes a quarter of a second to load, because most daemons order nothing.
"""

from __future__ import annotations

from typing import NamedTuple


class OrderError(Exception):
    """Nothing was issued; the message says why."""


class Order(NamedTuple):
    """What is to be ordered, and of whom."""

    name: str
    hostnames: tuple[str, ...]
    directory: str
    contact: tuple[str, ...]
    challenge: str
    ca: str | None
