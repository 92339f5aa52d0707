"""gRPC's own interoperability tests: their client and server in Go, with the proxy between them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import ports, processes, suites
from tests.harness.tlssite import TlsSite

_CASE_S = 60
CASES = [
    "cancel_after_begin",
    "cancel_after_first_response",
    "client_streaming",
    "custom_metadata",
    "empty_stream",
    "empty_unary",
    "large_unary",
    "ping_pong",
    "server_streaming",
    "special_status_message",
    "status_code_and_message",
    "timeout_on_sleeping_server",
    "unimplemented_method",
    "unimplemented_service",
]


class Way:
    """How the client reaches the proxy."""

    def __init__(self, directory: Path, site: TlsSite) -> None:
        self.authority = directory / "ca.pem"
        self.authority.write_bytes(site.authority.pem)
        self.host, self.port = ports.split(site.https)

    def run(self, case: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                *(suites.go_program("grpc-interop-client"), f"--test_case={case}"),
                *(f"--server_host={self.host}", f"--server_port={self.port}", "--use_tls"),
                *("--use_test_ca", f"--ca_file={self.authority}"),
                "--server_host_override=www.test",
            ],
            capture_output=True,
            text=True,
            timeout=_CASE_S,
        )


@pytest.fixture(scope="module")
def way(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Way]:
    server = suites.go_program("grpc-interop-server")
    directory, port = tmp_path_factory.mktemp("interop"), ports.free_port()
    with (
        subprocess.Popen([server, f"--port={port}"], stderr=subprocess.DEVNULL) as process,
        TlsSite(directory, workers=1) as site,
    ):
        try:
            files = site.files({"www": site.leaf("www.test")})
            files["kakehi.yaml"]["clusters"]["main"] = {
                "protocol": "h2",
                "backends": {"server": {"address": f"127.0.0.1:{port}"}},
            }
            site.start(files)
            made = Way(directory, site)
            processes.wait_until(lambda: made.run("empty_unary").returncode == 0, "a first call")
            yield made
        finally:
            process.kill()


@pytest.mark.parametrize("case", CASES)
def test_interoperability(way: Way, case: str) -> None:
    done = way.run(case)
    assert done.returncode == 0, done.stderr


def test_a_case_that_fails_is_told(way: Way) -> None:
    """The client is one that can fail."""
    assert way.run("no_such_case").returncode != 0
