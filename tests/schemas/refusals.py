"""Asks a model for the sentence with which it refuses a value."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from reconciler.language.wording import wording
from schemas.kinds.registry import MODELS


def refusal(kind: str, value: dict[str, Any]) -> str:
    """Return the first sentence about a value that must be refused."""
    with pytest.raises(ValidationError) as caught:
        MODELS[kind].model_validate(value)
    return wording(kind, caught.value.errors()[0])[0]
