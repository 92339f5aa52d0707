"""A second cluster for the requests of a frontend. Part of a frontend."""

from typing import Annotated

from pydantic import Field

from schemas.base import Model
from schemas.values.names import Name
from schemas.values.units import Measured


class Mirror(Model):
    """A cluster that gets requests as well, and whose answers are thrown away."""

    cluster: Annotated[Name, Field(description="The cluster.", examples=["shadow"])]
    share: Annotated[
        Annotated[int, Measured("share", "1%", "100%")],
        Field(description="How many of the requests it gets, drawn by lot.", examples=["10%"]),
    ] = 100
