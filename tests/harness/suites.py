"""Where the suites of others are installed (`tests/install-tools`), and how a test asks for one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

_PYTHON = Path(sys.prefix) / "suites" / "bin"
_GO = Path(sys.prefix) / "bin"


def program(name: str) -> str:
    """The path of a suite's program; skips the test that asks, when it could not be installed."""
    return _installed(_PYTHON / name)


def go_program(name: str) -> str:
    """The same for what is built with Go."""
    return _installed(_GO / name)


def _installed(program: Path) -> str:
    if not program.exists():
        pytest.skip(f"tests/install-tools could not install {program.name}")
    return str(program)
