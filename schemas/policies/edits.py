"""Header fields that are set, added and removed. Part of frontend and policy.

What frames a message, is about one connection, or is the proxy's own to say, cannot be edited: each
of these names is refused with the key that does what was meant.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, model_validator

from schemas.base import KEY, Model, fault, no_items, shown
from schemas.values.forms import A_LIST, A_MAP, A_WORD, LIST, MAP, WORD
from schemas.values.names import SortedUnique, is_token
from schemas.values.templates import check_groups, check_template

EDITS_MAX = 32
"""Each costs a look at every line."""
LINES_MAX = 16
"""Of one name."""

_FRAMING = {
    "connection": "connections are the proxy's own",
    "content-length": "bodies are framed anew",
    "date": "it is that of the answer",
    "expect": "it is passed on as it comes",
    "http2-settings": "HTTP/2 has keys of its own: h2c of a listener, protocol of a cluster",
    "keep-alive": "how long connections live is said by timeouts: of listener and cluster",
    "proxy": "programs take it for a variable of theirs",
    "proxy-authenticate": "it is for proxies that clients know of",
    "proxy-authentication-info": "it is for proxies that clients know of",
    "proxy-authorization": "it is for proxies that clients know of",
    "proxy-connection": "connections are the proxy's own",
    "sec-websocket-accept": "it is part of a handshake",
    "sec-websocket-key": "it is part of a handshake",
    "sec-websocket-version": "it is part of a handshake",
    "te": "it is for one connection",
    "trailer": "trailers are passed on as they come",
    "transfer-encoding": "bodies are framed anew",
    "upgrade": 'protocols that may be switched to are named by "upgrades:"',
    "via": "each proxy on the way has to say it",
}
_FORWARDING = "it is written for every request; whose word goes before is said by trusted_proxies"
_IN_REQUESTS = _FRAMING | {
    "client-cert": "it is written for clients with a certificate (tls: {client_ca: …})",
    "client-cert-chain": "it is written for clients with a certificate (tls: {client_ca: …})",
    "early-data": "it is said of early data alone",
    "forwarded": _FORWARDING,
    "host": 'write "rewrite: {hostname: …}"',
    "x-forwarded-for": _FORWARDING,
    "x-forwarded-host": _FORWARDING,
    "x-forwarded-port": _FORWARDING,
    "x-forwarded-proto": _FORWARDING,
    "x-request-id": "every request has one; {request_id} is its value",
}
_IN_RESPONSES = _FRAMING | {
    "host": "it is of requests",
    "kakehi-generation": 'it is switched on by "generation_header: true" under settings:',
    "strict-transport-security": 'write "hsts: {max_age_days: 365}"',
}


def parse_field_name(value: object) -> str:
    """Return the name of a header field as it is written."""
    if not is_token(value):
        better = re.sub(r"[ _]+", "-", value.strip(" :")) if isinstance(value, str) else ""
        hint = f'did you mean "{better}"?' if is_token(better) else None
        raise fault(f'expected the name of a header like "X-Tier", not {shown(value)}', hint)
    return value


def _value(value: object) -> str:
    if isinstance(value, list):
        hint = "one line stands in place of those that are there; several stand under add:"
        raise fault("expected text, not a list", hint)
    text = check_template(value)
    if not text:
        raise fault("the text is empty: a header without a value is none", 'name it in "remove:"')
    if text != text.strip():
        raise fault("the text begins or ends with a space, which no header value does")
    return text


def _only_text(value: str) -> str:
    if not value.isprintable():
        raise fault("the text has characters that cannot be printed")
    return value


def _one_is_no_list(value: str | list[str]) -> str | list[str]:
    return value[0] if isinstance(value, list) and len(value) == 1 else value


FieldName = Annotated[str, BeforeValidator(parse_field_name)]
FieldText = Annotated[str, BeforeValidator(_value), AfterValidator(_only_text)]
FieldTexts = Annotated[list[FieldText], Field(min_length=1, max_length=LINES_MAX)]


class AnswerLine(Model):
    """A line, and which answers have it."""

    answers: Annotated[
        Literal["all", "success"],
        Field(
            description=(
                "success: those with a status below 400. all: errors of the proxy's own as well, "
                "which else keep what they say of how long they may be kept."
            )
        ),
    ]
    text: Annotated[FieldText, Field(description="What the line says.", examples=["max-age=60"])]


def _form_of(value: object) -> str:
    return LIST if isinstance(value, list) else _form_of_one(value)


def _form_of_one(value: object) -> str:
    # A template without quotes is a map as well, and has a message of its own.
    is_line = isinstance(value, AnswerLine) or (
        isinstance(value, dict) and not value.keys().isdisjoint(AnswerLine.model_fields)
    )
    return MAP if is_line else WORD


Line = Annotated[
    Annotated[FieldText, A_WORD] | Annotated[AnswerLine, A_MAP], Discriminator(_form_of_one)
]


Lines = Annotated[
    Annotated[
        Annotated[FieldText, A_WORD] | Annotated[FieldTexts, A_LIST], Discriminator(_form_of)
    ],
    AfterValidator(_one_is_no_list),
]
AnswerLines = Annotated[
    Annotated[
        Annotated[FieldText, A_WORD] | Annotated[AnswerLine, A_MAP] | Annotated[FieldTexts, A_LIST],
        Discriminator(_form_of),
    ],
    AfterValidator(_one_is_no_list),
]
"""What add says: a list is for several lines of one name, as of `Set-Cookie`."""
SaidLine = AnswerLine | str | list[str] | None


class Edits(Model):
    """What is done with fields of a head: first all of set and remove go, then our lines come."""

    remove: Annotated[
        list[FieldName],
        SortedUnique,
        Field(description="Names that are left out.", examples=[["Server"]]),
    ] = Field(default_factory=no_items)

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        seen: dict[str, tuple[str, ...]] = {}
        for place in self.places():
            name = place[1]
            if seen.setdefault(name.lower(), place) != place:
                hint = "set replaces what is there, add does not"
                raise fault(f"{name} is named twice", hint, _of_name(*place))
        if len(seen) > EDITS_MAX:
            raise fault(f"there are {len(seen)} fields; at most {EDITS_MAX} may be edited")
        return self

    def places(self) -> Iterator[tuple[str, str]]:
        """Yield the names of all fields that are edited, behind where each stands."""
        for key, lines in self.lines():
            yield from ((key, name) for name in lines)
        yield from (("remove", name) for name in self.remove)

    def lines(self) -> Iterator[tuple[str, Mapping[str, SaidLine]]]:
        """Yield what set and add say, behind which of them it is."""
        raise NotImplementedError


class HeaderEdits(Edits):
    """What is done with header fields: first all of set and remove go, then our lines come."""

    add: Annotated[
        dict[FieldName, Lines | None],
        Field(
            description=(
                "Lines beside those that are there, several of one name in a list. null: nothing "
                "is done with this header, whatever policies say."
            ),
            examples=[{"Vary": "Cookie"}],
        ),
    ] = Field(default_factory=dict)
    set: Annotated[
        dict[FieldName, FieldText | None],
        Field(
            description=(
                "Lines in place of those that are there. null: nothing is done with this header, "
                "whatever policies say."
            ),
            examples=[{"X-Real-IP": "{client_address}"}],
        ),
    ] = Field(default_factory=dict)

    def lines(self) -> Iterator[tuple[str, Mapping[str, SaidLine]]]:
        """Yield what set and add say, behind which of them it is."""
        yield "set", self.set
        yield "add", self.add


class AnswerEdits(Edits):
    """The same of answers, some of which may be for a part of them."""

    add: Annotated[
        dict[FieldName, AnswerLines | None],
        Field(
            description=(
                "Lines beside those that are there, in all answers or in some; several of one "
                "name in a list. null: nothing is done with this header, whatever policies say."
            ),
            examples=[{"Vary": "Cookie"}, {"Set-Cookie": ["a=1", "b=2"]}],
        ),
    ] = Field(default_factory=dict)
    set: Annotated[
        dict[FieldName, Line | None],
        Field(
            description=(
                "Lines in place of those that are there, in all answers or in some. null: nothing "
                "is done with this header, whatever policies say."
            ),
            examples=[{"Cache-Control": {"text": "max-age=86400", "answers": "success"}}],
        ),
    ] = Field(default_factory=dict)

    def lines(self) -> Iterator[tuple[str, Mapping[str, SaidLine]]]:
        """Yield what set and add say, behind which of them it is."""
        yield "set", self.set
        yield "add", self.add


def _of_name(key: str, name: str) -> tuple[str, ...]:
    return (key, name) if key == "remove" else (key, name, KEY)


RequestEdits = Annotated[
    HeaderEdits,
    Field(
        description="What is done with the headers of requests to backends.",
        examples=[{"set": {"X-Real-IP": "{client_address}"}}],
    ),
]
"""Those of a frontend and of a policy, each of which checks them by `check_edits`."""

ResponseEdits = Annotated[
    AnswerEdits,
    Field(
        description=(
            "What is done with the headers of all answers to clients, the proxy's own included: "
            "only that these keep their Cache-Control: no-store where they are errors. "
            "{text: …, answers: success} in place of a text is for no errors at all."
        ),
        examples=[
            {"set": {"X-Frame-Options": "DENY"}, "remove": ["Server"]},
            {"set": {"Cache-Control": {"text": "max-age=86400", "answers": "success"}}},
        ],
    ),
]
"""As above, of answers."""


def check_copied(names: list[str]) -> list[str]:
    """Return names of headers that requests get from somebody else's answer, each once."""
    seen: dict[str, str] = {}
    for name in names:
        reason = _IN_REQUESTS.get(name.lower().replace("_", "-"))
        if reason is not None:
            raise fault(f"{name} is the proxy's own to say", reason, (name,))
        first = seen.setdefault(name.lower(), name)
        if first != name:
            raise fault(f'"{first}" and "{name}" are the same header', at=(name,))
    return names


def check_edits(edits: Edits, groups: frozenset[str], *, of_requests: bool) -> None:
    """Raise a fault about names that are not to be edited, and values that are none."""
    ours = _IN_REQUESTS if of_requests else _IN_RESPONSES
    for key, name in edits.places():
        # Others read "_" as "-".
        reason = ours.get(name.lower().replace("_", "-"))
        if reason is not None:
            raise fault(f"{name} is the proxy's own to say", reason, _of_name(key, name))
    for key, lines in edits.lines():
        for name, line in lines.items():
            if isinstance(line, AnswerLine):
                check_groups(line.text, groups, at=(key, name, "text"))
            elif isinstance(line, list):
                for number, text in enumerate(line):
                    check_groups(text, groups, at=(key, name, number))
            elif line is not None:
                check_groups(line, groups, at=(key, name))
