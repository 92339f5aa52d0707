"""Forward authentication: who is asked whether a request may pass. Part of frontend and policy."""

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from schemas.base import Model, fault, no_items, shown
from schemas.policies.edits import FieldName, check_copied
from schemas.values.names import Name, SortedUnique
from schemas.values.units import Measured

PATH_CHARS_MAX = 1024
COPIED_MAX = 32
"""Each costs a look at every line."""


def parse_question(value: object) -> str:
    """Return a path, perhaps with a query, that is asked for as it is written."""
    if not isinstance(value, str) or not value.startswith("/"):
        hint = None
        if isinstance(value, str) and "://" in value:
            hint = 'which host is asked is said by "cluster:"; here stands what follows it'
        raise fault(f'expected a path like "/verify", not {shown(value)}', hint)
    if not (value.isascii() and value.isprintable()) or set(value) & {" ", "#"}:
        raise fault(
            f"{shown(value)}: only printable ASCII without spaces and # may stand in it",
            "write other characters with %, as in /sign%20in",
        )
    if len(value) > PATH_CHARS_MAX:
        raise fault(f"the path has {len(value)} characters; at most {PATH_CHARS_MAX} are sent")
    return value


class ForwardAuth(Model):
    """Another server that is asked whether a request may pass."""

    cluster: Annotated[Name, Field(description="The cluster that is asked.", examples=["authelia"])]
    copy_headers: Annotated[
        Annotated[list[FieldName], SortedUnique, AfterValidator(check_copied)],
        Field(
            max_length=COPIED_MAX,
            description=(
                "Headers of its answer that the backend gets. What the client says in them is "
                "left out, whether or not they are answered."
            ),
            examples=[["X-User", "X-Groups"]],
        ),
    ] = Field(default_factory=no_items)
    path: Annotated[
        Annotated[str, BeforeValidator(parse_question)],
        Field(
            description="What it is asked for (by GET), perhaps with a query.",
            examples=["/verify"],
        ),
    ] = "/"
    timeout: Annotated[
        Annotated[int, Measured("duration", "1ms", "60s")],
        Field(description="Within which it has answered whole; 503 if it has not."),
    ] = 5000


AskedFirst = Annotated[
    ForwardAuth | None,
    Field(
        description=(
            "A server that is asked before a request is answered or goes to a backend: by GET, "
            "with the headers of the request but without its body. An answer of 2xx lets it pass; "
            "401, 403 and 3xx go to the client as they are; by anything else, and by none in time, "
            "the client gets 503. Where policies and listener say it too, each has to let it pass."
        ),
        examples=[{"cluster": "authelia", "path": "/verify", "copy_headers": ["X-User"]}],
    ),
]
