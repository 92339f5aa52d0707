"""The sites of the TLS suite."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.tlssite import TlsSite


@pytest.fixture
def site(tmp_path: Path) -> Iterator[TlsSite]:
    """Two workers, not started yet."""
    with TlsSite(tmp_path) as made:
        yield made


@pytest.fixture
def lone(tmp_path: Path) -> Iterator[TlsSite]:
    """One worker, not started yet: what a connection leaves behind, the next one finds."""
    with TlsSite(tmp_path, workers=1) as made:
        yield made
