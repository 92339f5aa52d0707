"""The cluster: a named set of interchangeable backends, and how the proxy deals with them.

The backends nest in the cluster in YAML and are entities of their own in the state, so that one
changed backend is one change: this model holds the cluster without them.
"""

from typing import Annotated, Any, ClassVar, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from schemas.base import KEY, Kind, Model, fault, shown
from schemas.clusters.balancing import LoadBalancing, is_hashed
from schemas.clusters.ejection import Ejected
from schemas.clusters.fallback import FallenBack
from schemas.clusters.health_check import HealthChecked
from schemas.clusters.limits import ClusterLimits
from schemas.clusters.panic import Panic
from schemas.clusters.retry import Retried
from schemas.clusters.slow_start import SlowStart
from schemas.clusters.sticky import Stuck
from schemas.entities.material import NamedFile
from schemas.values.names import parse_hostname
from schemas.values.units import Duration

_PROTOCOLS = ("http", "h2")
_PROXY_PROTOCOLS = ("v1", "v2")


class ClusterTimeouts(Model):
    """How long a backend may take for each step."""

    connect: Annotated[
        Duration, Field(description="Until a connection is made; then the next backend is tried.")
    ] = 3_000
    keep_alive: Annotated[
        Duration,
        Field(description="An idle connection is kept this long; keep it under the backend's own."),
    ] = 50_000
    response_body: Annotated[
        Duration,
        Field(
            description="Longest pause once the response has begun, while neither side sends "
            "anything."
        ),
    ] = 300_000
    response_head: Annotated[
        Duration,
        Field(
            description="From the whole request, when the backend has taken its last byte, to the "
            "response's head; then 504."
        ),
    ] = 60_000
    tunnel: Annotated[
        Duration,
        Field(description="Longest silence of a connection that has switched to another protocol."),
    ] = 3_600_000


def _protocol(value: object) -> str:
    if value in _PROTOCOLS:
        return str(value)
    hint = None
    if value == "https":
        hint = 'for TLS to the backends write "tls: {}"'
    elif value in ("h2c", "http2", "grpc", "HTTP/2"):
        hint = 'write "protocol: h2"; without "tls" it is spoken in clear text'
    raise fault(f'expected "http" or "h2", not {shown(value)}', hint)


def _proxy_protocol(value: object) -> object:
    if value in (*_PROXY_PROTOCOLS, None):
        return value
    hint = None
    if value in (1, 2, "1", "2", True):
        hint = f'write "proxy_protocol: v{2 if value is True else value}"'
    raise fault(f'expected "v1" or "v2", not {shown(value)}', hint)


def _server_name(value: object) -> object:
    if value is None:
        return None
    name = parse_hostname(value)
    if "*" in name or name.startswith("["):
        raise fault(f'expected one name like "shop.internal", not {shown(value)}')
    return name


class ClusterTls(Model):
    """TLS towards the backends; they are verified unless that is switched off."""

    ca: Annotated[
        NamedFile | None,
        Field(
            description=(
                "Authorities to trust, in PEM; relative to the config directory or absolute. A "
                "backend's own certificate may be among them. null: those that the system trusts."
            ),
            examples=["tls/internal-ca.pem"],
        ),
    ] = None
    certificate: Annotated[
        NamedFile | None,
        Field(description="Our own chain in PEM, for backends that ask who we are."),
    ] = None
    private_key: Annotated[
        NamedFile | None, Field(description="The private key of that chain's leaf, in PEM.")
    ] = None
    server_name: Annotated[
        str | None,
        BeforeValidator(_server_name),
        Field(
            description=(
                "Name that is sent as SNI and that the backend's certificate must have. "
                "null: the certificate must have the backend's IP address."
            ),
            examples=["shop.internal"],
        ),
    ] = None
    verify: Annotated[
        bool,
        Field(description="false takes any certificate: then only listeners are kept out."),
    ] = True

    @model_validator(mode="after")
    def _pair(self) -> Self:
        if (self.certificate is None) != (self.private_key is None):
            raise fault("certificate and private_key belong together", "give both or neither")
        return self


class Cluster(Kind):
    """A set of backends that serve the same, and the policy by which one of them is chosen."""

    KIND: ClassVar[str] = "cluster"

    ejection: Ejected = None
    fallback: FallenBack = None
    health_check: HealthChecked = None
    keep_alive_connections: Annotated[
        int,
        Field(ge=0, le=1_000_000, description="Idle connections kept per backend and worker."),
    ] = 1024
    limits: Annotated[
        ClusterLimits,
        Field(description="Bounds of what is taken from backends, and of what they are sent."),
    ] = ClusterLimits.of_value({})
    load_balancing: LoadBalancing = "round_robin"
    panic: Panic = None
    protocol: Annotated[
        str,
        BeforeValidator(_protocol),
        WithJsonSchema({"enum": list(_PROTOCOLS), "type": "string"}),
        Field(
            description=(
                "What the backends speak: http for HTTP/1.1, h2 for HTTP/2 (gRPC needs it), which "
                "many requests share a connection of. With tls, h2 is agreed on in the handshake "
                "(ALPN), and a backend that does not take it counts as one that cannot be reached; "
                "in clear text the backend has to expect it (prior knowledge). Behind a listener "
                "of tcp, tls or udp bytes go on as they come, and nothing of this is spoken."
            )
        ),
    ] = "http"
    proxy_protocol: Annotated[
        str | None,
        BeforeValidator(_proxy_protocol),
        WithJsonSchema({"anyOf": [{"enum": list(_PROXY_PROTOCOLS)}, {"type": "null"}]}),
        Field(
            description=(
                "Begin each connection to a backend by saying who the client is, in the PROXY "
                "protocol, version 1 or 2. Such a connection is for one request. null: say nothing."
            ),
            examples=["v2"],
        ),
    ] = None
    retry: Retried = None
    retries: Annotated[
        int,
        Field(
            ge=0,
            le=10,
            description=(
                "Further backends tried when connecting to one failed. A failure keeps new "
                "requests away from a backend for 250ms, doubled by each in a row, up to 10s. "
                "Unless 0, also: a request without body and with an idempotent method goes out "
                "once more when the reused connection that took it ended before any byte of a "
                "response."
            ),
        ),
    ] = 2
    slow_start: SlowStart = None
    sticky: Stuck = None
    timeouts: Annotated[ClusterTimeouts, Field(description="How long a backend may take.")] = (
        ClusterTimeouts.of_value({})
    )
    tls: Annotated[
        ClusterTls | None,
        Field(description="TLS to the backends; {} has all defaults. null: clear text."),
    ] = None

    @model_validator(mode="before")
    @classmethod
    def _retries_are_said_once(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("retry") is not None and "retries" in value:
            hint = "write retry: {attempts: N} alone"
            raise fault("retries: is short for retry: {attempts: N}", hint, at=("retries", KEY))
        return value

    @model_validator(mode="after")
    def _goes_by_one_thing(self) -> Self:
        if self.sticky is not None and is_hashed(self.load_balancing):
            hint = 'remove "sticky", or choose a policy like least_connections for new clients'
            message = "sticky: load_balancing goes by the request already"
            raise fault(message, hint, at=("sticky", KEY))
        return self

    @model_validator(mode="after")
    def _one_client_a_connection(self) -> Self:
        if self.protocol == "h2" and self.proxy_protocol is not None:
            hint = "X-Forwarded-For and Forwarded tell backends who the client is"
            raise fault("proxy_protocol: over h2 many clients share a connection", hint)
        return self
