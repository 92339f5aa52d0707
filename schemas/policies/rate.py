"""How often who may ask. Part of frontend and policy.

A rate never replaces another, unless a listener's policy lets it: a request has to be within each
that holds for it. One is a map, several are a list. Each is called by its name, or by what it goes
by, and goes on counting under that whatever else is changed.
"""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, model_validator

from schemas.base import Model, OneOf, fault, shown
from schemas.policies.nulls import ADDS_UP
from schemas.routes.match import CookieName, HeaderName
from schemas.values.forms import A_LIST, A_MAP, A_WORD, BY_FORM, LIST, LISTED, MAP, WORD
from schemas.values.names import Name
from schemas.values.units import Measured

REQUESTS_MAX = 1_000_000
LIMITS_MAX = 8
BY_MAX = 4
CLAIM_CHARS_MAX = 256
_WORDS = ("client_address", "frontend")


def _claim(value: object) -> str:
    is_text = isinstance(value, str) and value.isascii() and value.isprintable()
    if not isinstance(value, str) or not is_text or set(value) & {" ", '"', "\\"}:
        raise fault(f'expected the name of a claim like "sub", not {shown(value)}')
    if not 0 < len(value) <= CLAIM_CHARS_MAX:
        raise fault(f"the name of a claim has 1 to {CLAIM_CHARS_MAX} characters")
    return value


class CountBy(OneOf):
    """What has the same value where requests are counted together."""

    claim: Annotated[
        Annotated[str, BeforeValidator(_claim)] | None,
        Field(
            description="The claim of this name of the token that `jwt` asks for.", examples=["sub"]
        ),
    ] = None
    cookie: Annotated[
        CookieName | None, Field(description="The cookie of this name.", examples=["session"])
    ] = None
    header: Annotated[
        HeaderName | None, Field(description="The header of this name.", examples=["x-api-key"])
    ] = None


def _form_of(value: object) -> str:
    return LIST if isinstance(value, list) else WORD if isinstance(value, str) else MAP


def _rate_by(value: object) -> object:
    if isinstance(value, (dict, list, CountBy)) or value in _WORDS:
        return value
    hint = 'the key of a header or a cookie is written {header: "x-api-key"}'
    if value in ("address", "client", "client_ip", "ip", "remote_addr", "source_ip"):
        hint = 'write "client_address"'
    elif isinstance(value, str) and value:
        hint = f"write {{header: {value}}}, {{cookie: {value}}} or {{claim: {value}}}"
    raise fault(f'expected "client_address", "frontend" or a map, not {shown(value)}', hint)


By = Literal["client_address", "frontend"] | CountBy


def _called(by: By) -> str:
    return by if isinstance(by, str) else ":".join(by.given())


def _together(value: list[By] | By) -> list[By] | By:
    if not isinstance(value, list):
        return value
    for at, each in enumerate(value):
        if each in value[:at]:
            raise fault(f"{_called(each)} is there twice", "leave one of the two out", (at,))
    # One is the same as without brackets, and the order means nothing.
    return value[0] if len(value) == 1 else sorted(value, key=_called)


def each_by(by: list[By] | By) -> list[By]:
    """Return by what requests are counted, where that may be several things together."""
    return by if isinstance(by, list) else [by]


IPV6_PREFIX = 64


def check_prefix(by: object, bits: int) -> None:
    """Raise where networks of other sizes are written for what goes by no address."""
    if bits != IPV6_PREFIX and "client_address" not in (by if isinstance(by, list) else [by]):
        hint = "leave it out, or write by: client_address"
        raise fault("what goes by something else looks at no address", hint, at=("ipv6_prefix",))


Ipv6Prefix = Annotated[
    int,
    Field(
        ge=32,
        le=128,
        description=(
            "With `by: client_address`, of how many bits the networks of IPv6 are that count as "
            "one client each. 128: each address."
        ),
        examples=[56],
    ),
]
"""Also for `schemas.policies.concurrency`."""

_One = Annotated[
    Annotated[
        Annotated[Literal["client_address", "frontend"], A_WORD] | Annotated[CountBy, A_MAP],
        BY_FORM,
    ],
    BeforeValidator(_rate_by),
]
CountedBy = Annotated[
    Annotated[
        Annotated[Literal["client_address", "frontend"], A_WORD]
        | Annotated[CountBy, A_MAP]
        | Annotated[list[_One], Field(min_length=1, max_length=BY_MAX), A_LIST],
        Discriminator(_form_of),
    ],
    BeforeValidator(_rate_by),
    AfterValidator(_together),
    Field(
        description=(
            "Whose requests are counted together: those of a client_address (of IPv6 a network, "
            "by `ipv6_prefix`), all of a frontend, or those with the same value of a cookie, a "
            "header or a token's claim by name; those without it are counted together too. Several "
            "of these in a list: those that have all of them alike, and each combination for "
            "itself. What "
            "goes by a claim, or by a header that authentication sets, is decided behind that, and "
            "what goes by anything else before."
        ),
        examples=[{"header": "x-api-key"}, ["client_address", {"header": "x-api-key"}]],
    ),
]
"""Whose requests are counted together; also for `schemas.policies.concurrency`."""

DryRun = Annotated[
    bool,
    Field(description="Nobody is refused; `kakehi_rate_limit_dry_run_total` counts who would be."),
]
"""Also for `schemas.policies.concurrency`."""


class RateLimit(Model):
    """How many requests in how much time."""

    burst: Annotated[
        int | None,
        Field(
            ge=1,
            le=REQUESTS_MAX,
            description="How many may come at once. null: as many as `requests`.",
            examples=[10],
        ),
    ] = None
    by: CountedBy = "client_address"
    dry_run: DryRun = False
    fields: Annotated[
        Literal["all", "none", "refused"],
        Field(
            description=(
                "Which answers have `RateLimit-Policy` and `RateLimit`, by which clients know how "
                "often they may ask: all that behind it answer a request that it has counted, "
                "those that it refuses, or none."
            ),
            examples=["all"],
        ),
    ] = "refused"
    ipv6_prefix: Ipv6Prefix = IPV6_PREFIX
    name: Annotated[
        Name | None,
        Field(
            description=(
                "What it is called, in the log and to clients. null: "
                "what it goes by, as `client_address` or `header:x-api-key`; of several that go by "
                "the same, all but one need a name. By another name it begins to count anew."
            ),
            examples=["burst"],
        ),
    ] = None
    per: Annotated[
        Annotated[int, Measured("duration", "1s", "24h")],
        Field(description="In how much time.", examples=["1m"]),
    ] = 1_000
    requests: Annotated[
        int,
        Field(ge=1, le=REQUESTS_MAX, description="How many requests.", examples=[5]),
    ]
    status: Annotated[
        int,
        Field(
            ge=400,
            le=599,
            description="What those get who are refused.",
            examples=[503],
        ),
    ] = 429
    when_full: Annotated[
        Literal["evict", "refuse"],
        Field(
            description=(
                "What becomes of one more key than a host remembers: it gets the place of the one "
                "whose rate is free again first (`kakehi_rate_keys_evicted_total`), or is refused "
                "(`kakehi_rate_keys_refused_total`)."
            ),
            examples=["refuse"],
        ),
    ] = "evict"

    @model_validator(mode="after")
    def _has_networks_of_addresses(self) -> Self:
        check_prefix(self.by, self.ipv6_prefix)
        return self

    def called(self) -> str:
        """Return by what it is told apart from others of whoever says it, as the engine does."""
        if self.name is not None:
            return self.name
        return ",".join(map(_called, each_by(self.by)))


def _told_apart(value: RateLimit | list[RateLimit] | None) -> RateLimit | list[RateLimit] | None:
    if not isinstance(value, list):
        return value
    known: set[str] = set()
    for at, limit in enumerate(value):
        called = limit.called()
        if called in known:
            message = f"two of these limits are called {shown(called)}"
            raise fault(message, "give one of them a name: {name: burst, …}", (at,))
        known.add(called)
    # One is the same as without brackets.
    return value[0] if len(value) == 1 else value


def each_of(said: RateLimit | list[RateLimit] | None) -> list[RateLimit]:
    """Return the limits that somebody says."""
    if said is None:
        return []
    return said if isinstance(said, list) else [said]


RateLimited = Annotated[
    Annotated[
        Annotated[RateLimit, A_MAP]
        | Annotated[list[RateLimit], Field(min_length=1, max_length=LIMITS_MAX), A_LIST],
        LISTED,
    ]
    | None,
    AfterValidator(_told_apart),
    Field(
        description=(
            "How often clients may ask, or several of it in a list; whoever asks more often gets "
            "429 with Retry-After, and a request that is refused uses none of them up. All "
            "workers of a host count as one. A request has to be within every rate that frontend, "
            "policies or listener name, and that of a policy is one for all who name it. Without "
            "it this one leaves it to the others."
        ),
        examples=[{"requests": 5, "per": "1m"}],
    ),
    ADDS_UP,
]
