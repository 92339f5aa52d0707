"""Forward authentication: who is asked whether a request may pass. Part of frontend and policy."""

from typing import Annotated, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from schemas.base import Model, fault, no_items, shown
from schemas.policies.edits import FieldName, check_copied
from schemas.policies.nulls import ADDS_UP
from schemas.routes.match import HeaderName
from schemas.values.names import Name, SortedUnique
from schemas.values.units import Measured

PATH_CHARS_MAX = 1024
CACHED_BY_MAX = 8
COPIED_MAX = 32
"""Each costs a look at every line."""

_SHOW_NOBODY = {
    *("cache-control", "dnt", "early-data", "forwarded", "host", "origin", "pragma", "priority"),
    *("range", "referer", "user-agent", "via", "x-request-id", "x-requested-with"),
}
"""In these everybody says the same, or the proxy has the last word."""
_BEGINNINGS_THAT_SHOW_NOBODY = ("accept", "content-", "if-", "sec-", "x-forwarded-")


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


def _shows_who(names: list[str]) -> list[str]:
    for at, name in enumerate(names):
        if name in _SHOW_NOBODY or name.startswith(_BEGINNINGS_THAT_SHOW_NOBODY):
            message = f'"{name}" does not show who a client is'
            hint = "name those in which clients show it, as [authorization, cookie]"
            raise fault(message, hint, (at,))
    return names


class VerdictCache(Model):
    """For how long a word counts that lets a request pass."""

    headers: Annotated[
        Annotated[list[HeaderName], AfterValidator(_shows_who), SortedUnique],
        Field(
            min_length=1,
            max_length=CACHED_BY_MAX,
            description=(
                "In which headers clients show who they are: a word counts for requests with the "
                "same values in all of them. One that has none of them, or shows credentials in "
                "others (Authorization, Cookie), is asked about each time."
            ),
            examples=[["cookie"]],
        ),
    ]
    ttl: Annotated[
        Annotated[int, Measured("duration", "1s", "1h")],
        Field(
            description="How long it counts: so long somebody passes who may no more.",
            examples=["10s"],
        ),
    ]


class ForwardAuth(Model):
    """Another server that is asked whether a request may pass."""

    cache: Annotated[
        VerdictCache | None,
        Field(
            description=(
                "For how long an answer of 2xx counts for the same client, method, host, path and "
                "query, and the same values of some headers, in each worker; a shorter `max-age`, "
                "`no-cache` and `no-store` in it are heard. null: each request is asked about."
            ),
            examples=[{"headers": ["cookie"], "ttl": "10s"}],
        ),
    ] = None
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

    @model_validator(mode="after")
    def _word_goes_by_clients(self) -> Self:
        answered = {name.lower() for name in self.copy_headers}
        for name in self.cache.headers if self.cache is not None else []:
            if name in answered:
                message = f'"{name}" is said by whoever is asked ("copy_headers:"), not by clients'
                hint = "name the headers in which clients show who they are, as [cookie]"
                raise fault(message, hint, at=("cache", "headers"))
        return self


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
    ADDS_UP,
]
