"""The listener: an address on which the proxy accepts connections, with its limits and timeouts."""

from typing import Annotated, Any, ClassVar, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from schemas.base import KEY, Kind, Later, Model, fault, no_items, shown
from schemas.entities.material import NamedFile
from schemas.policies.error_page import OwnErrorPages
from schemas.values.names import Listened, Name, Network, Policies, SortedUnique
from schemas.values.units import Duration, Measured

_PROTOCOLS = ("http", "https", "tcp", "tls", "udp")
_HTTP = ("http", "https")
_THERE = (*_HTTP, "tcp", "tls")
_OVER_TLS = ("https", "tls")
_PROFILES = ("intermediate", "modern")
_CLIENT_AUTH = ("optional", "required")
ALPN_CHARS_MAX = 255


def _protocol(value: object) -> str:
    if value in _PROTOCOLS:
        return str(value)
    hint: str | None
    if value in ("h2", "h2c", "http2"):
        hint = 'write "protocol: http" and "h2c: true", or "protocol: https" for TLS'
        raise fault(f"{shown(value)}: HTTP/2 is no protocol of its own here", hint)
    hint = None
    if str(value).lower() in ("ssl", "https"):
        hint = 'did you mean "https"? What is no HTTP within TLS is "tls"'
    elif value in ("stream", "raw", "l4", "mode tcp"):
        hint = 'did you mean "tcp"?'
    raise fault(f'expected "http", "https", "tcp" or "tls", not {shown(value)}', hint)


def _is_there(protocol: object) -> bool:
    return protocol in _THERE


def _alpn(value: object) -> str:
    is_text = isinstance(value, str) and value.isascii() and value.isprintable()
    if not isinstance(value, str) or not is_text or not 0 < len(value) <= ALPN_CHARS_MAX:
        raise fault(f'expected the name of a protocol like "imap", not {shown(value)}')
    if value in ("h2", "http/1.1", "http/1.0"):
        raise fault(f"{shown(value)}: that is HTTP", 'write "protocol: https", which offers it')
    return value


def _profile(value: object) -> str:
    if value in _PROFILES:
        return str(value)
    hint = "TLS 1.0 and 1.1 are not supported" if value == "old" else None
    raise fault(f'expected "intermediate" or "modern", not {shown(value)}', hint)


def _client_auth(value: object) -> str:
    if value in _CLIENT_AUTH:
        return str(value)
    hint = 'leave "client_ca" out, and no client is asked' if value in ("none", "off") else None
    raise fault(f'expected "optional" or "required", not {shown(value)}', hint)


class ListenerTls(Model):
    """How TLS is agreed on with clients."""

    alpn: Annotated[
        list[Annotated[str, BeforeValidator(_alpn)]],
        SortedUnique,
        Field(
            max_length=16,
            description=(
                "With protocol tls: what is spoken within, one of which a client has to offer if "
                "it offers any. An empty list: whatever it is. https has h2 and http/1.1."
            ),
            examples=[["imap"]],
        ),
    ] = Field(default_factory=no_items)
    client_auth: Annotated[
        str,
        BeforeValidator(_client_auth),
        WithJsonSchema({"enum": list(_CLIENT_AUTH), "type": "string"}),
        Field(
            description=(
                "With client_ca: whether a client without a certificate is refused in the "
                "handshake (required) or served without a Client-Cert header (optional). A "
                "certificate that does not verify is refused in either case."
            )
        ),
    ] = "required"
    client_ca: Annotated[
        NamedFile | None,
        Field(
            description=(
                "Authorities, in PEM, that issue certificates of clients; clients are asked for "
                "one, and backends are told it (Client-Cert, RFC 9440). null: no client is asked."
            ),
            examples=["tls/clients-ca.pem"],
        ),
    ] = None
    client_crl: Annotated[
        NamedFile | None,
        Field(
            description=(
                "Lists of revoked certificates, in PEM, one for each authority that issues them: "
                "a certificate of an authority without a list is refused."
            )
        ),
    ] = None
    default_certificate: Annotated[
        Name | None,
        Field(
            description=(
                "Certificate for clients that name no host, or one that no certificate has. "
                "null: their handshakes are refused."
            ),
            examples=["shop"],
        ),
    ] = None
    profile: Annotated[
        str,
        BeforeValidator(_profile),
        WithJsonSchema({"enum": list(_PROFILES), "type": "string"}),
        Field(
            description=(
                "As Mozilla names them: intermediate is TLS 1.2 and 1.3, modern is TLS 1.3 alone."
            )
        ),
    ] = "intermediate"

    @model_validator(mode="after")
    def _lists_belong_to_authorities(self) -> Self:
        if self.client_ca is None and self.client_crl is not None:
            raise fault("client_crl: there is no client_ca whose certificates it could revoke")
        if self.client_ca is None and self.client_auth == "optional":
            raise fault("client_auth: there is no client_ca, so that no client is asked")
        return self


class ListenerUdp(Model):
    """Flows of datagrams: what comes from one address and port, and what is answered there."""

    answers: Annotated[
        int | None,
        Field(
            ge=1,
            le=1_000_000,
            description="So many answers, and the flow is over: 1 for DNS. null: `idle` ends it.",
            examples=[1],
        ),
    ] = None
    flows: Annotated[
        int,
        Field(
            ge=1,
            le=1_000_000,
            description="Flows per worker; one more takes the place of the longest idle one.",
        ),
    ] = 65_536
    idle: Annotated[
        Duration,
        Field(
            description=("Longest silence of a flow; what comes then may go to another backend.")
        ),
    ] = 30_000


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
        Field(
            ge=1,
            le=1_000_000,
            description="Open connections per worker. A new one takes the place of one that is "
            "idle; where none is, it gets 503.",
        ),
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


_OF_HTTP = {
    "error_pages",
    "h2c",
    "merge_slashes",
    "trusted_proxies",
    "underscores_in_headers",
}
_LIMITS_OF_HTTP = {"body_bytes", "head_bytes", "header_count"}
_TIMEOUTS_OF_HTTP = {"keep_alive", "request_body", "request_head", "response_write"}
"""What says something about requests, and nothing about bytes."""


class Listener(Kind):
    """A socket address on which connections are accepted; frontends name it to be reached by it."""

    KIND: ClassVar[str] = "listener"

    address: Annotated[
        Listened,
        Field(
            description='IP address and port; IPv6 in brackets, where "[::]" leaves IPv4 out.',
            examples=["0.0.0.0:8080"],
        ),
    ]
    error_pages: OwnErrorPages = Field(default_factory=dict)
    h2c: Annotated[
        bool,
        Field(
            description=(
                "In clear text, take HTTP/2 too from clients that begin with it (prior knowledge). "
                "Over TLS, HTTP/2 is always offered."
            )
        ),
    ] = False
    limits: Annotated[
        ListenerLimits, Field(description="Bounds of what is taken from clients.")
    ] = ListenerLimits.of_value({})
    merge_slashes: Annotated[
        bool,
        Field(
            description=(
                "Take // in a path for /, so that //admin cannot pass where /admin may not. false "
                "keeps empty segments, for addresses and keys within paths, and for signed paths: "
                "then a backend that merges slashes may serve what no frontend has matched."
            )
        ),
    ] = True
    policies: Policies = Field(default_factory=no_items)
    protocol: Annotated[
        str,
        BeforeValidator(_protocol),
        WithJsonSchema({"enum": list(_PROTOCOLS), "type": "string"}),
        Field(
            description=(
                "What clients speak. http: in clear text. https: over TLS, with HTTP/2 and 1.1. "
                "tcp: bytes, which go on to a backend as they come. tls: the same, where TLS ends "
                "here. udp: datagrams. Frontends of the last three have listeners, a cluster, and "
                "of what else there is hostnames (of tls, as clients name them), client_addresses, "
                "allow, deny, client_certificate, bandwidth, concurrency and timeouts.tunnel, the "
                "longest silence; timeouts.connect and tunnel are the cluster's. A cluster "
                "serves frontends of http and https, of tcp and tls, or of udp."
            )
        ),
        Later(
            counted="kakehi_listener_flows",
            told="listener dns: what comes goes to cluster dns as it is",
            meanwhile="of what is no HTTP there are tcp and tls, and datagrams do not pass",
            has=_is_there,
            narrows={"enum": list(_THERE)},
            decides=True,
        ),
    ] = "http"
    proxy_protocol: Annotated[
        list[Network],
        SortedUnique,
        Field(
            description=(
                "Networks of load balancers that begin each connection by saying who the client "
                "is, in the PROXY protocol, version 1 or 2. They have to, and nobody else may."
            ),
            examples=[["10.0.0.0/8"]],
        ),
    ] = Field(default_factory=no_items)
    timeouts: Annotated[ListenerTimeouts, Field(description="How long a client may take.")] = (
        ListenerTimeouts.of_value({})
    )
    tls: Annotated[
        ListenerTls | None,
        Field(description="With protocol https and tls only, where it may be left out."),
    ] = None
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
    ] = Field(default_factory=no_items)
    udp: Annotated[
        ListenerUdp | None,
        Field(description="With protocol udp only. null: all defaults.", examples=[{}]),
        Later(
            counted="kakehi_listener_flows, kakehi_listener_flows_evicted_total",
            told="listener dns: 310 of 65536 flows, each for 30s of silence",
            meanwhile="UDP does not pass",
        ),
    ] = None
    underscores_in_headers: Annotated[
        bool,
        Field(
            description=(
                "Pass request headers on whose names have an underscore. Those that are a header "
                "of the proxy's own to whoever reads _ as - (X_Forwarded_For, Client_Cert, ...) "
                "are dropped in any case. false drops them all."
            )
        ),
    ] = True

    @model_validator(mode="before")
    @classmethod
    def _tls_belongs_to_https(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        protocol = value.get("protocol", "http")
        if protocol == "https" and value.get("h2c"):
            raise fault("h2c: over TLS, HTTP/2 is offered without it", "remove it")
        if protocol in _OVER_TLS and value.get("tls") is None:
            return {**value, "tls": {}}
        if value.get("tls") is not None and protocol in _PROTOCOLS and protocol not in _OVER_TLS:
            hint = 'add "protocol: https"' if protocol == "http" else 'write "protocol: tls"'
            raise fault("tls: a listener in clear text has none", hint)
        return value

    @model_validator(mode="after")
    def _what_is_no_http_has_none_of_it(self) -> Self:
        protocol = self.protocol
        if self.udp is not None and protocol != "udp":
            raise fault("udp: there are no datagrams", 'write "protocol: udp"', ("udp", KEY))
        if self.tls is not None and self.tls.alpn and protocol == "https":
            hint = 'remove it, or write "protocol: tls" for what is no HTTP'
            raise fault("alpn: https offers h2 and http/1.1", hint, ("tls", "alpn", KEY))
        if protocol == "udp" and self.proxy_protocol:
            hint = 'remove "proxy_protocol"'
            raise fault("proxy_protocol: a datagram begins no connection", hint)
        said = self.value() if protocol not in _HTTP else {}
        for key in sorted(said.keys() & _OF_HTTP):
            message = f"{key}: behind protocol {protocol} nothing is known of HTTP"
            raise fault(message, f'remove "{key}"', (key, KEY))
        for key, within in (("limits", _LIMITS_OF_HTTP), ("timeouts", _TIMEOUTS_OF_HTTP)):
            for each in sorted(said.get(key, {}).keys() & within):
                message = f"{each}: behind protocol {protocol} nothing is known of HTTP"
                raise fault(message, f'remove "{each}"', (key, each, KEY))
        return self

    @property
    def is_bytes(self) -> bool:
        """Whether what comes goes on as it is, and nothing of it is read."""
        return self.protocol not in _HTTP
