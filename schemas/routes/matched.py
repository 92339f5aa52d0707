"""Which requests a frontend takes. Part of a frontend."""

from collections.abc import Sequence
from typing import Annotated, Self

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, model_validator

from schemas.base import KEY, Kind, fault, no_items, shown
from schemas.routes.match import (
    CookieMatch,
    CookieName,
    HeaderMatch,
    HeaderName,
    PathMatch,
    QueryMatch,
    plain_is_exact,
)
from schemas.values.names import Hostname, Method, Name, Network, SortedUnique
from schemas.values.regex import groups_of

MATCHES_MAX = 16
"""Headers, query parameters and cookies of one frontend: Gateway API has 16, each costs a look."""
NETWORKS_MAX = 256
HOSTNAMES_MAX = 256


def _parameter(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise fault(f"expected the name of a query parameter, not {shown(value)}")
    return value


def _any_alone(value: list[str] | None) -> list[str] | None:
    # The same as without it.
    return None if value == ["*"] else value


def _unique_headers(value: object) -> object:
    if isinstance(value, dict):
        lowered: dict[str, str] = {}
        for name in value:
            first = lowered.setdefault(name.lower(), name)
            if first != name:
                raise fault(f'"{first}" and "{name}" are the same header', at=(name, KEY))
    return value


Parameter = Annotated[str, BeforeValidator(_parameter)]


def path_groups(info: ValidationInfo) -> frozenset[str] | None:
    """Return the groups of the frontend's path; None where that is wrong itself."""
    path = info.data.get("path")
    if not isinstance(path, PathMatch):
        return None
    return groups_of(path.regex) if path.regex is not None else frozenset()


class Match(Kind):
    """A match of requests: by listener, hostname, path, and what else they have."""

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
    cookies: Annotated[
        dict[CookieName, Annotated[CookieMatch, BeforeValidator(plain_is_exact)]],
        Field(
            max_length=MATCHES_MAX,
            description="Cookies that a request must have, all of them. A plain text is exact.",
            examples=[{"beta": "1"}],
        ),
    ] = Field(default_factory=dict)
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
        Annotated[list[Hostname], SortedUnique] | None,
        Field(
            min_length=1,
            max_length=HOSTNAMES_MAX,
            description=(
                "Several hostnames, in place of `hostname`; `*` may be one of them. null: that "
                "one alone."
            ),
            examples=[["example.com", "www.example.com"]],
        ),
        AfterValidator(_any_alone),
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
    ] = Field(default_factory=no_items)
    path: Annotated[
        PathMatch,
        Field(
            description="The path: one of prefix, exact, regex, suffix.",
            examples=[{"prefix": "/api"}],
        ),
    ] = PathMatch.of_value({"prefix": "/"})
    query: Annotated[
        dict[Parameter, Annotated[QueryMatch, BeforeValidator(plain_is_exact)]],
        Field(
            max_length=MATCHES_MAX,
            description="Query parameters that a request must have. A plain text is exact.",
            examples=[{"version": "2"}],
        ),
    ] = Field(default_factory=dict)

    @property
    def names(self) -> Sequence[str]:
        """Every hostname that it has, perhaps `*`."""
        return self.hostnames or (self.hostname,)

    @model_validator(mode="after")
    def _has_hostnames_once(self) -> Self:
        if self.hostnames and self.hostname != "*":
            hint = f'write {self.hostname} into "hostnames"'
            message = 'a frontend has "hostname" or "hostnames", not both'
            raise fault(message, hint, at=("hostname", KEY))
        return self
