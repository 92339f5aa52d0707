"""The base of all models, and the one way a model says that a value is wrong.

Every model in `schemas/` derives from `Model`: frozen, strict (no guessing from text to number) and
closed (an unknown key is an error). A check that needs a sentence of its own raises `fault(...)`;
the validator of the reconciler puts file, line and column in front of it.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic_core import PydanticCustomError

FAULT = "kakehi_fault"
"""The error type of `fault`, by which the validator knows that the sentence is ours already."""

SHOWN_CHARS_MAX = 60
"""A wrong value is quoted up to this length: enough to recognise it, and never a whole file."""


class Model(BaseModel):
    """What all kinds share. `value()` is the canonical value of design §5: plain, with defaults."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    def value(self) -> dict[str, Any]:
        """Return the canonical value: only str, int, bool, null, list and dict."""
        return self.model_dump(mode="python")


def fault(message: str, hint: str | None = None) -> PydanticCustomError:
    """Return the error to raise from a model's check; `hint` says how to mend it."""
    # The message is passed as context, because pydantic would take braces in it for placeholders.
    return PydanticCustomError(FAULT, "{message}", {"message": message, "hint": hint or ""})


def shown(value: object) -> str:
    """Return a value as an operator wrote it, cut to a length that fits a message."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a map"
    if isinstance(value, (list, tuple)):
        return "a list"
    text = f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= SHOWN_CHARS_MAX else text[: SHOWN_CHARS_MAX - 1] + "…"
