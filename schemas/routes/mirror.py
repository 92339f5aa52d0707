"""Other clusters for the requests of a frontend, as a map or a list. Part of a frontend."""

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from schemas.base import Model, fault, shown
from schemas.values.forms import A_LIST, A_MAP, LISTED
from schemas.values.names import Name
from schemas.values.units import Measured

MIRRORS_MAX = 4
"""Each is sent all that its share asks for."""


def _some(value: object) -> object:
    if value in ("0%", 0):
        raise fault("a share of 0% is no mirror", "write mirror: null, or leave it out")
    return value


class Mirror(Model):
    """A cluster that gets requests as well, and whose answers are thrown away."""

    cluster: Annotated[Name, Field(description="The cluster.", examples=["shadow"])]
    share: Annotated[
        Annotated[int, Measured("share", "1%", "100%")],
        BeforeValidator(_some),
        Field(description="How many of the requests it gets, drawn by lot.", examples=["10%"]),
    ] = 100


def mirrors_of(said: Mirror | list[Mirror] | None) -> list[Mirror]:
    """Return each of them."""
    if said is None:
        return []
    return said if isinstance(said, list) else [said]


def _each_once(value: Mirror | list[Mirror] | None) -> Mirror | list[Mirror] | None:
    if not isinstance(value, list):
        return value
    known: set[str] = set()
    for at, mirror in enumerate(value):
        if mirror.cluster in known:
            message = f"{shown(mirror.cluster)} is named twice"
            raise fault(message, "write its share once", (at, "cluster"))
        known.add(mirror.cluster)
    # One is the same as without brackets.
    return value[0] if len(value) == 1 else value


Mirrored = Annotated[
    Annotated[
        Annotated[Mirror, A_MAP]
        | Annotated[list[Mirror], Field(min_length=1, max_length=MIRRORS_MAX), A_LIST],
        LISTED,
    ]
    | None,
    AfterValidator(_each_once),
]
