"""The fixtures of the end-to-end suites; tests/conftest.py makes them known to pytest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.harness import ports
from tests.harness.daemon import Kakehi
from tests.harness.gateway import Gateway, Lane
from tests.harness.nginx import Nginx
from tests.harness.rawbackend import RawBackend, Script
from tests.harness.repo import Repo


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    """An empty git repository."""
    return Repo(tmp_path / "repository")


@pytest.fixture
def daemons(tmp_path: Path) -> Iterator[Callable[..., Kakehi]]:
    """Make daemons: `daemons(repo, workers=2)`; not started yet, ended with the test."""
    made: list[Kakehi] = []

    def make(repo: Repo | None = None, **options: object) -> Kakehi:
        where = repo or Repo(tmp_path / f"repository-{len(made)}")
        daemon = Kakehi(where, **options)  # type: ignore[arg-type]
        made.append(daemon)
        return daemon

    yield make
    for daemon in made:
        if daemon.process is not None:
            daemon.stop()


@pytest.fixture
def backends() -> Iterator[Callable[..., RawBackend]]:
    """Make raw backends: `backends(script)`; ended with the test."""
    made: list[RawBackend] = []

    def make(script: Script | None = None) -> RawBackend:
        made.append(RawBackend(script))
        return made[-1]

    yield make
    for backend in made:
        backend.stop()


class Nowhere:
    """Addresses that no backend answers at; the end of the test gives them back."""

    def __init__(self) -> None:
        self.made: list[ports.Refusing | ports.Unanswering] = []

    def refusing(self) -> str:
        """An address where connections are refused."""
        self.made.append(ports.Refusing())
        return self.made[-1].address

    def unanswering(self) -> str:
        """An address where connecting never completes."""
        self.made.append(ports.Unanswering())
        return self.made[-1].address


@pytest.fixture
def nowhere() -> Iterator[Nowhere]:
    """Make addresses that lead nowhere: `nowhere.refusing()`, `nowhere.unanswering()`."""
    addresses = Nowhere()
    yield addresses
    for each in addresses.made:
        each.close()


@pytest.fixture(scope="session")
def shared_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    gateway = Gateway(tmp_path_factory.mktemp("gateway"))
    gateway.start()
    yield gateway
    gateway.stop()


@pytest.fixture
def gateway(shared_gateway: Gateway) -> Iterator[Gateway]:
    """The shared daemon with one worker; a worker that dies fails the test."""
    yield shared_gateway
    shared_gateway.end_test([])


@pytest.fixture
def lane(shared_gateway: Gateway) -> Iterator[Lane]:
    """A hostname of the shared daemon with a raw backend that nobody else uses now."""
    # Oldest first: the proxy has long seen how the last test's connections ended.
    taken = shared_gateway.lanes.popleft()
    yield taken
    shared_gateway.lanes.append(taken)
    shared_gateway.end_test([taken])


@pytest.fixture
def anyhost(shared_gateway: Gateway) -> Iterator[Lane]:
    """The lane of the listener that takes any hostname, and none."""
    yield shared_gateway.anyhost
    shared_gateway.end_test([shared_gateway.anyhost])


@pytest.fixture(scope="session")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    """Debian's nginx with a few files and locations."""
    locations = """
        location = /put { dav_methods PUT; create_full_put_path on; }
        location /redirect { return 302 /file.txt; }
        location /empty { return 204; }
        location /echo-host { return 200 "$host|$http_x_forwarded_for|$http_x_request_id"; }
"""
    backend = Nginx(tmp_path_factory.mktemp("nginx"), locations)
    (backend.files / "file.txt").write_text("a file that nginx serves\n")
    (backend.files / "large.bin").write_bytes(bytes(range(256)) * 8192)  # 2 MiB
    (backend.files / "text.txt").write_text("compressible " * 2000)
    yield backend
    backend.stop()
