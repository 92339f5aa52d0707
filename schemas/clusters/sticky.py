"""A client's own backend, by a cookie. Part of a cluster.

The cookie is a keyed hash of the backend's name, so that it tells nothing and outlives a change of
the address.
"""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from schemas.base import Later, Model, fault, shown
from schemas.routes.match import CookieName
from schemas.values.units import Duration


def _sticky(value: object) -> object:
    if value is None or isinstance(value, (dict, Sticky)):
        return value
    hint = "write {cookie: NAME}"
    if isinstance(value, str) and value:
        hint = f"write {{cookie: {value}}}"
    raise fault(f'expected a map like "{{cookie: KAKEHI}}", not {shown(value)}', hint)


def _cookie(value: object) -> object:
    if isinstance(value, dict):
        hint = f"write cookie: {value['name']}" if isinstance(value.get("name"), str) else None
        raise fault('expected the name of a cookie like "KAKEHI", not a map', hint)
    return value


class Sticky(Model):
    """A cookie by which a client comes to the same backend again, while that takes requests."""

    cookie: Annotated[
        Annotated[CookieName, BeforeValidator(_cookie)],
        Field(
            description=(
                "What it is called. It is HttpOnly, for the path /, and Secure where it is set "
                "over TLS. Of a backend that is drained it counts on; of one that is gone or not "
                "healthy another is chosen, and the cookie is set anew."
            ),
            examples=["KAKEHI"],
        ),
    ]
    max_age: Annotated[
        Duration | None,
        Field(
            description="How long browsers keep it. null: until they are closed.", examples=["1h"]
        ),
    ] = None
    same_site: Annotated[
        Literal["lax", "none", "strict"],
        Field(description="For which pages browsers send it; none wants TLS."),
    ] = "lax"


Stuck = Annotated[
    Annotated[Sticky | None, BeforeValidator(_sticky)],
    Field(
        description=(
            "A client comes to the same backend again, by a cookie that names none. Who has no "
            "cookie gets a backend by load_balancing. null: each request is balanced."
        ),
        examples=[{"cookie": "KAKEHI", "max_age": "1h"}],
    ),
    Later(
        counted="kakehi_cluster_sticky_total, by kept, set and lost",
        told="sticky: shop/shop-1, by the cookie KAKEHI; a new one where it takes no requests",
        meanwhile="split_by: {cookie: NAME} in a frontend keeps a client at one cluster of a split",
    ),
]
