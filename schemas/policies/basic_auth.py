"""Who may ask by a user's name and a password (RFC 7617). Part of frontend and policy.

None replaces another: a request has to be of a user whom each of them knows.
"""

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from schemas.base import Model, fault, shown
from schemas.entities.material import NamedFile
from schemas.policies.edits import FieldName, check_copied
from schemas.policies.nulls import ADDS_UP

REALM_CHARS_MAX = 128


def _realm(value: object) -> str:
    is_text = isinstance(value, str) and value.isascii() and value.isprintable()
    if not isinstance(value, str) or not is_text or not 0 < len(value) <= REALM_CHARS_MAX:
        raise fault(f'expected a short text in ASCII like "admin", not {shown(value)}')
    if '"' in value or "\\" in value:
        raise fault(f"{shown(value)} has a quote or a backslash, which browsers show as they like")
    return value


Realm = Annotated[str, BeforeValidator(_realm)]
"""What clients are told that they ask for; also for `schemas.policies.jwt`."""


def _sayable(value: str) -> str:
    check_copied([value])
    if value.lower() == "authorization":
        raise fault(f"{value} has the password itself")
    return value


class BasicAuth(Model):
    """Users and their passwords, without whom nobody gets in."""

    header: Annotated[
        Annotated[FieldName, AfterValidator(_sayable)] | None,
        Field(
            description=(
                "A header in which the backend is told the user's name. What the client says in it "
                "is left out. Other characters than printable ASCII are written with %, and so is "
                "% itself. null: it is told in none."
            ),
            examples=["X-User"],
        ),
    ] = None
    realm: Annotated[
        Realm,
        Field(description="What browsers call it when they ask.", examples=["admin"]),
    ]
    users: Annotated[
        NamedFile,
        Field(
            description=(
                "Names and hashes of passwords, line by line, as htpasswd writes them: argon2 (to "
                "64 MiB), bcrypt (to cost 12), SHA-crypt (to 200,000 rounds), and apr1, of which "
                "is warned."
            ),
            examples=["/etc/kakehi/admin.htpasswd"],
        ),
    ]


BasicAuthed = Annotated[
    BasicAuth | None,
    Field(
        description=(
            "Users who may ask, by name and password; all others get 401. Of frontend, policies "
            "and listener each that names users has to know one. Without "
            "it this one leaves it to the others."
        ),
        examples=[{"realm": "admin", "users": "/etc/kakehi/admin.htpasswd"}],
    ),
    ADDS_UP,
]
