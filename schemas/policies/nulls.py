"""What a written null says of policies: one rule for all of their keys.

Where one word counts (of a header by its name, a page by its status, a timeout, CORS as a whole),
null is a word as well: it switches off what policies and listener say behind it. Where everybody's
word counts it could switch off nothing, so that it is refused: a field says so by `ADDS_UP`. In
other kinds, and within a word that counts as a whole, nothing is merged: there null is the default
of some keys, of a few what their description says of it, and of all others it is refused, since it
could be taken for none where it would be the default. Used by the models of this folder, by what
describes them, and where words are merged.
"""

from pydantic import BeforeValidator, ValidationInfo
from pydantic.fields import FieldInfo

from schemas.base import fault


def _lifts_nothing(value: object, info: ValidationInfo) -> object:
    if value is None:
        message = "null switches nothing off: everybody's word counts, the listener's as well"
        hint = (
            "leave it out; for less than a listener's policy asks of all, name that one in the "
            f"frontends that want it, or make it overridable: true and say another "
            f"{info.field_name} here"
        )
        raise fault(message, hint)
    return value


ADDS_UP = BeforeValidator(_lifts_nothing)
"""Marks a field of which everybody's word counts: frontend's, policies' and listener's."""


def adds_up(field: FieldInfo) -> bool:
    """Say whether everybody's word counts of a field."""
    return ADDS_UP in field.metadata
