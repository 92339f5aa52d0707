"""The frontend: a match of requests (listener, hostname, path, …) and what becomes of them.

They go to a cluster, or are answered here: by a redirect, or by what the configuration says.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    model_validator,
)

from schemas.base import KEY, Kind, Model, fault, shown
from schemas.kinds.access import Allowed, Denied, check_access
from schemas.kinds.basic_auth import BasicAuthed
from schemas.kinds.bounds import Limits, RequestLimits, RequestTimeouts, Timeouts
from schemas.kinds.concurrency import Crowded
from schemas.kinds.cors import Cors, InheritedCors
from schemas.kinds.edits import HeaderEdits, RequestEdits, ResponseEdits, check_edits
from schemas.kinds.error_page import OwnErrorPages
from schemas.kinds.forward_auth import AskedFirst
from schemas.kinds.hsts import INHERIT, InheritedHsts
from schemas.kinds.match import (
    CookieMatch,
    CookieName,
    HeaderMatch,
    HeaderName,
    PathMatch,
    QueryMatch,
    plain_is_exact,
)
from schemas.kinds.places import Redirect, RedirectOrHttps, Rewrite, check_place
from schemas.kinds.rate import RateLimited
from schemas.kinds.respond import Respond
from schemas.kinds.split import CLUSTERS_MAX, Shares, SplitByOrClient
from schemas.values.names import (
    Hostname,
    Method,
    Name,
    Network,
    Policies,
    SortedUnique,
)
from schemas.values.regex import groups_of
from schemas.values.units import Measured

MATCHES_MAX = 16
"""Headers, query parameters and cookies of one frontend: Gateway API has 16, each costs a look."""
NETWORKS_MAX = 256
HOSTNAMES_MAX = 256

_PROTOCOL = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_`|~]+(/[A-Za-z0-9!#$%&'*+\-.^_`|~]+)?")
_NEVER_SWITCHED = ("h2", "h2c", "http", "tls")


class Mirror(Model):
    """A cluster that gets requests as well, and whose answers are thrown away."""

    cluster: Annotated[Name, Field(description="The cluster.", examples=["shadow"])]
    share: Annotated[
        Annotated[int, Measured("share", "1%", "100%")],
        Field(description="How many of the requests it gets, drawn by lot.", examples=["10%"]),
    ] = 100


def _client_certificate(value: object) -> object:
    if value not in ("required", None):
        hint = 'whether clients are asked at all is said by the listener ("tls: {client_ca: …}")'
        raise fault(f'expected "required", not {shown(value)}', hint)
    return value


def _parameter(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise fault(f"expected the name of a query parameter, not {shown(value)}")
    return value


def _one_of_hostnames(value: str) -> str:
    if value == "*":
        hint = 'leave "hostnames" out, or write hostname: "*"'
        raise fault('"*" is any hostname, beside which the others say nothing', hint)
    return value


def _protocol(value: object) -> str:
    if not isinstance(value, str) or not _PROTOCOL.fullmatch(value):
        raise fault(f'expected a name of a protocol like "websocket", not {shown(value)}')
    name = value.lower()
    if name.partition("/")[0] in _NEVER_SWITCHED:
        hint = "HTTP/2 has keys of its own: h2c of a listener, protocol of a cluster"
        raise fault(
            f"{shown(value)}: what follows would be requests that nobody has looked at", hint
        )
    return name


def _unique_headers(value: object) -> object:
    if isinstance(value, dict):
        lowered: dict[str, str] = {}
        for name in value:
            first = lowered.setdefault(name.lower(), name)
            if first != name:
                raise fault(f'"{first}" and "{name}" are the same header', at=(name, KEY))
    return value


Protocol = Annotated[str, BeforeValidator(_protocol)]
Parameter = Annotated[str, BeforeValidator(_parameter)]


def _groups(info: ValidationInfo) -> frozenset[str] | None:
    """Return the groups of the frontend's path; None where that is wrong itself."""
    path = info.data.get("path")
    if not isinstance(path, PathMatch):
        return None
    return groups_of(path.regex) if path.regex is not None else frozenset()


def _redirected(value: Redirect | str | None, info: ValidationInfo) -> Redirect | str | None:
    groups = _groups(info)
    if isinstance(value, Redirect) and groups is not None:
        check_place(value, info.data["path"], groups)
    return value


def _rewritten(value: Rewrite | None, info: ValidationInfo) -> Rewrite | None:
    groups = _groups(info)
    if value is not None and groups is not None:
        check_place(value, info.data["path"], groups)
    return value


def _edited(value: HeaderEdits, info: ValidationInfo) -> HeaderEdits:
    groups = _groups(info)
    if groups is not None:
        check_edits(value, groups, of_requests=info.field_name == "request_headers")
    return value


_SEEN_IN_REQUESTS = {
    "allow",
    "basic_auth",
    "client_addresses",
    "client_certificate",
    "concurrency",
    "cookies",
    "cors",
    "deny",
    "early_data",
    "error_pages",
    "forward_auth",
    "headers",
    "hsts",
    "limits",
    "methods",
    "mirror",
    "path",
    "policies",
    "query",
    "rate_limit",
    "redirect",
    "request_headers",
    "respond",
    "response_headers",
    "rewrite",
    "split",
    "timeouts",
}
_OF_BACKENDS = (
    "concurrency",
    "mirror",
    "passthrough",
    "request_headers",
    "rewrite",
    "timeouts",
    "upgrades",
)
"""What says something about requests that go to a backend."""


def _ends_once(schema: dict[str, Any]) -> None:
    """Say in the JSON Schema that requests end in one place."""
    a_map = {"redirect": {"type": "object"}}
    schema["oneOf"] = [
        {"required": ["cluster"]},
        {"required": ["respond"]},
        {"required": ["split"]},
        {"required": ["redirect"], "properties": a_map},
    ]


class Frontend(Kind):
    """A match of requests, and what becomes of them. The most specific match wins."""

    model_config = ConfigDict(json_schema_extra=_ends_once)

    KIND: ClassVar[str] = "frontend"

    allow: Allowed = None
    basic_auth: BasicAuthed = None
    client_certificate: Annotated[
        Literal["required"] | None,
        BeforeValidator(_client_certificate),
        Field(
            description=(
                "required: requests of clients that have shown no certificate are answered by "
                "403, where the listener leaves it to them (client_auth: optional). null: all are "
                "served."
            ),
            examples=["required"],
        ),
    ] = None
    client_addresses: Annotated[
        Annotated[list[Network], SortedUnique] | None,
        Field(
            min_length=1,
            max_length=NETWORKS_MAX,
            description=(
                "Networks of the clients whose requests are matched. null: all are. Who a client "
                "is, the PROXY protocol or a trusted proxy says, as for `{client_address}`."
            ),
            examples=[["10.0.0.0/8"]],
        ),
    ] = None
    cluster: Annotated[
        Name | None,
        Field(
            description=(
                "The cluster that serves the requests. A frontend has exactly one of cluster, "
                "split, redirect (a map) and respond."
            ),
            examples=["shop"],
        ),
    ] = None
    concurrency: Crowded = None
    cookies: Annotated[
        dict[CookieName, Annotated[CookieMatch, BeforeValidator(plain_is_exact)]],
        Field(
            max_length=MATCHES_MAX,
            description="Cookies that a request must have, all of them. A plain text is exact.",
            examples=[{"beta": "1"}],
        ),
    ] = Field(default_factory=dict)
    cors: InheritedCors = INHERIT
    deny: Denied = None
    early_data: Annotated[
        bool,
        Field(
            description=(
                "Requests may come as TLS 1.3 early data (0-RTT), which whoever sees it can send "
                "again: GET, HEAD and OPTIONS without a body are passed on with `Early-Data: 1`, "
                "so that the backend can ask for them again by 425; others are answered by 425. "
                "Not where the listener asks clients for certificates."
            )
        ),
    ] = False
    error_pages: OwnErrorPages = Field(default_factory=dict)
    forward_auth: AskedFirst = None
    headers: Annotated[
        dict[HeaderName, Annotated[HeaderMatch, BeforeValidator(plain_is_exact)]],
        Field(
            max_length=MATCHES_MAX,
            description="Headers that a request must have, all of them. A plain text is exact.",
            examples=[{"x-tier": "gold"}],
        ),
        BeforeValidator(_unique_headers),
    ] = Field(default_factory=dict)
    hostname: Annotated[
        Hostname,
        Field(
            description='"shop.example.com", "*.example.com", or "*" for any.',
            examples=["shop.example.com"],
        ),
    ] = "*"
    hostnames: Annotated[
        Annotated[list[Annotated[Hostname, AfterValidator(_one_of_hostnames)]], SortedUnique]
        | None,
        Field(
            min_length=1,
            max_length=HOSTNAMES_MAX,
            description="Several hostnames, in place of `hostname`. null: that one alone.",
            examples=[["example.com", "www.example.com"]],
        ),
    ] = None
    hsts: InheritedHsts = INHERIT
    limits: Limits = RequestLimits()
    listeners: Annotated[
        list[Name],
        SortedUnique,
        Field(
            min_length=1,
            description="The listeners that take the requests.",
            examples=[["public-http"]],
        ),
    ]
    methods: Annotated[
        list[Method],
        SortedUnique,
        Field(description="Methods that are matched. None: all of them.", examples=[["GET"]]),
    ] = Field(default_factory=list)
    mirror: Annotated[
        Mirror | None,
        Field(
            description=(
                "A cluster that gets a share of the requests as well, bodies included. Its answers "
                "are thrown away, and no client waits for it: what it does not take in time is "
                "dropped. Requests that may switch protocols are not repeated."
            ),
            examples=[{"cluster": "shadow", "share": "10%"}],
        ),
    ] = None
    passthrough: Annotated[
        bool,
        Field(
            description=(
                "Pass TLS on unread: whoever asks a listener with protocol https for this hostname "
                "(SNI) is connected with a backend, which has the certificate. Only the hostname "
                "can be matched."
            )
        ),
    ] = False
    path: Annotated[
        PathMatch,
        Field(
            description="The path: one of prefix, exact, regex, suffix.",
            examples=[{"prefix": "/api"}],
        ),
    ] = PathMatch(prefix="/")
    policies: Policies = Field(default_factory=list)
    query: Annotated[
        dict[Parameter, Annotated[QueryMatch, BeforeValidator(plain_is_exact)]],
        Field(
            max_length=MATCHES_MAX,
            description="Query parameters that a request must have. A plain text is exact.",
            examples=[{"version": "2"}],
        ),
    ] = Field(default_factory=dict)
    rate_limit: RateLimited = None
    redirect: Annotated[
        RedirectOrHttps,
        AfterValidator(_redirected),
        Field(
            description=(
                "https: requests in clear text are sent (308) to the same host and path over TLS, "
                "at the port of the frontend's listener with protocol https, or else 443; the "
                "others go to the cluster. A map: all requests are sent to that place."
            ),
            examples=["https", {"hostname": "example.com", "status": 301}],
        ),
    ] = None
    request_headers: Annotated[RequestEdits, AfterValidator(_edited)] = HeaderEdits()
    respond: Annotated[
        Respond | None,
        Field(
            description=(
                "The answer to all requests. With a status from 400 on and no body it is the page "
                "of that status (`error_pages`)."
            ),
            examples=[{"status": 200, "body": "ok\n"}],
        ),
    ] = None
    response_headers: Annotated[ResponseEdits, AfterValidator(_edited)] = HeaderEdits()
    rewrite: Annotated[
        Rewrite | None,
        AfterValidator(_rewritten),
        Field(
            description=(
                "Where requests go on their way to a backend, which is told the hostname that was "
                "asked for by `X-Forwarded-Host`."
            ),
            examples=[{"path": {"prefix": "/"}}],
        ),
    ] = None
    split: Annotated[
        Shares,
        Field(
            max_length=CLUSTERS_MAX,
            description=(
                "The clusters that serve the requests, with the share of each: of any numbers, so "
                "that 95 and 5 are per cent. 0: none for now."
            ),
            examples=[{"shop": 95, "shop-next": 5}],
        ),
    ] = Field(default_factory=dict)
    split_by: Annotated[
        SplitByOrClient,
        Field(
            description=(
                "What keeps a client at one cluster of a split: client_address, or a cookie or a "
                "header by name. Who has it not, and null: each request is drawn by itself."
            ),
            examples=["client_address", {"cookie": "lane"}],
        ),
    ] = None
    timeouts: Timeouts = RequestTimeouts()
    upgrades: Annotated[
        list[Protocol],
        SortedUnique,
        Field(
            description=(
                "Protocols that a request may switch to (`Upgrade`); then bytes pass unread. "
                "An empty list: none."
            ),
            examples=[["tcp", "websocket"]],
        ),
    ] = Field(default_factory=lambda: ["websocket"])

    @property
    def clusters(self) -> Sequence[str]:
        """Every cluster that its requests go to; none where it answers them."""
        return (self.cluster,) if self.cluster is not None else sorted(self.split)

    @property
    def names(self) -> Sequence[str]:
        """Every hostname that it has, perhaps `*`."""
        return self.hostnames or (self.hostname,)

    @model_validator(mode="after")
    def _lets_somebody_in(self) -> Frontend:
        check_access(self.allow, self.deny)
        return self

    @model_validator(mode="after")
    def _sees_preflights(self) -> Frontend:
        if isinstance(self.cors, Cors) and self.methods and "OPTIONS" not in self.methods:
            hint = "add OPTIONS to methods"
            message = "cors: preflights are OPTIONS requests, which methods leaves out"
            raise fault(message, hint, at=("cors", KEY))
        return self

    @model_validator(mode="after")
    def _has_hostnames_once(self) -> Frontend:
        if self.hostnames and self.hostname != "*":
            hint = f'write {self.hostname} into "hostnames"'
            message = 'a frontend has "hostname" or "hostnames", not both'
            raise fault(message, hint, at=("hostname", KEY))
        return self

    @model_validator(mode="after")
    def _only_a_hostname_is_seen(self) -> Frontend:
        asked = self.model_fields_set & _SEEN_IN_REQUESTS
        for key in sorted(asked if self.passthrough else ()):
            if self._says(key):
                hint = f'remove "{key}", or "passthrough" to take TLS here'
                message = f"passthrough: nothing can be said about {key} of what is encrypted"
                if key == "client_addresses":
                    message = "passthrough: goes by the hostname alone, and not by client_addresses"
                elif key in ("allow", "deny"):
                    message = f"passthrough: {key} is for policies of its listeners to say"
                elif key == "split":
                    message = "passthrough: goes to one cluster"
                raise fault(message, hint, at=(key, KEY))
        return self

    def _says(self, key: str) -> bool:
        """Tell whether a key is given, and differs from its default."""
        if key not in self.model_fields_set:
            return False
        field = type(self).model_fields[key]
        given: object = getattr(self, key)
        return bool(given != field.get_default(call_default_factory=True))

    @model_validator(mode="after")
    def _ends_somewhere(self) -> Frontend:
        to = self.redirect if isinstance(self.redirect, Redirect) else None
        split = self.split or None
        ends = {"cluster": self.cluster, "split": split, "redirect": to, "respond": self.respond}
        given = [key for key, end in ends.items() if end is not None]
        if not given:
            hint = (
                'for example: cluster: "shop"; or answer it here, by redirect: {…} or respond: {…}'
            )
            raise fault('"cluster" is missing', hint)
        if len(given) > 1:
            beside = 'beside a cluster there may be "redirect: https"' if to else None
            raise fault(f"requests end in one place, not in {' and '.join(given)}", beside)
        needless = [key for key in _OF_BACKENDS if self._says(key)]
        if self.split_by is not None and split is None:
            hint = 'write split: {shop: 95, shop-next: 5}, or remove "split_by"'
            raise fault("nothing is split", hint, at=("split_by", KEY))
        if not self.clusters and needless:
            message = f"{needless[0]}: no request gets to a backend, with {given[0]}"
            hint = f'remove "{needless[0]}", or give it a cluster'
            raise fault(message, hint, at=(needless[0], KEY))
        if self.mirror is not None and self.mirror.cluster == self.cluster:
            message = f'mirror: "{self.cluster}" is the cluster that serves the requests'
            hint = "name another one: this one would get them twice"
            raise fault(message, hint, at=("mirror", "cluster"))
        return self
