"""Where the suites of others are installed (`tests/install-tools`), and how a test asks for one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

_BIN = Path(sys.prefix) / "suites" / "bin"


def program(name: str) -> str:
    """The path of a suite's program; skips the test that asks, when it could not be installed."""
    found = _BIN / name
    if not found.exists():
        pytest.skip(f"tests/install-tools could not install {name}")
    return str(found)
