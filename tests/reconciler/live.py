"""A daemon with two workers on a small shop, for the tests of what the daemon does."""

from __future__ import annotations

import http.client
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.harness.daemon import Kakehi
from tests.harness.ports import address, split
from tests.harness.rawbackend import RawBackend
from tests.harness.repo import Repo


class Shop:
    """Two backends that tell their names, one listener, one frontend; and the daemon."""

    def __init__(self, directory: Path, workers: int = 2, options: tuple[str, ...] = ()) -> None:
        self.repo = Repo(directory / "repository")
        self.listener = address()
        self.backends = [RawBackend(), RawBackend()]
        self.daemon = Kakehi(self.repo, workers=workers, options=options)

    def files(self, backend: int = 0, **settings: Any) -> dict[str, Any]:
        """The configuration that leads to one of the backends."""
        target = self.backends[backend].address
        given = {"access_log": str(self.daemon.access_log), **settings}
        return {
            "settings.yaml": {"settings": given},
            "listeners.yaml": {"listeners": {"public": {"address": self.listener}}},
            "shop.yaml": {
                "clusters": {"shop": {"backends": {"one": {"address": target}}}},
                "frontends": {"web": {"listeners": ["public"], "cluster": "shop"}},
            },
        }

    def commit(self, backend: int = 0, **settings: Any) -> str:
        """Commit it, and wait until it is served."""
        return self.daemon.commit(self.files(backend, **settings))

    def start(self, **settings: Any) -> None:
        self.repo.commit(self.files(0, **settings))
        self.daemon.start()

    def begin(self) -> None:
        """What `start` leaves, of a daemon that tests share."""
        self.daemon.begin(self.files(0))

    def stop(self, *, check: bool = True) -> None:
        try:
            self.daemon.stop(check=check)
        finally:
            self._stop_backends()

    def _stop_backends(self) -> None:
        for backend in self.backends:
            backend.stop()

    def get(self, where: str | None = None, path: str = "/") -> int:
        """The status of a request on a fresh connection."""
        connection = http.client.HTTPConnection(*split(where or self.listener), timeout=5)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        finally:
            connection.close()

    def served_by(self) -> int:
        """Which backend gets a request now."""
        before = [len(backend.requests) for backend in self.backends]
        assert self.get() == 200
        after = [len(backend.requests) for backend in self.backends]
        (found,) = [index for index in range(2) if after[index] > before[index]]
        return found

    # The daemon's process.

    @property
    def pid(self) -> int:
        assert self.daemon.process is not None
        return self.daemon.process.pid

    def crash(self) -> None:
        """SIGKILL the control plane alone."""
        assert self.daemon.process is not None
        self.daemon._remember()
        os.kill(self.pid, signal.SIGKILL)
        self.daemon.process.wait(10)

    def leave(self) -> int:
        """SIGTERM the control plane; its exit code."""
        assert self.daemon.process is not None
        self.daemon._remember()
        os.kill(self.pid, signal.SIGTERM)
        return self.daemon.process.wait(10)


@contextmanager
def shop(
    directory: Path, workers: int = 2, options: tuple[str, ...] = (), **settings: Any
) -> Iterator[Shop]:
    """A running shop."""
    made = Shop(directory, workers, options)
    try:
        made.start(**settings)
        yield made
    finally:
        made.stop()


def eventually(condition: Callable[[], object], timeout_s: float = 40.0) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.02)


def serves(running: Shop) -> bool:
    try:
        return running.get() == 200
    except OSError:
        return False
