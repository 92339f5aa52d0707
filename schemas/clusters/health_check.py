"""Whether backends are well, asked of each of them again and again. Part of a cluster."""

import re
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from schemas.base import KEY, Later, Model, OneOf, fault, shown
from schemas.values.names import SortedUnique, parse_hostname
from schemas.values.units import Measured

STATUSES_MAX = 32
TEXT_BYTES_MAX = 1024
PATH_CHARS_MAX = 1024

_SERVICE = re.compile(r"[A-Za-z0-9_.]{0,256}")


def _path(value: object) -> str:
    is_text = isinstance(value, str) and value.isascii() and value.isprintable()
    if not isinstance(value, str) or not is_text or not value.startswith("/") or " " in value:
        hint = f'did you mean "/{value}"?' if isinstance(value, str) and value.isalnum() else None
        raise fault(f'expected a path like "/healthz", not {shown(value)}', hint)
    if len(value) > PATH_CHARS_MAX:
        raise fault(f"the path is too long: at most {PATH_CHARS_MAX} characters")
    return value


def parse_status(value: object) -> int:
    """Return a status that a check may expect."""
    if not isinstance(value, int) or isinstance(value, bool) or not 200 <= value <= 599:
        hint = "write each status by itself" if isinstance(value, str) else None
        raise fault(f"expected a status from 200 to 599, not {shown(value)}", hint)
    return value


def _hostname(value: object) -> object:
    if value is None:
        return None
    name = parse_hostname(value)
    if "*" in name:
        raise fault(f'expected one name like "shop.internal", not {shown(value)}')
    return name


def _bytes(value: object) -> object:
    if value is None:
        return None
    if not isinstance(value, str) or not value:
        hint = f'write it in quotes: "{value}"' if isinstance(value, int) else None
        raise fault(f'expected text like "PING\\r\\n", not {shown(value)}', hint)
    if len(value.encode()) > TEXT_BYTES_MAX:
        raise fault(f"the text is too long: at most {TEXT_BYTES_MAX} bytes")
    return value


def _service(value: object) -> str:
    if not isinstance(value, str) or not _SERVICE.fullmatch(value):
        raise fault(f'expected the name of a gRPC service like "shop.Cart", not {shown(value)}')
    return value


class RequestCheck(Model):
    """A request of HTTP, and what has to be answered."""

    method: Annotated[
        Literal["GET", "HEAD", "OPTIONS"], Field(description="The method of the request.")
    ] = "GET"
    path: Annotated[
        str,
        BeforeValidator(_path),
        Field(description="What is asked for, with its query.", examples=["/healthz"]),
    ] = "/"
    status: Annotated[
        list[Annotated[int, BeforeValidator(parse_status)]],
        SortedUnique,
        Field(
            max_length=STATUSES_MAX,
            description="Statuses of a backend that is well. An empty list: 200 to 299.",
            examples=[[200, 204]],
        ),
    ] = Field(default_factory=list)


class GrpcCheck(Model):
    """A call of the gRPC health protocol, which has to be answered by SERVING."""

    service: Annotated[
        str,
        BeforeValidator(_service),
        Field(description="The service that is asked about. Empty: the backend as a whole."),
    ] = ""


class TcpCheck(Model):
    """A connection, and what is said there."""

    expect: Annotated[
        Annotated[str | None, BeforeValidator(_bytes)],
        Field(
            description="How what comes has to begin. null: that a connection is made is enough.",
            examples=["+PONG"],
        ),
    ] = None
    send: Annotated[
        Annotated[str | None, BeforeValidator(_bytes)],
        Field(description="What is sent first. null: nothing.", examples=["PING\r\n"]),
    ] = None


_CHECKS = ("grpc", "h2", "http", "https", "tcp")
_INTERVAL = Annotated[int, Measured("duration", "100ms", "1h")]


class HealthCheck(OneOf):
    """How each backend is asked, how often, and what follows from that."""

    BESIDE = (
        "healthy_after",
        "hostname",
        "initial",
        "interval",
        "port",
        "timeout",
        "unhealthy_after",
    )

    grpc: Annotated[
        GrpcCheck | None,
        Field(description="Ask by the gRPC health protocol, over HTTP/2.", examples=[{}]),
        Later(
            counted="kakehi_backend_healthy, kakehi_health_checks_total",
            told="healthy for 3h, by the gRPC service shop.Cart every 2s",
            meanwhile="ask by tcp, or by http at the port of something that answers it",
        ),
    ] = None
    h2: Annotated[
        RequestCheck | None,
        Field(description="Ask over HTTP/2; with tls of the cluster over that.", examples=[{}]),
        Later(
            counted="kakehi_backend_healthy, kakehi_health_checks_total",
            told="healthy for 3h, by GET /healthz over HTTP/2 every 2s",
            meanwhile="ask by tcp, or by http where the backend answers HTTP/1.1 as well",
        ),
    ] = None
    healthy_after: Annotated[
        int,
        Field(ge=1, le=100, description="So many good checks in a row make a backend healthy."),
    ] = 2
    hostname: Annotated[
        Annotated[str | None, BeforeValidator(_hostname)],
        Field(
            description=(
                "The name that is asked for (Host, :authority), and over TLS the name of the "
                "certificate. null: `tls.server_name` of the cluster, or else the address."
            ),
            examples=["shop.internal"],
        ),
    ] = None
    http: Annotated[
        RequestCheck | None,
        Field(
            description="Ask over HTTP/1.1; with tls of the cluster over that.",
            examples=[{"path": "/healthz"}],
        ),
    ] = None
    https: Annotated[
        RequestCheck | None,
        Field(
            description="The same over TLS where the cluster has none; by that of the cluster else."
        ),
    ] = None
    initial: Annotated[
        Literal["healthy", "unchecked"],
        Field(
            description=(
                "What a backend is that is new or has another address. healthy: it gets requests "
                "until checks fail. unchecked: none before its first good check."
            )
        ),
    ] = "healthy"
    interval: Annotated[
        _INTERVAL,
        Field(
            description=(
                "From the beginning of one check to that of the next, more or less by a tenth. "
                "A host asks once, whatever its workers are."
            )
        ),
    ] = 5_000
    port: Annotated[
        int | None,
        Field(
            ge=1,
            le=65_535,
            description="Where it is asked. null: at its own port.",
            examples=[8081],
        ),
    ] = None
    tcp: Annotated[
        TcpCheck | None,
        Field(description="Connect, and perhaps say something; {} only connects.", examples=[{}]),
    ] = None
    timeout: Annotated[
        _INTERVAL,
        Field(description="Within which a check has to be answered; at most the interval."),
    ] = 2_000
    unhealthy_after: Annotated[
        int,
        Field(ge=1, le=100, description="So many bad ones in a row, and it gets no requests."),
    ] = 3

    @model_validator(mode="after")
    def _answers_before_it_is_asked_again(self) -> Self:
        if self.timeout > self.interval:
            hint = "make interval longer, or timeout shorter"
            raise fault("timeout: it is longer than the interval", hint, at=("timeout", KEY))
        if self.tcp is not None and self.hostname is not None:
            hint = 'remove "hostname", or ask by http, https, h2 or grpc'
            raise fault("hostname: by tcp no name is asked for", hint, at=("hostname", KEY))
        return self


def _checked(value: object) -> object:
    if value is None or isinstance(value, (dict, HealthCheck)):
        return value
    hint = "write {http: {path: /healthz}}, or {tcp: {}}"
    if value in _CHECKS:
        hint = f"write {{{value}: {{}}}}"
    elif isinstance(value, str) and value.startswith("/"):
        hint = f"write {{http: {{path: {value}}}}}"
    raise fault(f'expected a map like "{{http: {{path: /healthz}}}}", not {shown(value)}', hint)


HealthChecked = Annotated[
    Annotated[HealthCheck | None, BeforeValidator(_checked)],
    Field(
        description=(
            "How backends are asked whether they are well; who is not gets no requests. One of "
            "http, https, h2, grpc and tcp. null: nobody is asked, and a backend counts as well "
            "until it cannot be reached."
        ),
        examples=[{"http": {"path": "/healthz"}, "interval": "2s"}],
    ),
]
