"""How a backend is chosen for a request. Part of a cluster.

By a word, or by a map that says by what of a request it goes: then the same comes to the same
backend, and few go elsewhere when backends come and go.
"""

from difflib import get_close_matches
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field

from schemas.base import Later, OneOf, fault, shown
from schemas.routes.match import CookieName, HeaderName
from schemas.values.forms import A_MAP, A_WORD, BY_FORM
from schemas.values.units import Measured

Policy = Literal[
    "least_connections", "maglev", "power_of_two", "random", "rendezvous", "round_robin"
]
_THERE = ("least_connections", "power_of_two", "random", "round_robin")
_POLICIES: tuple[str, ...] = get_args(Policy)
_BY_KEY = ("maglev", "rendezvous")
_WORDS = ("client_address", "path")
# What other proxies call them, in letters alone.
_ELSEWHERE = {
    "consistenthash": "maglev",
    "hash": "maglev",
    "hrw": "rendezvous",
    "iphash": "rendezvous",
    "ketama": "maglev",
    "leastconn": "least_connections",
    "leastrequest": "least_connections",
    "p2c": "power_of_two",
    "poweroftwochoices": "power_of_two",
    "ringhash": "maglev",
    "rr": "round_robin",
    "source": "rendezvous",
    "sourceiphash": "rendezvous",
    "wrr": "round_robin",
}


def _query_name(value: object) -> str:
    if not isinstance(value, str) or not value.isprintable() or not 0 < len(value) <= 256:
        raise fault(f'expected the name of a query parameter like "user", not {shown(value)}')
    return value


class HashedBy(OneOf):
    """What has the same value where requests are to come to the same backend."""

    cookie: Annotated[
        CookieName | None, Field(description="The cookie of this name.", examples=["session"])
    ] = None
    header: Annotated[
        HeaderName | None, Field(description="The header of this name.", examples=["x-user"])
    ] = None
    query: Annotated[
        Annotated[str, BeforeValidator(_query_name)] | None,
        Field(description="The query parameter of this name.", examples=["user"]),
    ] = None


def _hashed_by(value: object) -> object:
    if value in _WORDS or value is None or isinstance(value, (dict, HashedBy)):
        return value
    hint = 'what a header or a cookie has is written {cookie: "session"}'
    if value in ("address", "client_ip", "ip", "remote_addr", "source", "source_ip"):
        hint = 'write "client_address"'
    elif value in ("uri", "url"):
        hint = 'write "path"'
    elif isinstance(value, str) and value:
        hint = f"write {{cookie: {value}}}, {{header: {value}}} or {{query: {value}}}"
    raise fault(f'expected "client_address", "path" or a map, not {shown(value)}', hint)


_HashedBy = Annotated[
    Annotated[
        Annotated[Literal["client_address", "path"], A_WORD] | Annotated[HashedBy, A_MAP],
        BY_FORM,
    ]
    | None,
    BeforeValidator(_hashed_by),
]


class Balancing(OneOf):
    """A policy that goes by something of the request."""

    BESIDE = ("bounded_load",)

    bounded_load: Annotated[
        Annotated[int, Measured("share", "101%", "999%")] | None,
        Field(
            description=(
                "A backend has at most this share of what it would have if all had the same in "
                "flight; what is beyond goes to the next one. null: no bound."
            ),
            examples=["125%"],
        ),
    ] = None
    maglev: Annotated[
        _HashedBy,
        Field(
            description=(
                "By a table that is looked up once, for many backends: client_address, path, or "
                "a cookie, header or query parameter by name; who has it not goes by address."
            ),
            examples=["client_address"],
        ),
    ] = None
    rendezvous: Annotated[
        _HashedBy,
        Field(
            description=(
                "By the backend that suits best, for up to some 64 backends: nothing moves but "
                "what has to. What it goes by is as of maglev."
            ),
            examples=[{"cookie": "session"}],
        ),
    ] = None


def is_there(value: object) -> bool:
    """Say whether the engine has a policy."""
    return value in _THERE


def is_hashed(value: object) -> bool:
    """Say whether the same requests come to the same backend."""
    return isinstance(value, Balancing) or value in _BY_KEY


def called(value: str | Balancing) -> str:
    """Return a policy by name."""
    return value if isinstance(value, str) else value.given()[0]


def _policy(value: object) -> object:
    if value in _POLICIES or isinstance(value, (dict, Balancing)):
        return value
    choice = ", ".join(f'"{policy}"' for policy in _THERE)
    close = _close_policy(_letters(value)) if isinstance(value, str) else None
    raise fault(
        f"expected one of {choice}, not {shown(value)}",
        f'did you mean "{close}"?' if close else None,
    )


def _close_policy(letters: str) -> str | None:
    """Return the policy that was meant, whatever stands between its words."""
    by_letters = {_letters(policy): policy for policy in _POLICIES}
    if letters in _ELSEWHERE:
        return _ELSEWHERE[letters]
    close = get_close_matches(letters, by_letters, n=1)
    return by_letters[close[0]] if close else None


def _letters(text: str) -> str:
    return "".join(letter for letter in text.lower() if letter.isalnum())


def _shortest(value: str | Balancing) -> str | Balancing:
    """Return the word where a map says no more than that."""
    if isinstance(value, Balancing) and value.bounded_load is None:
        policy, by = value.given()
        return policy if by == "client_address" else value
    return value


LoadBalancing = Annotated[
    Annotated[Annotated[Policy, A_WORD] | Annotated[Balancing, A_MAP], BY_FORM],
    BeforeValidator(_policy),
    AfterValidator(_shortest),
    Field(
        description=(
            "How a backend is chosen for a request. Weights count in all of them. maglev and "
            "rendezvous go by the client's address, or as a map says: {rendezvous: {cookie: "
            "session}}."
        )
    ),
    Later(
        counted="kakehi_backend_requests_total",
        told="by rendezvous of the cookie session: shop/shop-1",
        meanwhile=f"choose one of {', '.join(_THERE)}",
        has=is_there,
        narrows={"enum": list(_THERE)},
    ),
]
