"""A daemon whose cluster speaks HTTP/2 to a backend that a test scripts."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import metrics, ports
from tests.harness.daemon import Kakehi
from tests.harness.h2backend import H2Backend, Request
from tests.harness.rawclient import Connection
from tests.harness.repo import Repo

Script = Callable[[Request], None]


class Front:
    """One worker; a listener in clear text that takes HTTP/1.1 and HTTP/2; one cluster."""

    def __init__(self, directory: Path) -> None:
        self.address, self.admin = ports.address(), ports.address()
        self.repo = Repo(directory / "repository")
        self.daemon = Kakehi(self.repo)
        self.backends: list[H2Backend] = []

    def __enter__(self) -> Front:
        return self

    def __exit__(self, *_: object) -> None:
        if self.daemon.process is not None:
            self.daemon.stop()
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
            "listeners": {"front": {"address": self.address, "h2c": True}},
            "clusters": {
                "shop": {
                    "protocol": "h2",
                    **cluster,
                    "backends": {
                        f"b{number}": {"address": address}
                        for number, address in enumerate(addresses)
                    },
                }
            },
            "frontends": {"all": {"listeners": ["front"], "cluster": "shop"}},
        }

    def start(self, *addresses: str, **cluster: Any) -> None:
        self.repo.commit({"kakehi.yaml": self.document(*addresses, **cluster)})
        self.daemon.start()

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
        """A metric, over all its labels."""
        return metrics.scrape(self.admin).get(f"kakehi_{name}", 0)

    def outcomes(self, count: int) -> list[tuple[int, str]]:
        """Status and outcome of so many requests, as the access log has them."""
        entries = self.daemon.wait_for_access(lambda _: True, count)
        return [(entry["status"], entry["outcome"]) for entry in entries]


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Front]:
    with Front(tmp_path) as made:
        yield made
