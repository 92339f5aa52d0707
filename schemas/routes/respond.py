"""The answer that a frontend gives by itself, without any backend. Part of a frontend."""

from typing import Annotated, Self

from pydantic import BeforeValidator, Field, model_validator

from schemas.base import Model, fault
from schemas.entities.material import NamedFile
from schemas.routes.places import MOVED
from schemas.values.content import BODY_BYTES_MAX, parse_body, parse_content_type

_BODILESS = (204, 304)


class Respond(Model):
    """An answer of the configuration."""

    body: Annotated[
        str,
        BeforeValidator(parse_body),
        Field(description="The body, sent as it is.", examples=["ok\n"]),
    ] = ""
    close: Annotated[
        bool,
        Field(description="The connection (a stream of HTTP/2) is closed without an answer."),
    ] = False
    content_type: Annotated[
        str,
        BeforeValidator(parse_content_type),
        Field(description="The media type of the body.", examples=["application/json"]),
    ] = "text/plain; charset=utf-8"
    file: Annotated[
        NamedFile | None,
        Field(
            description=f"A file that is the body, of {BODY_BYTES_MAX // 1024}KiB at most.",
            examples=["pages/maintenance.html"],
        ),
    ] = None
    status: Annotated[int, Field(ge=200, le=599, description="The status.", examples=[200])] = 200

    @model_validator(mode="after")
    def _has_one_body_at_most(self) -> Self:
        others = sorted(self.value().keys() - {"close"})
        if self.close and others:
            raise fault(f"close: nothing is answered, so {others[0]} has no place")
        if self.status in MOVED:
            hint = f"write redirect: {{hostname: …, path: {{full: /…}}, status: {self.status}}}"
            raise fault(
                f"status: {self.status} sends to another place, of which nothing is said", hint
            )
        if self.body and self.file:
            raise fault("body and file: an answer has one body", "leave one of the two out")
        if (self.body or self.file) and self.status in _BODILESS:
            raise fault(f"body: an answer with the status {self.status} has none")
        return self
