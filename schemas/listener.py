"""The listener: an address on which the proxy accepts connections, with its limits and timeouts."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import BeforeValidator, Field, WithJsonSchema

from schemas.base import Model, fault, shown
from schemas.error_page import ErrorPages
from schemas.names import Address, Network, SortedUnique
from schemas.units import Duration, Measured

TLS_LATER = "TLS is not part of this version yet"
HTTP2_LATER = "HTTP/2 is not part of this version yet"
PROTOCOL_LATER = "TLS/HTTP/2 is not part of this version yet; protocol must be http"


def _protocol(value: object) -> str:
    if value == "http":
        return "http"
    if value in ("https", "h2", "h2c", "http2"):
        raise fault(f"{shown(value)}: {PROTOCOL_LATER}")
    raise fault(f'expected "http", not {shown(value)}')


Protocol = Annotated[
    str,
    BeforeValidator(_protocol),
    WithJsonSchema({"enum": ["http"], "type": "string"}),
    Field(description="What is spoken. Only HTTP/1.1 in this version."),
]


class ListenerLimits(Model):
    """Bounds of what one listener takes, so that no client can use up a worker."""

    body_bytes: Annotated[
        Annotated[int, Measured("size", "0B", "1024TiB")] | None,
        Field(
            description="Largest request body; a larger one is answered by 413. null: no limit.",
            examples=["10MiB"],
        ),
    ] = None
    connections: Annotated[
        int,
        Field(ge=1, le=1_000_000, description="Open connections per worker; 503 beyond them."),
    ] = 10_000
    head_bytes: Annotated[
        Annotated[int, Measured("size", "1KiB", "64KiB")],
        Field(description="Largest request head: request line and header; 431 or 414 beyond it."),
    ] = 32_768
    header_count: Annotated[
        int, Field(ge=1, le=1000, description="Most fields in a request header; 431 beyond them.")
    ] = 100


class ListenerTimeouts(Model):
    """How long a client may take for each step."""

    keep_alive: Annotated[
        Duration, Field(description="A connection without a request is closed after this.")
    ] = 60_000
    request_body: Annotated[
        Duration, Field(description="Longest pause while the client sends a body; then 408.")
    ] = 30_000
    request_head: Annotated[
        Duration, Field(description="From the first byte of a request to its whole head; then 408.")
    ] = 10_000
    response_write: Annotated[
        Duration, Field(description="Longest pause while the client reads nothing; then closed.")
    ] = 30_000


class Listener(Model):
    """A socket address on which connections are accepted; frontends name it to be reached by it."""

    later: ClassVar[dict[str, str]] = {
        "h2c": HTTP2_LATER,
        "http2": HTTP2_LATER,
        "tls": TLS_LATER,
    }

    address: Annotated[
        Address,
        Field(
            description='IP address and port; IPv6 in brackets, where "[::]" leaves IPv4 out.',
            examples=["0.0.0.0:8080"],
        ),
    ]
    error_pages: ErrorPages = Field(default_factory=dict)
    limits: Annotated[
        ListenerLimits, Field(description="Bounds of what is taken from clients.")
    ] = ListenerLimits()
    protocol: Protocol = "http"
    timeouts: Annotated[ListenerTimeouts, Field(description="How long a client may take.")] = (
        ListenerTimeouts()
    )
    trusted_proxies: Annotated[
        list[Network],
        SortedUnique,
        Field(
            description=(
                "Networks of clients whose X-Forwarded-*, Forwarded and X-Request-Id are passed "
                "on. From everybody else these headers are replaced."
            ),
            examples=[["10.0.0.0/8"]],
        ),
    ] = Field(default_factory=list)
