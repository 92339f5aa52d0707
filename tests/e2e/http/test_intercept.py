"""Pages of our own in place of a backend's errors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import ports, rawclient, wire
from tests.harness.daemon import Kakehi
from tests.harness.h2backend import H2Backend, Request
from tests.harness.h2client import H2Client
from tests.harness.metrics import scrape
from tests.harness.rawbackend import Exchange, RawBackend
from tests.harness.repo import Repo

PAGE = "<h1>Back in a minute</h1>"
SAID = ("Server", "theirs"), ("Retry-After", "7"), ("WWW-Authenticate", 'Basic realm="a"')
FRONTENDS: dict[str, dict[str, Any]] = {
    "own": {"intercept": [401, 503, 504]},
    "shared": {"policies": ["polished"]},
    "off": {"policies": ["polished"], "intercept": None},
    "open": {},
}


class Intercepting:
    """One worker, whose backends answer with the status that they are asked for."""

    def __init__(self, directory: Path) -> None:
        self.text, self.frames = RawBackend(self._answer), H2Backend(self._stream)
        self.plain, self.admin = ports.address(), ports.address()
        self.daemon = Kakehi(Repo(directory), workers=1)
        clusters: dict[str, Any] = {
            "text": {"backends": {"b": {"address": self.text.address}}},
            "frames": {"protocol": "h2", "backends": {"b": {"address": self.frames.address}}},
        }
        document = {
            "settings": {"admin": self.admin, "access_log": str(self.daemon.access_log)},
            "listeners": {"plain": {"address": self.plain, "h2c": True}},
            "clusters": clusters,
            "policies": {"polished": {"intercept": [503], "error_pages": {"503": {"body": PAGE}}}},
            "frontends": {
                f"{name}-{cluster}": {
                    "listeners": ["plain"],
                    "hostname": f"{name}.{cluster}.test",
                    "cluster": cluster,
                    **keys,
                }
                for name, keys in FRONTENDS.items()
                for cluster in clusters
            },
        }
        self.daemon.repo.commit({"kakehi.yaml": document})
        self.daemon.start()

    @staticmethod
    def _answer(exchange: Exchange) -> None:
        exchange.read_body()
        status = exchange.request.target.decode().strip("/")
        exchange.send(wire.response(b"theirs", status=f"{status} X", fields=SAID))

    @staticmethod
    def _stream(request: Request) -> None:
        request.read()
        lines = [(name.lower(), value) for name, value in SAID]
        request.answer(b"theirs", int(request.path.strip("/")), *lines)

    def get(self, over: str, host: str, status: int) -> tuple[int, dict[str, str], bytes]:
        if over == "http":
            with rawclient.Connection(self.plain) as client:
                got = client.get(host, f"/{status}")
                fields = {name.decode().lower(): value.decode() for name, value in got.fields}
                again = client.get(host, "/200")
                assert (again.status, again.body) == (200, b"theirs"), "on the same connection"
                return got.status, fields, got.body
        with H2Client(self.plain) as client:
            stream = client.get(host, path=f"/{status}")
            client.read_until(lambda: stream in client.ended)
            return client.statuses[stream], client.heads[stream], client.bodies[stream]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Intercepting]:
    made = Intercepting(tmp_path_factory.mktemp("intercepting"))
    yield made
    made.daemon.stop()
    made.text.stop()
    made.frames.stop()


@pytest.mark.parametrize("cluster", ["text", "frames"])
@pytest.mark.parametrize("over", ["http", "h2c"])
def test_a_page_of_ours_stands_in_place_of_a_backends(
    site: Intercepting, over: str, cluster: str
) -> None:
    before = scrape(site.admin)["kakehi_intercepted_total"]
    status, fields, body = site.get(over, f"shared.{cluster}.test", 503)
    assert (status, body.decode()) == (503, PAGE)
    assert (fields.get("server"), fields["retry-after"]) == (None, "7")
    status, fields, body = site.get(over, f"own.{cluster}.test", 401)
    assert (status, fields["www-authenticate"]) == (401, 'Basic realm="a"')
    assert body.startswith(b"401 ")
    assert scrape(site.admin)["kakehi_intercepted_total"] == before + 2
    [entry, *_] = site.daemon.wait_for_access(lambda each: each["outcome"] == "intercepted", 2)
    assert (entry["status"], entry["frontend"], entry["bytes_out"]) == (
        503,
        f"shared-{entry['cluster']}",
        len(PAGE),
    )


@pytest.mark.parametrize("over", ["http", "h2c"])
@pytest.mark.parametrize(
    ("host", "status"), [("own", 500), ("own", 200), ("shared", 504), ("off", 503), ("open", 503)]
)
def test_all_others_are_passed_on(site: Intercepting, over: str, host: str, status: int) -> None:
    got, fields, body = site.get(over, f"{host}.text.test", status)
    assert (got, fields["server"], body) == (status, "theirs", b"theirs")
