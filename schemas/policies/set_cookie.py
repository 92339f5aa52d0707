"""What is done with cookies that backends set (RFC 6265 §4.1). Part of frontend and policy.

Of their own cookies backends behind a proxy say what is true of themselves: their hostname and
path, and no `Secure`, since nobody asks them over TLS. Here it is put right, by a cookie's name.
"""

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from schemas.base import Model, fault, shown
from schemas.values.names import is_token, parse_hostname

ANY = "*"
DROP = "drop"
COOKIES_MAX = 32
PATHS_MAX = 16
PATH_CHARS_MAX = 1024
_PATH = re.compile(r"/[!-:<-~]*")


def _name(value: object) -> str:
    if not is_token(value):
        raise fault(f'expected the name of a cookie like "session", or "*", not {shown(value)}')
    if "*" in value and value != ANY:
        hint = 'write "*" for all that are not named, or each by its name'
        raise fault(f"{shown(value)} is no pattern, but the name of one cookie", hint)
    return value


def _domain(value: object) -> str:
    if value == DROP:
        return DROP
    text = value.removeprefix(".") if isinstance(value, str) else value
    name = parse_hostname(text)
    if "*" in name or "[" in name:
        hint = "a cookie of a domain is that of all hosts below it"
        raise fault(f'expected a domain like "example.com", not {shown(value)}', hint)
    return name


def _path(value: object) -> str:
    if not isinstance(value, str) or not _PATH.fullmatch(value) or len(value) > PATH_CHARS_MAX:
        raise fault(f'expected a path like "/app", not {shown(value)}')
    return value.rstrip("/") or "/"


Path = Annotated[str, BeforeValidator(_path)]


class CookieChange(Model):
    """What is done with the attributes of a cookie; what is not named stays as it is."""

    domain: Annotated[
        Annotated[str, BeforeValidator(_domain)] | None,
        Field(
            description=(
                "In place of a Domain that the cookie has. drop: it has none from then on, and "
                "is for the host alone that was asked."
            ),
            examples=["example.com"],
        ),
    ] = None
    http_only: Annotated[bool, Field(description="Scripts do not see it: HttpOnly.")] = False
    path: Annotated[
        dict[Path, Path],
        Field(
            max_length=PATHS_MAX,
            description=(
                "Beginnings of its Path, by elements, and what stands in their place; of several "
                "the longest."
            ),
            examples=[{"/app": "/"}],
        ),
    ] = Field(default_factory=dict)
    same_site: Annotated[
        Literal["lax", "none", "strict"] | None,
        Field(description="With which requests of other sites it is sent: SameSite."),
    ] = None
    secure: Annotated[bool, Field(description="It is sent over TLS only: Secure.")] = False

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.same_site == "none" and not self.secure:
            hint = "write secure: true beside it"
            raise fault("same_site: browsers take none only of a cookie that is Secure", hint)
        if self == CookieChange.of_value({}):
            hint = "write null for a cookie that is passed on as it is"
            raise fault("nothing is said of the cookie", hint)
        return self


def _takes_its_prefix(
    value: dict[str, CookieChange | None],
) -> dict[str, CookieChange | None]:
    for name, change in value.items():
        if change is None or not name.lower().startswith("__host-"):
            continue
        has_path = any(path != "/" for path in change.path.values())
        key = "domain" if change.domain not in (None, DROP) else "path" if has_path else None
        if key is not None:
            what = "no Domain" if key == "domain" else "the Path / alone"
            message = f"browsers refuse {name} with it: by its beginning it has {what}"
            raise fault(message, "leave it out, or give the cookie another name", (name, key))
    return value


SetCookie = Annotated[
    dict[Annotated[str, BeforeValidator(_name)], CookieChange | None],
    Field(
        max_length=COOKIES_MAX,
        description=(
            'What is done with cookies that backends set, by their names; "*" is for all that are '
            "not named. null: it is passed on as it is, whatever policies say."
        ),
        examples=[{"*": {"secure": True, "http_only": True, "same_site": "lax"}}],
    ),
    AfterValidator(_takes_its_prefix),
]
