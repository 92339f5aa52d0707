"""The frontend: a match of requests (listener, hostname, path, …) that leads to a cluster."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Literal
from urllib.parse import quote

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    model_serializer,
    model_validator,
)

from schemas.base import Kind, Model, fault, shown
from schemas.values.names import Hostname, Method, Name, SortedUnique, parse_header_name
from schemas.values.regex import check_regex

MATCHES_MAX = 16
"""Headers and query parameters of one frontend: Gateway API has 16, and each costs a look."""

PATH_CHARS_MAX = 2048
HSTS_DAYS_MAX = 3650
HSTS_PRELOAD_DAYS = 365
VALUE_CHARS_MAX = 4096

_PATH = re.compile(r"/(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/]|%[0-9A-Fa-f]{2})*")
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
_PROTOCOL = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_`|~]+(/[A-Za-z0-9!#$%&'*+\-.^_`|~]+)?")
_NEVER_SWITCHED = ("h2", "h2c", "http", "tls")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def _path(value: object) -> str:
    if not isinstance(value, str) or not value.startswith("/"):
        hint = f'did you mean "/{value}"?' if isinstance(value, str) else None
        raise fault(f'expected a path like "/api", not {shown(value)}', hint)
    if not _PATH.fullmatch(value):
        raise fault(f"{shown(value)} has characters that no path has", _path_hint(value))
    if "//" in value or any(element in (".", "..") for element in value.split("/")):
        raise fault(f"{shown(value)} is not a normal path: no request has it after clean-up")
    if len(value) > PATH_CHARS_MAX:
        raise fault(f"the path is too long: at most {PATH_CHARS_MAX} characters")
    return _ESCAPE.sub(_normal_escape, value)


def _normal_escape(escape: re.Match[str]) -> str:
    """Write an escape as requests have it when they are matched: in capitals, none in vain."""
    char = chr(int(escape[1], 16))
    if char == "\0":
        raise fault('"%00" is in no path: requests with it are refused')
    if char.isascii() and (char.isalnum() or char in "-._~"):
        raise fault(f'"{escape[0]}" needs no escape in a path', f'write "{char}"')
    return escape[0].upper()


def _path_hint(value: str) -> str | None:
    if "?" in value:
        return 'match the query with "query:"'
    escaped = quote(value, safe="/%:@!$&'()*+,;=~")
    return f'did you mean "{escaped}"?' if _PATH.fullmatch(escaped) else "escape them with %"


def _prefix(value: object) -> str:
    # A prefix goes by elements, so a final slash changes nothing (Gateway API says the same).
    path = _path(value)
    if path.endswith("*"):
        better = path.rstrip("*").rstrip("/") or "/"
        message = 'a prefix ends without "*": it covers everything under it as it is'
        raise fault(message, f'did you mean "{better}"?')
    return path.rstrip("/") or "/"


def _text(value: object) -> str:
    if not isinstance(value, str):
        hint = f'write it in quotes: "{shown(value)}"' if isinstance(value, (int, float)) else None
        raise fault(f"expected text, not {shown(value)}", hint)
    if len(value) > VALUE_CHARS_MAX:
        raise fault(f"the text is too long: at most {VALUE_CHARS_MAX} characters")
    return value


def _header_text(value: str) -> str:
    if _CONTROL.search(value):
        # Not the value itself: an error is read by more people, and it may be a password.
        raise fault("the text has a control character, which no header value has")
    if value != value.strip():
        raise fault("the text begins or ends with a space, which no header value does")
    return value


class OneOf(Model):
    """A map with exactly one of its keys."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})

    @model_validator(mode="after")
    def _exactly_one(self) -> OneOf:
        given = [key for key in type(self).model_fields if getattr(self, key) is not None]
        if len(given) != 1:
            keys = ", ".join(f'"{key}"' for key in type(self).model_fields)
            got = " and ".join(f'"{key}"' for key in given) or "none"
            raise fault(f"expected exactly one of {keys}, not {got}")
        return self

    @model_serializer(mode="plain")
    def _only_the_given(self) -> dict[str, str]:
        return dict([self.given()])

    def given(self) -> tuple[str, str]:
        """Return the key that is there, and its value."""
        for key in type(self).model_fields:
            value = getattr(self, key)
            if value is not None:
                return key, value
        raise ValueError("a map with none of its keys")


Regex = Annotated[str, BeforeValidator(check_regex)]


class PathMatch(OneOf):
    """How a path is matched.

    An exact path goes before all others. Of these the longer literal beginning wins, and at equal
    length a regex before a prefix.
    """

    @model_validator(mode="before")
    @classmethod
    def _not_plain(cls, value: object) -> object:
        # Which of the three a plain text would mean is what other proxies disagree on.
        if isinstance(value, str):
            raise fault(
                "expected a map with one of prefix, exact, regex, not " + shown(value),
                f"did you mean {{prefix: {value}}}?",
            )
        return value

    prefix: Annotated[
        Annotated[str, BeforeValidator(_prefix)] | None,
        Field(description="The path and all under it, element by element.", examples=["/api"]),
    ] = None
    exact: Annotated[
        Annotated[str, BeforeValidator(_path)] | None,
        Field(description="This path alone.", examples=["/health"]),
    ] = None
    regex: Annotated[
        Regex | None,
        Field(
            description="Rust `regex` syntax, matched against the whole path.",
            examples=["/item/[0-9]+"],
        ),
    ] = None


class HeaderMatch(OneOf):
    """How the value of a header is matched."""

    exact: Annotated[
        Annotated[str, BeforeValidator(_text), AfterValidator(_header_text)] | None,
        Field(description="This value; the same as writing it plainly.", examples=["gold"]),
    ] = None
    regex: Annotated[
        Regex | None,
        Field(description="Rust `regex` syntax, matched against the whole value."),
    ] = None


class QueryMatch(OneOf):
    """How the value of a query parameter is matched."""

    exact: Annotated[
        Annotated[str, BeforeValidator(_text)] | None,
        Field(description="This value; the same as writing it plainly.", examples=["2"]),
    ] = None
    regex: Annotated[
        Regex | None,
        Field(description="Rust `regex` syntax, matched against the whole value."),
    ] = None


class Hsts(Model):
    """What browsers remember: that this host is asked over TLS only (RFC 6797)."""

    include_subdomains: Annotated[
        bool, Field(description="Hosts below this one are meant, too.")
    ] = False
    max_age_days: Annotated[
        int,
        Field(
            ge=0,
            le=HSTS_DAYS_MAX,
            description="How long browsers remember it; 0 makes them forget it.",
            examples=[365],
        ),
    ]
    preload: Annotated[
        bool,
        Field(description="Browsers may have it built in: needs a year, and the hosts below."),
    ] = False

    @model_validator(mode="after")
    def _preloading_is_for_good(self) -> Hsts:
        if self.preload and not (
            self.include_subdomains and self.max_age_days >= HSTS_PRELOAD_DAYS
        ):
            hint = f"write include_subdomains: true and at least max_age_days: {HSTS_PRELOAD_DAYS}"
            raise fault("preload: browsers take it only for a year, with the hosts below", hint)
        return self


def _client_certificate(value: object) -> object:
    if value not in ("required", None):
        hint = 'whether clients are asked at all is said by the listener ("tls: {client_ca: …}")'
        raise fault(f'expected "required", not {shown(value)}', hint)
    return value


def _redirect(value: object) -> object:
    if value not in ("https", None):
        raise fault(f'expected "https", not {shown(value)}: the same host and path over TLS')
    return value


def _plain_is_exact(value: object) -> object:
    if isinstance(value, dict):
        return value
    return {"exact": _text(value)}


def _parameter(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise fault(f"expected the name of a query parameter, not {shown(value)}")
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
                raise fault(f'"{first}" and "{name}" are the same header')
    return value


Protocol = Annotated[str, BeforeValidator(_protocol)]
HeaderName = Annotated[str, BeforeValidator(parse_header_name)]
Parameter = Annotated[str, BeforeValidator(_parameter)]


_SEEN_IN_REQUESTS = {
    "client_certificate",
    "early_data",
    "headers",
    "hsts",
    "methods",
    "path",
    "query",
    "redirect",
}


class Frontend(Kind):
    """A match of requests, and the cluster that serves them. The most specific match wins."""

    KIND: ClassVar[str] = "frontend"

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
    cluster: Annotated[
        Name, Field(description="The cluster that serves the requests.", examples=["shop"])
    ]
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
    headers: Annotated[
        dict[HeaderName, Annotated[HeaderMatch, BeforeValidator(_plain_is_exact)]],
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
    hsts: Annotated[
        Hsts | None,
        Field(
            description=(
                "Strict-Transport-Security, set in responses over TLS in place of the backend's. "
                "null: the backend's is passed on."
            ),
            examples=[{"max_age_days": 365}],
        ),
    ] = None
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
        Field(description="The path: one of prefix, exact, regex.", examples=[{"prefix": "/api"}]),
    ] = PathMatch(prefix="/")
    query: Annotated[
        dict[Parameter, Annotated[QueryMatch, BeforeValidator(_plain_is_exact)]],
        Field(
            max_length=MATCHES_MAX,
            description="Query parameters that a request must have. A plain text is exact.",
            examples=[{"version": "2"}],
        ),
    ] = Field(default_factory=dict)

    redirect: Annotated[
        Literal["https"] | None,
        BeforeValidator(_redirect),
        Field(
            description=(
                "https: requests in clear text are sent (308) to the same host and path over TLS, "
                "at the port of the frontend's listener with protocol https, or else 443."
            ),
            examples=["https"],
        ),
    ] = None
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

    @model_validator(mode="after")
    def _only_a_hostname_is_seen(self) -> Frontend:
        asked = self.model_fields_set & _SEEN_IN_REQUESTS
        for key in sorted(asked if self.passthrough else ()):
            if getattr(self, key) != type(self).model_fields[key].get_default(
                call_default_factory=True
            ):
                hint = f'remove "{key}", or "passthrough" to take TLS here'
                raise fault(
                    f"passthrough: nothing can be said about {key} of what is encrypted", hint
                )
        return self
