"""Who may ask by a token that somebody has signed (RFC 7519). Part of frontend and policy.

None replaces another: a request has to show a token that convinces each of them. Keys are a file,
whose content counts, or the URL of one, which the daemon fetches (`reconciler.issuers`): until that
has been done nobody gets in.
"""

import re
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from schemas.base import Model, OneOf, fault, shown
from schemas.entities.material import File, FilePath, parse_path
from schemas.policies.basic_auth import Realm
from schemas.policies.edits import FieldName, check_copied
from schemas.policies.nulls import ADDS_UP
from schemas.routes.match import CookieName, HeaderName
from schemas.values.forms import A_MAP, A_WORD, BY_FORM
from schemas.values.names import SortedUnique
from schemas.values.units import Measured

TEXTS_MAX = 64
HEADERS_MAX = 32
"""Each costs a look at every line."""
TEXT_CHARS_MAX = 1024
URL_CHARS_MAX = 2048
# A name that can be looked up, in lower case, or an address.
_HOSTNAME = re.compile(
    r"(?=.{1,253}$)([a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}\.?|[0-9a-f:.]*:[0-9a-f:.]*"
)
IN_AUTHORIZATION: Literal["authorization"] = "authorization"


class KeySet(File):
    """A set of keys (RFC 7517): a file, or what was fetched of a URL, if that has been."""

    path: str = ""
    url: str | None = None


def parse_keys(value: object) -> KeySet:
    """Return where keys are: the path of a file, or a URL."""
    if not isinstance(value, str) or "://" not in value:
        return KeySet(path=parse_path(value))
    scheme, _, rest = value.partition("://")
    if scheme != "https":
        raise fault(
            f"{shown(value)}: keys are fetched over https alone",
            "who could change them on the way would let in whom he likes",
        )
    is_plain = value.isascii() and value.isprintable() and not set(value) & {" ", "#", "\\"}
    try:
        parts = urlsplit(value)
        is_whole = _HOSTNAME.fullmatch(parts.hostname or "") is not None and parts.port != 0
    except ValueError:
        is_whole = False
    if not is_plain or not is_whole or len(value) > URL_CHARS_MAX:
        raise fault(f'expected a URL like "https://id.example.com/jwks.json", not {shown(value)}')
    if "@" in rest.partition("/")[0]:
        raise fault("the URL names a user, which would be told with it: keys are no secret")
    return KeySet(url=value)


def _text(value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= TEXT_CHARS_MAX:
        raise fault(f"expected a text, not {shown(value)}")
    return value


def _scope(value: object) -> str:
    text = _text(value)
    # RFC 6749 §3.3: it stands in quotes in the answer.
    if not (text.isascii() and text.isprintable()) or set(text) & {" ", '"', "\\"}:
        raise fault(f"{shown(text)} is no scope: a word in ASCII without quotes", "one item each")
    return text


def _texts(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _token(value: object) -> object:
    if value == IN_AUTHORIZATION or isinstance(value, (dict, TokenPlace)):
        return value
    hint = f"write {{header: {value}}} or {{cookie: {value}}}" if isinstance(value, str) else None
    raise fault(f'expected "{IN_AUTHORIZATION}" or a map, not {shown(value)}', hint)


def _check_headers(value: dict[str, str]) -> dict[str, str]:
    check_copied(list(value))
    return value


Text = Annotated[str, BeforeValidator(_text)]
Texts = Annotated[list[Text], SortedUnique, BeforeValidator(_texts), Field(max_length=TEXTS_MAX)]


class TokenPlace(OneOf):
    """Where a token stands, other than in `Authorization`."""

    cookie: Annotated[
        CookieName | None, Field(description="The cookie of this name.", examples=["session"])
    ] = None
    header: Annotated[
        HeaderName | None,
        Field(
            description="The header of this name, which has the token and nothing else.",
            examples=["x-goog-iap-jwt-assertion"],
        ),
    ] = None


_From = Annotated[
    Annotated[Annotated[Literal["authorization"], A_WORD] | Annotated[TokenPlace, A_MAP], BY_FORM],
    BeforeValidator(_token),
    Field(
        description=(
            "Where the token stands: in `Authorization`, behind the word Bearer; or in a cookie or "
            "a header by name."
        ),
        examples=[{"cookie": "session"}],
    ),
]


class Jwt(Model):
    """Whose tokens let requests pass, and what they have to say."""

    audiences: Annotated[
        Texts,
        Field(
            description=(
                "For whom a token may be meant (`aud`): one of these. An empty list takes tokens "
                "that are meant for anybody, those for other services of the issuer included."
            ),
            examples=[["shop"]],
        ),
    ]
    ca: Annotated[
        FilePath | None,
        Field(
            description=(
                "Authorities to trust when keys are fetched, in PEM; an absolute path. null: those "
                "that the system trusts."
            ),
        ),
    ] = None
    claims: Annotated[
        dict[Text, Annotated[Texts, Field(min_length=1)]],
        Field(
            max_length=TEXTS_MAX,
            description=(
                "What a token has to say beside that, by claim: one of these texts, or a list with "
                "one of them in it. Others get 403."
            ),
            examples=[{"role": ["admin", "editor"]}],
        ),
    ] = Field(default_factory=dict)
    forward_token: Annotated[
        bool, Field(description="The backend gets the token too; not from a cookie: always there.")
    ] = True
    # Python has the word for itself, and would not have it before a colon.
    __annotations__["from"] = _From
    locals()["from"] = IN_AUTHORIZATION
    headers: Annotated[
        Annotated[dict[FieldName, Text], AfterValidator(_check_headers)],
        Field(
            max_length=HEADERS_MAX,
            description=(
                "Headers in which the backend is told claims. What the client says in them is left "
                "out, whether or not a token has the claim. Other characters than printable ASCII "
                "are written with %, and so is % itself; members of a list are parted by commas, "
                "and a comma in one of them is %2C."
            ),
            examples=[{"X-User": "sub"}],
        ),
    ] = Field(default_factory=dict)
    issuer: Annotated[
        Text,
        Field(
            description="Who has signed it (`iss`), to the letter.",
            examples=["https://id.example.com/"],
        ),
    ]
    keys: Annotated[
        KeySet,
        BeforeValidator(parse_keys),
        WithJsonSchema({"type": "string"}),
        Field(
            description=(
                "The keys by which its signature is known, as a JWK Set: a file, or a URL that is "
                "fetched, over https. Until it has been fetched for the first time, requests get "
                "503."
            ),
            examples=["https://id.example.com/jwks.json"],
        ),
    ]
    leeway: Annotated[
        Annotated[int, Measured("duration", "0s", "10m")],
        Field(description="By how much the clock of the issuer may differ (`exp`, `nbf`, `iat`)."),
    ] = 60_000
    realm: Annotated[Realm, Field(description="What clients are told that they ask for.")] = "api"
    scopes: Annotated[
        Annotated[list[Annotated[str, BeforeValidator(_scope)]], SortedUnique],
        BeforeValidator(_texts),
        Field(
            max_length=TEXTS_MAX,
            description=(
                "What a token has to allow (`scope` or `scp`): all of these. Others get 403."
            ),
            examples=[["read"]],
        ),
    ] = Field(default_factory=list)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        cookie = isinstance(self.place, TokenPlace) and self.place.cookie is not None
        if cookie and not self.forward_token:
            hint = 'write "remove: [Cookie]" under request_headers: if no cookie is to pass'
            raise fault("a token cannot be taken out of a cookie", hint, ("forward_token",))
        field = self.token_field
        for name in self.headers:
            if name.lower() == field:
                raise fault(f"{name} has the token itself", at=("headers", name))
        if self.ca is not None:
            if self.keys.url is None:
                raise fault("nothing is fetched: the keys are a file", 'leave "ca" out', ("ca",))
            if not self.ca.startswith("/"):
                raise fault(f"expected an absolute path, not {shown(self.ca)}", at=("ca",))
        return self

    @property
    def place(self) -> TokenPlace | str:
        """Where the token stands (`from`)."""
        found: TokenPlace | str = getattr(self, "from")
        return found

    @property
    def token_field(self) -> str | None:
        """The header that the token stands in and nothing else, in lower case."""
        if isinstance(self.place, TokenPlace):
            return self.place.header
        return IN_AUTHORIZATION


TokensTaken = Annotated[
    Jwt | None,
    Field(
        description=(
            "Tokens that somebody has signed (JWT), without one of which requests get 401: by RS, "
            "PS and ES 256 to 512 and by EdDSA, as the key says and never the token. A token needs "
            "`exp`. Where frontend, policies and listener name several, each has to be convinced. "
            "Without it this one leaves it to the others."
        ),
        examples=[
            {
                "issuer": "https://id.example.com/",
                "audiences": ["shop"],
                "keys": "https://id.example.com/jwks.json",
                "headers": {"X-User": "sub"},
            }
        ],
    ),
    ADDS_UP,
]
