"""TRACE: a backend would send a request back, with all that the proxy has put into it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness import ports, rawclient
from tests.harness.daemon import Kakehi
from tests.harness.h2client import H2Client
from tests.harness.rawbackend import RawBackend
from tests.harness.repo import Repo


@pytest.mark.parametrize("version", ["h1", "h2"])
def test_it_is_taken_where_a_frontend_names_it(tmp_path: Path, version: str) -> None:
    address = ports.address()
    with RawBackend() as backend:
        daemon = Kakehi(Repo(tmp_path), workers=1)
        frontend = {"listeners": ["plain"], "cluster": "c"}
        document = {
            "settings": {"access_log": str(daemon.access_log)},
            "listeners": {"plain": {"address": address, "h2c": True}},
            "clusters": {"c": {"backends": {"b": {"address": backend.address}}}},
            "frontends": {
                "any": {**frontend, "hostname": "any.test"},
                "named": {**frontend, "hostname": "named.test", "methods": ["TRACE"]},
            },
        }
        daemon.repo.commit({"kakehi.yaml": document})
        with daemon:
            assert _status(address, "any.test", version) == 405
            assert _status(address, "named.test", version) == 200
            entry, _ = daemon.wait_for_access(lambda entry: True, 2)
            assert (entry["outcome"], entry["frontend"]) == ("trace_refused", "any")
        assert [request.method for request in backend.requests] == [b"TRACE"]


def _status(address: str, host: str, version: str) -> int:
    if version == "h1":
        with rawclient.Connection(address) as client:
            response = client.get(host, "/", method="TRACE")
            if response.status == 405:
                assert b"GET" in response.all("allow")[0]
            return response.status
    with H2Client(address) as h2:
        stream = h2.get(host, method="TRACE")
        h2.read_until(lambda: stream in h2.ended)
        return h2.statuses[stream]
