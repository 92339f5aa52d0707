"""A daemon whose cluster speaks HTTP/2 to a backend that a test scripts.

The tests of a module share one, in which each has names and addresses of its own.
"""

from __future__ import annotations

import itertools
import json
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.harness import metrics, ports
from tests.harness.daemon import Kakehi
from tests.harness.h2backend import H2Backend, Request
from tests.harness.rawclient import Connection
from tests.harness.repo import Content, Repo

Script = Callable[[Request], None]


_NUMBERS = itertools.count()


class Shared:
    """The daemon, which the first front starts; use as a context manager."""

    def __init__(self, directory: Path) -> None:
        self.daemon = Kakehi(Repo(directory / "repository"))
        self.admin = ports.address()
        self.workers: list[int] = []

    def __enter__(self) -> Shared:
        return self

    def __exit__(self, *_: object) -> None:
        if self.daemon.process is not None:
            self.daemon.stop()

    def serve(self, files: Mapping[str, Content]) -> None:
        """Commit these files and serve them, in the place of what another front had."""
        if self.daemon.process is None:
            self.daemon.repo.commit(files)
            self.daemon.start()
        else:
            assert self.daemon.worker_pids() == self.workers
            self.daemon.commit(files)
        self.workers = self.daemon.worker_pids()


class Front:
    """One worker; a listener in clear text that takes HTTP/1.1 and HTTP/2; one cluster."""

    def __init__(self, directory: Path, shared: Shared) -> None:
        self.name = f"front{next(_NUMBERS)}"
        self.directory, self.address = directory, ports.address()
        self.shared, self.daemon, self.admin = shared, shared.daemon, shared.admin
        self.backends: list[H2Backend] = []
        self._counted: dict[str, float] = {}

    def __enter__(self) -> Front:
        return self

    def __exit__(self, *_: object) -> None:
        for backend in self.backends:
            backend.stop()

    def backend(self, script: Script | None = None, **options: Any) -> H2Backend:
        self.backends.append(H2Backend(script, **options))
        return self.backends[-1]

    def document(self, *addresses: str, **cluster: Any) -> dict[str, Any]:
        return {
            "settings": {
                "access_log": str(self.daemon.access_log),
                "admin": self.admin,
                "drain_timeout": "3s",
            },
            "listeners": {self.name: {"address": self.address, "h2c": True}},
            "clusters": {
                self.name: {
                    "protocol": "h2",
                    **cluster,
                    "backends": {
                        f"b{number}": {"address": address}
                        for number, address in enumerate(addresses)
                    },
                }
            },
            "frontends": {self.name: {"listeners": [self.name], "cluster": self.name}},
        }

    def start(self, *addresses: str, **cluster: Any) -> None:
        self.serve({"kakehi.yaml": self.document(*addresses, **cluster)})

    def serve(self, files: Mapping[str, Content]) -> None:
        """Begin with these files, which are what `document` gives and what else it names."""
        self.shared.serve(files)
        self._counted = metrics.scrape(self.admin)

    def commit(self, *addresses: str, **cluster: Any) -> None:
        self.daemon.commit({"kakehi.yaml": self.document(*addresses, **cluster)})

    def connect(self, **options: Any) -> Connection:
        return Connection(self.address, **options)

    def curl(self, path: str = "/", *arguments: str) -> tuple[int, str, bytes]:
        """Status, HTTP version and body of one request by curl."""
        output = ["-s", "--max-time", "20", "-w", "\n%{json}"]
        done = subprocess.run(
            ["curl", *output, *arguments, f"http://{self.address}{path}"],
            capture_output=True,
            timeout=30,
            check=False,
        )
        body, _, about = done.stdout.rpartition(b"\n")
        told = json.loads(about)
        return told["http_code"], told["http_version"], body

    def counted(self, name: str) -> float:
        """A metric since the start, over all its labels."""
        sample = f"kakehi_{name}"
        return metrics.scrape(self.admin).get(sample, 0) - self._counted.get(sample, 0)

    def outcomes(self, count: int) -> list[tuple[int, str]]:
        """Status and outcome of so many requests, as the access log has them."""
        entries = self.daemon.wait_for_access(lambda each: each["listener"] == self.name, count)
        return [(entry["status"], entry["outcome"]) for entry in entries]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    with Shared(tmp_path_factory.mktemp("shared")) as made:
        yield made


@pytest.fixture
def front(tmp_path: Path, shared: Shared) -> Iterator[Front]:
    with Front(tmp_path, shared) as made:
        yield made
