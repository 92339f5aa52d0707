"""Where requests go instead: redirects, which clients follow, and rewrites. Parts of a frontend."""

import re
from typing import Annotated, Literal, Self
from urllib.parse import quote

from annotated_types import Ge, Le
from pydantic import BeforeValidator, Field, model_validator

from schemas.base import KEY, Model, OneOf, fault, shown
from schemas.routes.match import PATH_CHARS_MAX, PathMatch, parse_path_text
from schemas.values.forms import A_MAP, A_WORD, BY_FORM
from schemas.values.names import parse_hostname
from schemas.values.templates import check_groups, check_template, named, without_values

MOVED = (301, 302, 303, 307, 308)
_NOT_IN_QUERY = re.compile(r"[^!-~]|[#\"<>]")


def _hostname(value: object) -> str:
    text = check_template(value)
    names = set(named(text))
    if names - {"hostname"}:
        hint = "write the name itself; {hostname} is the one that was asked for"
        raise fault(f"{{{min(names - {'hostname'})}}} cannot stand in a hostname", hint)
    if "*" in text:
        raise fault(f"{shown(text)} is no hostname to go to", "write one without a star")
    if names:
        parse_hostname(text.replace("{hostname}", "h"))
        return text
    return parse_hostname(text)


def parse_new_path(value: object) -> str:
    """Return a path with values of the request in it, normal as far as that can be seen."""
    if isinstance(value, str) and not value.startswith(("/", "{path}")):
        raise fault(f'expected a path like "/new", not {shown(value)}', f'write "/{value}"')
    text = check_template(value)
    if "?" in text:
        raise fault("a path has no query", f'write "{_apart(text)}"')
    if len(text) > PATH_CHARS_MAX:
        raise fault(f"the path is too long: at most {PATH_CHARS_MAX} characters")
    plain = without_values(text)
    if not list(named(text)) and "{" not in plain and "}" not in plain:
        return parse_path_text(text)
    # The values are looked at when they are known.
    parse_path_text(f"/{plain.replace('{', '').replace('}', '').replace('//', '/').lstrip('/')}")
    return text


def parse_new_prefix(value: object) -> str:
    """Return the same without a slash at its end, in place of a prefix."""
    return parse_new_path(value).rstrip("/") or "/"


def _apart(text: str) -> str:
    """Return how a path and a query are written that stand in one text."""
    path, _, query = text.partition("?")
    return f'path: {{full: {path}}}, query: {{full: "{query}"}}'


def parse_new_query(value: object) -> str:
    """Return a query with values of the request in it."""
    if value == "":
        raise fault("the query is empty", "write query: drop")
    text = check_template(value)
    if text.startswith("?"):
        raise fault("the question mark is set before it", f'write "{text[1:]}"')
    if len(text) > PATH_CHARS_MAX:
        raise fault(f"the query is too long: at most {PATH_CHARS_MAX} characters")
    stray = _NOT_IN_QUERY.search(without_values(text))
    if stray is not None:
        hint = f'write it escaped: "{quote(stray[0])}"'
        raise fault(f"{shown(stray[0])} cannot stand in a query", hint)
    return text


class QueryChange(Model):
    """Another query. Values of the request may stand in it, and groups of the path's regex."""

    full: Annotated[
        Annotated[str, BeforeValidator(parse_new_query)],
        Field(description="In place of the whole query.", examples=["id={1}"]),
    ]


class PathChange(OneOf):
    """Another path. Values of the request may stand in it, and groups of the path's regex."""

    full: Annotated[
        Annotated[str, BeforeValidator(parse_new_path)] | None,
        Field(description="In place of the whole path.", examples=["/item/{1}"]),
    ] = None
    prefix: Annotated[
        Annotated[str, BeforeValidator(parse_new_prefix)] | None,
        Field(description="In place of the prefix that the frontend matches.", examples=["/new"]),
    ] = None


NewHostname = Annotated[str, BeforeValidator(_hostname)]
_HOSTNAME = Field(
    description="The hostname; `{hostname}` in it is the one that was asked for.",
    examples=["www.{hostname}"],
)
_PATH = Field(
    description="The path: one of full, prefix.", examples=[{"prefix": "/new"}, {"full": "/gone"}]
)


def _query(value: object) -> object:
    if value in ("keep", "drop") or isinstance(value, (dict, QueryChange)):
        return value
    hint = f'or {{full: "{value}"}}' if isinstance(value, str) and "=" in value else None
    hint = hint or 'or another one: {full: "id={1}"}'
    raise fault(f'expected "keep" or "drop", not {shown(value)}', hint)


QueryUse = Annotated[
    Annotated[
        Annotated[Literal["keep", "drop"], A_WORD] | Annotated[QueryChange, A_MAP],
        BY_FORM,
    ],
    BeforeValidator(_query),
    Field(description="What becomes of the query: keep, drop, or another one."),
]


def _moved(value: object) -> object:
    if value in MOVED or not isinstance(value, int) or isinstance(value, bool):
        return value
    hint = "302 and 307 are for now, 301 and 308 for good; 307 and 308 keep method and body"
    if value == 304:
        hint = "it says that what a client has still holds, as a backend does; to send it on: 302"
    elif not 300 <= value < 400:
        hint = f"for an answer of ours write respond: {{status: {value}}} in place of redirect"
    raise fault(f"expected one of {', '.join(map(str, MOVED))}, not {value}", hint)


class Redirect(Model):
    """Another place, to which clients are sent. What is not named stays as it was asked for."""

    hostname: Annotated[NewHostname | None, _HOSTNAME] = None
    path: Annotated[PathChange | None, _PATH] = None
    port: Annotated[
        Annotated[int, Ge(1), Le(65535)] | None,
        Field(description="The port. null: that of `scheme`, or else the one that was asked for."),
    ] = None
    query: QueryUse = "keep"
    scheme: Annotated[
        Literal["http", "https"] | None,
        Field(description="The scheme. null: the one that was asked for.", examples=["https"]),
    ] = None
    status: Annotated[
        Literal[301, 302, 303, 307, 308],
        BeforeValidator(_moved),
        Field(description="301 and 308 are for good; 307 and 308 keep method and body."),
    ] = 302

    @model_validator(mode="after")
    def _leads_elsewhere(self) -> Self:
        if not any((self.hostname, self.path, self.port, self.scheme)):
            raise fault(
                "it leads to where it came from: every client would go round in circles",
                "give it one of hostname, path, port, scheme",
            )
        return self


class Rewrite(Model):
    """Where requests go on their way to a backend."""

    hostname: Annotated[NewHostname | None, _HOSTNAME] = None
    path: Annotated[PathChange | None, _PATH] = None
    query: QueryUse = "keep"

    @model_validator(mode="after")
    def _changes_anything(self) -> Self:
        if self.hostname is None and self.path is None and self.query == "keep":
            raise fault("nothing is rewritten", "give it hostname, path or query")
        return self


def _redirect(value: object) -> object:
    if value is None or value == "https" or isinstance(value, (dict, Redirect)):
        return value
    message = f'expected "https", not {shown(value)}: the same host and path over TLS'
    raise fault(message, "or a map with the place: {path: {prefix: /new}, status: 301}")


RedirectOrHttps = Annotated[
    Annotated[
        Annotated[Literal["https"], A_WORD] | Annotated[Redirect, A_MAP],
        BY_FORM,
    ]
    | None,
    BeforeValidator(_redirect),
]


def check_place(to: Redirect | Rewrite, matched: PathMatch, groups: frozenset[str]) -> None:
    """Raise a fault when a place cannot be made out of those that a frontend matches."""
    change = to.path
    if isinstance(to.query, QueryChange):
        check_groups(to.query.full, groups, at=("query", "full"))
    if change is not None:
        key, text = change.given()
        check_groups(text, groups, at=("path", key))
    if change is not None and change.prefix is not None and matched.prefix is None:
        kind, _ = matched.given()
        hint = 'write "path: {full: /…{1}}"' if kind == "regex" else 'write "path: {full: …}"'
        message = f"the frontend matches {kind} paths, and no prefix"
        raise fault(message, hint, at=("path", "prefix", KEY))
