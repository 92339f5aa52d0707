"""The fixtures of the fault tests: a site, and files that touch every kind of entity."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.site import Site


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site(tmp_path, ["steady", "red", "blue"]) as made:
        yield made
