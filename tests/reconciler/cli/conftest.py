"""A git repository for the tests of commands that read one."""

from pathlib import Path

import pytest

from tests.harness.repo import Repo

VALID = """\
listeners:
  web: {address: "127.0.0.1:18080"}
clusters:
  shop:
    backends:
      shop-1: {address: "127.0.0.1:9001"}
frontends:
  shop: {listeners: [web], cluster: shop}
"""


@pytest.fixture
def shop(tmp_path: Path) -> Repo:
    """Return a repository whose only commit holds a valid configuration."""
    repo = Repo(tmp_path / "shop")
    repo.commit({"shop.yaml": VALID})
    return repo
