"""Ports of this daemon and of others of the same user: SO_REUSEPORT would share any of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.harness import ports
from tests.harness.daemon import Kakehi


def document(admin: str | None = None, **addresses: str) -> dict[str, Any]:
    """Each listener answers with its name."""
    return {
        "settings": {"drain_timeout": "1s", **({"admin": admin} if admin else {})},
        "listeners": {name: {"address": address} for name, address in addresses.items()},
        "frontends": {name: {"listeners": [name], "respond": {"body": name}} for name in addresses},
    }


@contextmanager
def started(made: Kakehi, files: dict[str, Any]) -> Iterator[Kakehi]:
    made.repo.commit({"kakehi.yaml": files})
    with made:
        yield made


@pytest.mark.parametrize("what", ["listener", "metrics"])
def test_another_daemon_keeps_its_port_at_another_address(
    daemons: Callable[..., Kakehi], what: str
) -> None:
    port = ports.free_port()
    here, there = f"127.0.0.1:{port}", f"127.0.0.2:{port}"
    is_listener = what == "listener"
    elsewhere = ports.address()
    before = document(one=here) if is_listener else document(admin=here, one=elsewhere)
    after = document(one=here, two=there) if is_listener else document(admin=there, one=elsewhere)
    with started(daemons(), before) as ours, started(daemons(), document(other=there)):
        ours.repo.write({"kakehi.yaml": after})
        planned = ours.run_cli("plan")
        assert planned.returncode == 6, planned
        assert f"cannot bind {there}: address already in use" in planned.stderr
        ours.repo.git("checkout", "--quiet", ".")
        sha = ours.repo.commit({"kakehi.yaml": after})
        assert "address already in use" in str(ours.refusal(sha))
