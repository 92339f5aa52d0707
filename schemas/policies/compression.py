"""Which answers are compressed, for clients that take that. Part of frontend and policy.

Off where nobody asks for it: the length of a compressed answer tells of a secret that it has beside
what somebody else can have put into it (BREACH).
"""

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from schemas.base import KEY, Model, fault, shown
from schemas.values.forms import A_MAP, A_WORD, BY_FORM, inherit_or
from schemas.values.names import SortedUnique
from schemas.values.units import Measured

LISTED_MAX = 256
Encoding = Literal["br", "gzip", "zstd"]
ENCODINGS: list[Encoding] = ["zstd", "br", "gzip"]
TYPES = [
    "application/javascript",
    "application/json",
    "application/manifest+json",
    "application/wasm",
    "application/xml",
    "image/svg+xml",
    "text/*",
]
_TOKEN = r"[a-z0-9!#$%&'+\-.^_`|~]+"  # noqa: S105  # no secret: a name
_TYPE = re.compile(rf"{_TOKEN}/(?:{_TOKEN}|\*)")
_CALLED_ELSEWHERE = {
    "brotli": "br",
    "gz": "gzip",
    "x-gzip": "gzip",
    "zst": "zstd",
    "zstandard": "zstd",
}


def _encoding(value: object) -> object:
    if value in ENCODINGS:
        return value
    ours = _CALLED_ELSEWHERE.get(str(value).lower())
    hint = f"write {ours}" if ours else None
    if value == "deflate":
        hint = "programs differ about what it is: gzip is the same with a checksum"
    raise fault(f"expected br, gzip or zstd, not {shown(value)}", hint)


def _each_once(value: list[Encoding]) -> list[Encoding]:
    for at, encoding in enumerate(value):
        if encoding in value[:at]:
            raise fault(f"{encoding} is there twice", at=(at,))
    return value


def _media_type(value: object) -> str:
    text = value.lower() if isinstance(value, str) else ""
    if _TYPE.fullmatch(text):
        return text
    hint = None
    if text in ("*", "*/*"):
        hint = "pictures and archives are compressed already: name those that are not"
    elif ";" in text:
        hint = "parameters such as charset are none of it"
    elif re.fullmatch(_TOKEN, text):
        hint = f'write "{text}/*" for all of its kind'
    raise fault(
        f'expected a media type like "text/*" or application/json, not {shown(value)}', hint
    )


def _level(value: object) -> object:
    if value in ("best", "fastest", "default", "max") or (value == 0 and value is not False):
        hint = "write a number, or leave it out; to compress nothing leave the coding out"
        raise fault(f"expected a level as a whole number, not {shown(value)}", hint)
    return value


class Levels(Model):
    """How hard each coding tries: a higher level takes longer, for a little less."""

    br: Annotated[
        int,
        BeforeValidator(_level),
        Field(ge=1, le=6, description="Of brotli. 6 is a half slower than 4."),
    ] = 4
    gzip: Annotated[
        int,
        BeforeValidator(_level),
        Field(ge=1, le=9, description="Of gzip, as nginx's gzip_comp_level. 6 takes twice as 3."),
    ] = 3
    zstd: Annotated[
        int,
        BeforeValidator(_level),
        Field(ge=1, le=12, description="Of Zstandard. 9 takes three times as long as 3."),
    ] = 3


class Compression(Model):
    """Which answers are compressed, and how."""

    encodings: Annotated[
        list[Annotated[Encoding, BeforeValidator(_encoding)]],
        AfterValidator(_each_once),
        Field(
            min_length=1,
            max_length=len(ENCODINGS),
            description=(
                "Codings, the most wanted first: of those that a client likes best "
                "(Accept-Encoding) the first is taken."
            ),
            examples=[["zstd", "gzip"]],
        ),
    ] = Field(default_factory=lambda: list(ENCODINGS))
    levels: Annotated[
        Levels,
        Field(
            description=(
                "How hard each tries. Higher ones take longer for a little less, and of the time "
                "that a worker has for it in a turn the others get what they leave."
            ),
            examples=[{"gzip": 6}],
        ),
    ] = Levels.of_value({})
    min_bytes: Annotated[
        Annotated[int, Measured("size", "1B", "1GiB")],
        Field(description="Shorter answers stay as they are, where their length is known."),
    ] = 1024
    private: Annotated[
        bool,
        Field(
            description=(
                "Answers with Set-Cookie or Cache-Control: private are compressed too. Their "
                "length then tells of what is secret in them, if others can have something put in "
                "beside it (BREACH)."
            )
        ),
    ] = False
    types: Annotated[
        list[Annotated[str, BeforeValidator(_media_type)]],
        SortedUnique,
        Field(
            min_length=1,
            max_length=LISTED_MAX,
            description="Media types that are compressed; `text/*` is all of text.",
            examples=[["application/json", "text/*"]],
        ),
    ] = Field(default_factory=lambda: list(TYPES))

    @model_validator(mode="after")
    def _has_levels_of_its_own(self) -> Self:
        # One that is written as it is anyway says nothing.
        for name in self.levels.value():
            if name not in self.encodings:
                hint = f"add {name} to encodings, or leave its level out"
                message = f"{name} is not among the encodings"
                raise fault(message, hint, ("levels", name, KEY))
        return self


InheritedCompression = Annotated[
    Annotated[
        Annotated[Literal["inherit"], A_WORD] | Annotated[Compression, A_MAP],
        BY_FORM,
    ]
    | None,
    Field(
        description=(
            "Which answers are compressed, a backend's and our own. inherit: as policies say that "
            "hold here, and without one none is. null: none is, whatever they say."
        ),
        examples=[{"encodings": ["zstd", "gzip"]}],
    ),
    inherit_or(Compression, "{} for all defaults, {encodings: [zstd, gzip]}"),
]
