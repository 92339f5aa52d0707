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


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsSite]:
    """Two workers, of all tests of a module: `begin` is the start of each."""
    with TlsSite(tmp_path_factory.mktemp("site")) as made:
        yield made


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsSite]:
    """One worker, the same: what a connection leaves behind, the next one finds."""
    with TlsSite(tmp_path_factory.mktemp("site"), workers=1) as made:
        yield made
