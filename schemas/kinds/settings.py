"""The settings: what holds for the whole proxy. There is one of them, and it always exists."""

from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, WithJsonSchema

from schemas.base import Kind, Later, Model, fault, no_items, shown
from schemas.policies.error_page import ErrorPages
from schemas.values.names import Address, Listened, SortedUnique, is_token
from schemas.values.units import Measured

VIA_CHARS_MAX = 64
WORKERS_MAX = 1024


def _access_log(value: object) -> str:
    expected = 'expected "stdout", "off", or an absolute path like "/var/log/kakehi/access.log"'
    if not isinstance(value, str):
        raise fault(
            f"{expected}, not {shown(value)}", 'write "off" in quotes' if value is False else None
        )
    if value in ("stdout", "off"):
        return value
    if not value.startswith("/") or value.endswith("/") or "\0" in value:
        raise fault(f"{expected}, not {shown(value)}")
    return value


def _workers(value: object) -> Any:
    if value == "auto":
        return value
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= WORKERS_MAX:
        raise fault(f'expected "auto" or a number from 1 to {WORKERS_MAX}, not {shown(value)}')
    return value


class Resolver(Model):
    """Who is asked for the addresses of backends that are names."""

    least_ttl: Annotated[
        Annotated[int, Measured("duration", "1s", "1h")],
        Field(description="No answer counts for less, whatever it says."),
    ] = 5_000
    servers: Annotated[
        list[Address],
        SortedUnique,
        Field(
            max_length=8,
            description="Servers of names. An empty list: those of /etc/resolv.conf.",
            examples=[["10.0.0.53:53"]],
        ),
    ] = Field(default_factory=no_items)
    timeout: Annotated[
        Annotated[int, Measured("duration", "100ms", "1m")],
        Field(description="How long an answer may take; then the last one counts on."),
    ] = 2_000


def _via(value: object) -> str:
    if is_token(value) and len(value) <= VIA_CHARS_MAX:
        return value
    expected = f'expected a name like "edge-1", of {VIA_CHARS_MAX} characters at most'
    raise fault(f"{expected}, not {shown(value)}", "it stands in a header, without blanks")


class Settings(Kind):
    """What holds for the whole proxy."""

    KIND: ClassVar[str] = "settings"

    accept_by_core: Annotated[
        bool,
        Field(
            description=(
                "Connections go to the worker on the core that their packets come to, where there "
                "is one, and not to any: for network cards with a queue for each core."
            )
        ),
    ] = False
    access_log: Annotated[
        str,
        BeforeValidator(_access_log),
        Field(
            description='Where the JSON access log goes: "stdout", "off", or an absolute path.',
            examples=["/var/log/kakehi/access.log"],
        ),
    ] = "stdout"
    admin: Annotated[
        Listened | None,
        Field(
            description="Where Prometheus may read the metrics. null: nowhere.",
            examples=["127.0.0.1:9901"],
        ),
    ] = None
    drain_idle_timeout: Annotated[
        Annotated[int, Measured("duration", "0s", "24h")],
        Field(
            description=(
                "How long a connection of HTTP/1.1 without a request is kept where something was "
                "removed: a request that comes meanwhile is answered, as its last. Ends two "
                "seconds before `drain_timeout`."
            )
        ),
    ] = 1000
    drain_timeout: Annotated[
        Annotated[int, Measured("duration", "0s", "24h")],
        Field(description="How long requests may go on where something was removed; then closed."),
    ] = 30_000
    error_pages: ErrorPages = Field(default_factory=dict)
    generation_header: Annotated[
        bool, Field(description="Add `Kakehi-Generation: G` to every response.")
    ] = False
    max_buffered_bytes: Annotated[
        Annotated[int, Measured("size", "1MiB", "1TiB")],
        Field(
            description=(
                "Bytes per worker that may wait for clients and backends to read them; 503 beyond."
            )
        ),
    ] = 1 << 30
    max_compression_bytes: Annotated[
        Annotated[int, Measured("size", "0B", "1TiB")],
        Field(
            description=(
                "Memory per worker of what compresses answers: 384KiB for each that is gzip, "
                "1.5MiB for zstd, 4MiB for br, 6MiB at level 6 of that. Then they stay as they are."
            )
        ),
    ] = 64 << 20
    max_connections: Annotated[
        int,
        Field(
            ge=1,
            le=1_000_000,
            description="Open client connections per worker. A new one takes the place of one that "
            "is idle; where none is, it gets 503.",
        ),
    ] = 10_000
    max_counted_entities: Annotated[
        int,
        Field(
            ge=1,
            le=4_000_000,
            description=(
                "Frontends, clusters, backends and policies that a worker counts one by one, from "
                "the first request of each."
            ),
        ),
    ] = 1_000_000
    max_expression_bytes: Annotated[
        Annotated[int, Measured("size", "1MiB", "1TiB")],
        Field(
            description=(
                "Memory per worker of all expressions when they are compiled, each different one "
                "counted once. A commit that would add more is refused."
            )
        ),
    ] = 256 << 20
    max_requests: Annotated[
        int, Field(ge=1, le=1_000_000, description="Requests in flight per worker; 503 beyond.")
    ] = 10_000
    metrics_entities: Annotated[
        int,
        Field(
            ge=0,
            le=1_000_000,
            description=(
                "Frontends, clusters, backends and policies each that have metrics of their own, "
                "the first by name."
            ),
        ),
    ] = 1_500
    resolver: Annotated[
        Resolver | None,
        Field(
            description="Who is asked for names of backends. null: as the system has it.",
            examples=[{"servers": ["10.0.0.53:53"]}],
        ),
        Later(
            counted="kakehi_names_queries_total, kakehi_names_failures_total",
            told="shop/pool: app.internal is 10.0.0.1 and 10.0.0.2, for 25s more",
            meanwhile="backends are named by their addresses",
        ),
    ] = None
    via: Annotated[
        Annotated[str, BeforeValidator(_via)] | None,
        Field(
            description=(
                "The name of this instance in `Via` of requests to backends, and of answers that "
                "it passes on: a request that comes back with it gets 508. Instances behind one "
                "another need different ones. null: a name of its own (`kakehi-` and twelve "
                "digits), the same in all workers."
            ),
            examples=["edge-1"],
        ),
    ] = None
    workers: Annotated[
        int | str,
        BeforeValidator(_workers),
        WithJsonSchema(
            {
                "anyOf": [
                    {"const": "auto"},
                    {"type": "integer", "minimum": 1, "maximum": WORKERS_MAX},
                ]
            }
        ),
        Field(description='Worker processes: a number, or "auto" for one per usable core.'),
    ] = "auto"
