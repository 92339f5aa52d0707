"""How requests are matched beside their hostname: by path and by values. Part of a frontend.

A path that is written is a normal one, since no request has another when it is matched.
"""

import posixpath
import re
from typing import Annotated, Self
from urllib.parse import quote

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from schemas.base import KEY, OneOf, fault, shown
from schemas.values.names import is_token, parse_header_name
from schemas.values.regex import check_regex
from schemas.values.templates import check_printable

PATH_CHARS_MAX = 2048
VALUE_CHARS_MAX = 4096

_PATH = re.compile(r"/(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/]|%[0-9A-Fa-f]{2})*")
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")


def parse_path_text(value: object) -> str:
    """Return a path in the form that requests have when they are matched."""
    if not isinstance(value, str) or not value.startswith("/"):
        hint = _beginning_hint(value) if isinstance(value, str) else None
        raise fault(f'expected a path like "/api", not {shown(value)}', hint)
    if not _PATH.fullmatch(value):
        raise fault(f"{shown(value)} has characters that no path has", _path_hint(value))
    if "//" in value or any(element in (".", "..") for element in value.split("/")):
        better = posixpath.normpath(re.sub("/+", "/", value))
        better += "/" if value.endswith("/") and better != "/" else ""
        hint = f'did you mean "{better}"?'
        raise fault(f"{shown(value)} is not a normal path: no request has it after clean-up", hint)
    if len(value) > PATH_CHARS_MAX:
        raise fault(f"the path is too long: at most {PATH_CHARS_MAX} characters")
    return _ESCAPE.sub(_normal_escape, value)


def _beginning_hint(value: str) -> str:
    if value == "*":
        return "did you mean {prefix: /}?"
    end = value.removeprefix("*")
    if end != value and "*" not in end:
        return f"did you mean {{suffix: {end}}}?"
    return f'did you mean "/{value}"?'


def _normal_escape(escape: re.Match[str]) -> str:
    """Write an escape as requests have it when they are matched: in capitals, none in vain."""
    char = chr(int(escape[1], 16))
    if char == "\0":
        raise fault('"%00" is in no path: requests with it are refused')
    if char.isascii() and (char.isalnum() or char in "-._~"):
        raise fault(f'"{escape[0]}" needs no escape in a path', f'write "{char}"')
    return escape[0].upper()


def _path_hint(value: str) -> str | None:
    if "?" in value:
        return 'match the query with "query:"'
    escaped = quote(value, safe="/%:@!$&'()*+,;=~")
    return f'did you mean "{escaped}"?' if _PATH.fullmatch(escaped) else "escape them with %"


def parse_prefix(value: object) -> str:
    """Return the beginning of paths, without a slash at its end."""
    # A prefix goes by elements, so a final slash changes nothing (Gateway API says the same).
    path = parse_path_text(value)
    if path.endswith("*"):
        better = path.rstrip("*").rstrip("/") or "/"
        message = 'a prefix ends without "*": it covers everything under it as it is'
        raise fault(message, f'did you mean "{better}"?')
    return path.rstrip("/") or "/"


def parse_suffix(value: object) -> str:
    """Return the end of paths, in the form that requests have when they are matched."""
    if not isinstance(value, str) or not value:
        raise fault(f'expected the end of paths like ".php", not {shown(value)}')
    if value.startswith("*"):
        better = value.lstrip("*")
        hint = f'did you mean "{better}"?' if better else "for all paths write {prefix: /}"
        raise fault('a suffix begins without "*": it ends paths as it is', hint)
    first = "" if value.startswith("/") else "/-"
    try:
        return parse_path_text(first + value).removeprefix(first)
    except PydanticCustomError as error:
        context = error.context or {}
        message = context["message"].replace(first + value, value) if first else context["message"]
        hint = context["hint"].replace(first, "") if first else context["hint"]
        raise fault(message, hint) from None


def parse_text(value: object) -> str:
    """Return a text that is compared with what a request has."""
    if not isinstance(value, str):
        hint = f'write it in quotes: "{shown(value)}"' if isinstance(value, (int, float)) else None
        raise fault(f"expected text, not {shown(value)}", hint)
    if len(value) > VALUE_CHARS_MAX:
        raise fault(f"the text is too long: at most {VALUE_CHARS_MAX} characters")
    return value


def _header_text(value: str) -> str:
    check_printable(value, "header value")
    if value != value.strip():
        raise fault("the text begins or ends with a space, which no header value does")
    return value


def _cookie_text(value: str) -> str:
    if ";" in value:
        raise fault('the text has a ";", where the value of a cookie ends')
    return value


def _cookie_name(value: object) -> str:
    if not is_token(value):
        raise fault(f'expected the name of a cookie like "beta", not {shown(value)}')
    return value


CookieName = Annotated[str, BeforeValidator(_cookie_name)]
HeaderName = Annotated[str, BeforeValidator(parse_header_name)]
Regex = Annotated[str, BeforeValidator(check_regex)]


def _plain_path_hint(value: str) -> str:
    """Say how a plain text is written, by what it means elsewhere."""
    if value.startswith("*") and value[1:] and "*" not in value[1:]:
        return f"did you mean {{suffix: {value[1:]}}}?"
    prefix = value.removesuffix("*")
    if "*" in prefix:
        return 'a "*" within a path is written as a regex: {regex: "/a/[^/]+/b"}'
    if prefix != value:
        prefix = prefix.removesuffix("/")
    return f"did you mean {{prefix: /{prefix.removeprefix('/')}}}?"


class PathMatch(OneOf):
    """How a path is matched.

    An exact path goes before all others. Of these the longer literal beginning wins, and at equal
    length a regex before a suffix, and this before a prefix.
    """

    BESIDE = ("ignore_case",)

    @model_validator(mode="before")
    @classmethod
    def _not_plain(cls, value: object) -> object:
        # Which of the three a plain text would mean is what other proxies disagree on.
        if isinstance(value, str):
            raise fault(
                "expected a map with one of prefix, exact, regex, suffix, not " + shown(value),
                _plain_path_hint(value),
            )
        return value

    prefix: Annotated[
        Annotated[str, BeforeValidator(parse_prefix)] | None,
        Field(description="The path and all under it, element by element.", examples=["/api"]),
    ] = None
    exact: Annotated[
        Annotated[str, BeforeValidator(parse_path_text)] | None,
        Field(description="This path alone.", examples=["/health"]),
    ] = None
    regex: Annotated[
        Regex | None,
        Field(
            description="Rust `regex` syntax, matched against the whole path.",
            examples=["/item/[0-9]+"],
        ),
    ] = None
    suffix: Annotated[
        Annotated[str, BeforeValidator(parse_suffix)] | None,
        Field(description="All paths that end with this.", examples=[".php"]),
    ] = None
    ignore_case: Annotated[
        bool,
        Field(description="Small and capital letters are alike: with regex and suffix."),
    ] = False

    @model_validator(mode="after")
    def _case_is_of_expressions(self) -> Self:
        kind, path = self.given()
        if self.ignore_case and kind in ("exact", "prefix"):
            below = "(/.*)?" if kind == "prefix" and path != "/" else ""
            hint = f"write {{regex: '{re.escape(path)}{below}', ignore_case: true}}"
            message = f"{kind} paths are looked up as they are"
            raise fault(message, hint, at=("ignore_case", KEY))
        return self


def _not(value: object) -> object:
    if isinstance(value, dict) and len(value) == 1:
        key, text = next(iter(value.items()))
        raise fault("expected true or false, not a map", f"write {{{key}: {text}, not: true}}")
    return value


class ValueMatch(OneOf):
    """How the value of a header, of a query parameter or of a cookie is matched."""

    BESIDE = ("not",)

    exact: Annotated[
        Annotated[str, BeforeValidator(parse_text)] | None,
        Field(description="This value; the same as writing it plainly.", examples=["2"]),
    ] = None
    regex: Annotated[
        Regex | None,
        Field(description="Rust `regex` syntax, matched against the whole value."),
    ] = None
    present: Annotated[
        bool | None,
        Field(description="true: there is one, whatever its value; false: there is none."),
    ] = None
    # A word of Python's own, which can be a key of ours all the same.
    __annotations__["not"] = Annotated[
        bool,
        BeforeValidator(_not),
        Field(description="It must not be so; what is not there at all is not so either."),
    ]
    vars()["not"] = False

    @model_validator(mode="after")
    def _one_denial(self) -> Self:
        if self.negated and self.present is not None:
            hint = f"write {{present: {shown(not self.present)}}}"
            raise fault("present says both", hint, at=("not", KEY))
        return self

    @property
    def negated(self) -> bool:
        """Whether it must not be so."""
        return bool(getattr(self, "not"))


class HeaderMatch(ValueMatch):
    """How the value of a header is matched. Of several of one name any is enough."""

    exact: Annotated[
        Annotated[str, BeforeValidator(parse_text), AfterValidator(_header_text)] | None,
        Field(description="This value; the same as writing it plainly.", examples=["gold"]),
    ] = None


class QueryMatch(ValueMatch):
    """How the value of a query parameter is matched. Of several of one name the first counts."""


class CookieMatch(ValueMatch):
    """How the value of a cookie is matched. Of several of one name the first counts."""

    exact: Annotated[
        Annotated[
            str,
            BeforeValidator(parse_text),
            AfterValidator(_header_text),
            AfterValidator(_cookie_text),
        ]
        | None,
        Field(description="This value; the same as writing it plainly.", examples=["1"]),
    ] = None


def plain_is_exact(value: object) -> object:
    """Return the map that a plain text stands for."""
    if isinstance(value, dict):
        return value
    return {"exact": parse_text(value)}
