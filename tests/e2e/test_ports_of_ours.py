"""Ports of this daemon and of others of the same user: SO_REUSEPORT would share any of them."""

from __future__ import annotations

import signal
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from reconciler.faults import VARIABLE
from tests.harness import ports, processes, rawclient
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


def bodies(address: str, times: int = 12) -> set[bytes]:
    """What several connections get: of two that share a port each would get some."""
    found = set[bytes]()
    for _ in range(times):
        with rawclient.Connection(address) as client:
            found.add(client.get("a.test").body)
    return found


def metrics(address: str, times: int = 12) -> bool:
    found = set[bool]()
    for _ in range(times):
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as response:
            found.add(b"kakehi_generation" in response.read())
    return found == {True}


@pytest.mark.parametrize(
    ("listener", "admin"),
    [("two", "one"), ("three", "one"), ("two", "three"), ("two", None), ("all two", "one")],
)
def test_a_listener_and_the_metrics_take_what_the_other_gives_up(
    daemons: Callable[..., Kakehi], listener: str, admin: str | None
) -> None:
    at = {name: ports.address() for name in ("one", "two", "three")}
    at["all two"] = f"0.0.0.0:{ports.split(at['two'])[1]}"
    at_admin = at[admin] if admin else None
    before, after = document(at["two"], web=at["one"]), document(at_admin, web=at[listener])
    with started(daemons(workers=2), before) as ours:
        assert metrics(at["two"])
        ours.repo.write({"kakehi.yaml": after})
        planned = ours.run_cli("plan")
        assert planned.returncode == 0, planned
        assert metrics(at["two"])
        assert bodies(at["one"]) == {b"web"}
        ours.repo.git("checkout", "--quiet", ".")
        ours.commit({"kakehi.yaml": after})
        assert bodies(at[listener].replace("0.0.0.0", "127.0.0.1")) == {b"web"}
        assert at_admin is None or metrics(at_admin)
        # And back, as well.
        ours.commit({"kakehi.yaml": before})
        assert metrics(at["two"])
        assert bodies(at["one"]) == {b"web"}


@pytest.mark.parametrize(
    "fault",
    [
        "prepare.sent:crash:3",
        "journal.committed:crash:2",
        "commit.sent:crash:3",
        "release.sent:crash:3",
    ],
)
def test_each_is_somebodys_whenever_the_daemon_dies(
    daemons: Callable[..., Kakehi], fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = ports.address(), ports.address()
    made = daemons(workers=2)
    with monkeypatch.context() as patched:
        patched.setenv(VARIABLE, fault)
        made.repo.commit({"kakehi.yaml": document(two, web=one)})
        made.start()
    made.repo.commit({"kakehi.yaml": document(one, web=two)})
    assert made.process is not None
    assert made.process.wait(30) == -signal.SIGKILL
    made.start()
    processes.wait_until(lambda: answers(one, two), "each has its own", 6)
    assert bodies(two) == {b"web"}
    assert metrics(one)


def answers(one: str, two: str) -> bool:
    """Whether the metrics are at one, and the listener at the other."""
    try:
        return bodies(two, 1) == {b"web"} and metrics(one, 1)
    except OSError:
        return False


def test_metrics_stay_where_they_are_if_nothing_can_be_recorded(
    daemons: Callable[..., Kakehi], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And are where they are to be as soon as it can be."""
    one, two = ports.address(), ports.address()
    made = daemons(workers=2)
    monkeypatch.setenv(VARIABLE, "journal.commit:raise:2")
    with started(made, document(two, web=one)):
        made.repo.commit({"kakehi.yaml": document(one, web=two)})
        processes.wait_until(lambda: "fault injected" in made.log(), "it is not recorded", 20)
        processes.wait_until(lambda: answers(one, two), "it is tried again", 30)


def test_listeners_take_the_metrics_of_settings_that_are_gone(
    daemons: Callable[..., Kakehi],
) -> None:
    one, two = ports.address(), ports.address()
    with started(daemons(), document(two, web=one)) as made:
        after = document(web=two)
        del after["settings"]
        made.commit({"kakehi.yaml": after})
        assert bodies(two) == {b"web"}
        made.commit({"kakehi.yaml": document(web=two)})
        assert bodies(two) == {b"web"}
