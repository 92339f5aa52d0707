"""What clients have to show of themselves by a certificate. Part of frontend and policy.

Whether they are asked for one at all is said by the listener. None of these words replaces another:
a client has to be whom each of them means.
"""

import ipaddress
import re
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from schemas.base import Model, fault, no_items, shown
from schemas.policies.nulls import ADDS_UP
from schemas.values.forms import A_MAP, A_WORD, BY_FORM
from schemas.values.names import SortedUnique
from schemas.values.subjects import canonical

LISTED_MAX = 256

_SHA256 = re.compile(r"[0-9a-f]{64}")
_STAR_AMIDST = re.compile(r".\*.|^\*(?!\.)|(?<!/)\*$")
_AS_OPENSSL = 'openssl x509 -noout -subject -nameopt RFC2253 prints it: "CN=alice,O=Shop"'


def parse_subject(value: object) -> str:
    """Return a subject as RFC 4514 writes it, `CN=alice,O=Shop`, in the form of the engine."""
    if not isinstance(value, str):
        raise fault(f"expected a subject, not {shown(value)}")
    try:
        return canonical(value)
    except ValueError:
        raise fault(f"expected a subject, not {shown(value)}", _AS_OPENSSL) from None


def parse_fingerprint(value: object) -> str:
    """Return the SHA-256 of a certificate, in small digits without colons."""
    if isinstance(value, str):
        digits = value.removeprefix("sha256:").replace(":", "").lower()
        if _SHA256.fullmatch(digits):
            return digits
    hint = "openssl x509 -noout -fingerprint -sha256 prints it"
    raise fault(f"expected the SHA-256 of a certificate, not {shown(value)}", hint)


def parse_san(value: object) -> str:
    """Return an alternative name, or what all of them are below."""
    if not isinstance(value, str) or not value or not value.isascii() or " " in value:
        raise fault(f"expected a name like client.example.com, not {shown(value)}")
    if _STAR_AMIDST.search(value):
        hint = 'write "*.example.com", or "spiffe://example.com/shop/*"'
        raise fault(f"{shown(value)}: all below a name is what a * stands for", hint)
    if "/" in value:
        return value
    mailbox, at, host = value.rpartition("@")
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        return f"{mailbox}{at}{host.lower()}"


class CertificateConditions(Model):
    """Which certificates are meant: each list that is given has to have it."""

    fingerprints: Annotated[
        list[Annotated[str, BeforeValidator(parse_fingerprint)]],
        SortedUnique,
        Field(
            max_length=LISTED_MAX,
            description="SHA-256 of the certificates.",
            examples=[["9f" * 32]],
        ),
    ] = Field(default_factory=no_items)
    names: Annotated[
        list[Annotated[str, BeforeValidator(parse_san)]],
        SortedUnique,
        Field(
            max_length=LISTED_MAX,
            description=(
                "Alternative names (hosts, addresses, mailboxes, URIs), of which a certificate has "
                "one. `*.example.com` is all below it, `spiffe://example.com/shop/*` likewise."
            ),
            examples=[["*.clients.example.com"]],
        ),
    ] = Field(default_factory=no_items)
    subjects: Annotated[
        list[Annotated[str, BeforeValidator(parse_subject)]],
        SortedUnique,
        Field(
            max_length=LISTED_MAX,
            description="Subjects, as `openssl x509 -subject -nameopt RFC2253` prints them.",
            examples=[["CN=alice,O=Shop"]],
        ),
    ] = Field(default_factory=no_items)

    @model_validator(mode="after")
    def _asks_for_something(self) -> Self:
        if not (self.fingerprints or self.names or self.subjects):
            hint = (
                "give one of subjects, names, fingerprints; or write client_certificate: required"
            )
            raise fault("there is no condition", hint)
        return self


def _asked(value: object) -> object:
    if value is None or value == "required" or isinstance(value, (dict, CertificateConditions)):
        return value
    hint = 'or a map like {subjects: ["CN=alice,O=Shop"]}; that clients are asked at all is said by'
    hint += " the listener (tls: {client_ca: …})"
    raise fault(f'expected "required", not {shown(value)}', hint)


CertificateAsked = Annotated[
    Annotated[
        Annotated[Literal["required"], A_WORD] | Annotated[CertificateConditions, A_MAP], BY_FORM
    ]
    | None,
    BeforeValidator(_asked),
    Field(
        description=(
            "required: requests of clients that have shown no certificate are answered by 403, "
            "where the listener leaves it to them (client_auth: optional). A map: of those as well "
            "whose certificate is another one. Of frontend, policies and listener each that asks "
            "for something has to get it. Without it this one leaves it to the others."
        ),
        examples=["required", {"subjects": ["CN=alice,O=Shop"]}],
    ),
    ADDS_UP,
]
