import os
import socket
import subprocess
import sys

import pytest

from reconciler.workers.listening.holders import holder
from tests.harness.daemon import PROCESSES_ONLY


@pytest.mark.parametrize(
    ("bound", "asked"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1"),
        ("127.0.0.1", "0.0.0.0"),
        ("::1", "[::1]"),
        ("::", "[::1]"),
    ],
)
def test_the_process_that_has_a_port(bound: str, asked: str) -> None:
    family = socket.AF_INET6 if ":" in bound else socket.AF_INET
    with socket.socket(family) as listening:
        listening.bind((bound, 0))
        port = listening.getsockname()[1]
        assert holder(f"{asked}:{port}") is None, "it does not listen yet"
        listening.listen()
        found = holder(f"{asked}:{port}")
        assert found is not None
        assert found.endswith(f"(process {os.getpid()})")
    assert holder(f"{asked}:{port}") is None


def test_another_address_is_in_nobodys_way() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        assert holder(f"127.0.0.2:{port}") is None
        assert holder(f"[::1]:{port}") is None


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a /proc of its own")
def test_it_is_found_where_proc_has_processes_only() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        asked = (
            "import sys; from reconciler.workers.listening.holders import holder; "
            f"print(holder('127.0.0.1:{listening.getsockname()[1]}'))"
        )
        command = [*PROCESSES_ONLY, sys.executable, "-c", asked]
        told = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert told.stdout.endswith(f"(process {os.getpid()})\n"), told
