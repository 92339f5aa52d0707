"""A second cluster for the requests of a frontend. Part of a frontend."""

from typing import Annotated

from pydantic import BeforeValidator, Field

from schemas.base import Model, fault
from schemas.values.names import Name
from schemas.values.units import Measured


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
