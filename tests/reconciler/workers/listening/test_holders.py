import os
import socket

import pytest

from reconciler.workers.listening.holders import holder


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
