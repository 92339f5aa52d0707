"""Heads that grow with what a client sends: they end at the bound of its listener everywhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import metrics, ports, rawclient
from tests.harness.daemon import Kakehi
from tests.harness.h2client import H2Client
from tests.harness.rawbackend import RawBackend
from tests.harness.repo import Repo

# Six times in one value, in sixteen fields: what fits once does not fit then.
MANY = {"set": {f"X-Out-{number}": "{header:x-in}" * 6 for number in range(16)}}
FULL = "/x/" + "{header:x-in}" * 40
ENDS: dict[str, dict[str, Any]] = {
    "forth": {"cluster": "app", "request_headers": MANY},
    "back": {"cluster": "app", "response_headers": MANY},
    "asked": {
        "cluster": "app",
        "response_headers": MANY,
        "forward_auth": {"cluster": "app", "path": "/verify"},
    },
    "path": {"cluster": "app", "rewrite": {"path": {"full": FULL}}},
    "away": {"redirect": {"path": {"full": FULL}}},
    "said": {"respond": {"body": "ok\n"}, "response_headers": MANY},
}
BOUND = 32_768
COUNTER = "kakehi_rejected_431_total"


class Growing:
    """One worker, and a frontend for each way to let a head grow."""

    def __init__(self, directory: Path) -> None:
        self.backend = RawBackend()
        self.address, self.admin = ports.address(), ports.address()
        self.daemon = Kakehi(Repo(directory), workers=1)
        document = {
            "settings": {"access_log": str(self.daemon.access_log), "admin": self.admin},
            "listeners": {"plain": {"address": self.address, "h2c": True}},
            "clusters": {"app": {"backends": {"b": {"address": self.backend.address}}}},
            "frontends": {
                name: {"listeners": ["plain"], "hostname": f"{name}.test"} | end
                for name, end in ENDS.items()
            },
        }
        self.daemon.repo.commit({"kakehi.yaml": document})
        self.daemon.start()

    def stop(self) -> None:
        self.daemon.stop()
        self.backend.stop()

    def ask(self, name: str, size: int, version: str) -> tuple[int, int]:
        """The status, and how long the fields of the answer are."""
        value = "a" * size
        if version == "h2":
            with H2Client(self.address) as client:
                stream = client.get(f"{name}.test", ("x-in", value))
                client.read_until(lambda: stream in client.ended)
                head = client.heads[stream]
                return int(head[":status"]), sum(len(text) for text in head.values())
        with rawclient.Connection(self.address) as connection:
            answer = connection.get(f"{name}.test", "/", f"X-In: {value}")
        return answer.status, sum(len(text) for _, text in answer.fields)


@pytest.fixture(scope="module")
def growing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Growing]:
    running = Growing(tmp_path_factory.mktemp("growing"))
    yield running
    running.stop()


@pytest.mark.parametrize("version", ["http", "h2"])
@pytest.mark.parametrize("name", ENDS)
def test_a_head_that_a_client_multiplies_is_refused(
    growing: Growing, name: str, version: str
) -> None:
    counted = metrics.scrape(growing.admin)[COUNTER]
    growing.backend.reset()
    status, length = growing.ask(name, 9000, version)
    assert (status, length < 1000) == (431, True)
    assert [asked.target for asked in growing.backend.requests if asked.target != b"/verify"] == []
    is_it = {"frontend": name, "outcome": "edited_head_too_large", "status": 431}.items()
    growing.daemon.wait_for_access(lambda each: is_it <= each.items(), 1)
    metrics.wait_for(growing.admin, lambda numbers: numbers[COUNTER] == counted + 1)


@pytest.mark.parametrize("version", ["http", "h2"])
@pytest.mark.parametrize("name", ENDS)
def test_what_fits_passes(growing: Growing, name: str, version: str) -> None:
    status, length = growing.ask(name, 300, version)
    assert status == (302 if name == "away" else 200)
    assert length < BOUND
    assert (length > 28_800) == (name in ("back", "asked", "said"))
