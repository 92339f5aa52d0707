"""How often a worker calls the kernel for a request: what it costs, as no noise can touch it.

One client asks one thing after the other, so that each step of a request is a turn of the loop:
the most that it can cost.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.harness import ports, wire
from tests.harness.daemon import Kakehi
from tests.harness.nginx import Nginx
from tests.harness.rawclient import Connection
from tests.harness.syscalls import counted, engine_thread

_REQUESTS = 200
# The first connection to the backend, a look at timers, a heartbeat of the control side.
_BESIDE = 0.15


@pytest.fixture
def site(daemons: Callable[..., Kakehi], tmp_path: Path) -> Iterator[tuple[Kakehi, str, str]]:
    """A worker before nginx: the addresses at which it speaks HTTP/1.1 and HTTP/2 to it."""
    h2 = ports.address()
    more = f'listen {h2} http2; location / {{ return 200 "ok"; }}'
    with Nginx(tmp_path / "nginx", more) as nginx:
        daemon = daemons(workers=1)
        plain, multiplexed = ports.address(), ports.address()
        daemon.repo.commit(
            {
                "kakehi.yaml": {
                    "settings": {"access_log": "off"},
                    "listeners": {
                        "plain": {"address": plain},
                        "multiplexed": {"address": multiplexed},
                    },
                    "clusters": {
                        "plain": {"backends": {"one": {"address": nginx.address}}},
                        "multiplexed": {"protocol": "h2", "backends": {"one": {"address": h2}}},
                    },
                    "frontends": {
                        "plain": {"listeners": ["plain"], "cluster": "plain"},
                        "multiplexed": {"listeners": ["multiplexed"], "cluster": "multiplexed"},
                    },
                }
            }
        )
        daemon.start()
        yield daemon, plain, multiplexed


def _per_request(daemon: Kakehi, output: Path, ask: Callable[[], None]) -> Counter[str]:
    """Calls for all requests; the connection to the backend is there before."""
    ask()
    [worker] = daemon.worker_pids()
    with counted(engine_thread(worker), output) as calls:
        for _ in range(_REQUESTS):
            ask()
    told = ", ".join(f"{name} {count / _REQUESTS:.2f}" for name, count in calls.most_common())
    print(f"{calls.total() / _REQUESTS:.2f} calls a request: {told}")
    return calls


def _assert_at_most(calls: Counter[str], each: float) -> None:
    assert calls.total() <= (each + _BESIDE) * _REQUESTS, calls


def test_a_request_is_read_and_sent_on_and_so_is_its_answer(
    site: tuple[Kakehi, str, str], tmp_path: Path
) -> None:
    daemon, address, _ = site
    with Connection(address) as client:
        calls = _per_request(daemon, tmp_path / "calls", lambda: _ok(client.get("shop.test")))
    # Twice: wait, receive, send.
    _assert_at_most(calls, 6)


def test_a_short_body_leaves_together_with_its_head(
    site: tuple[Kakehi, str, str], tmp_path: Path
) -> None:
    daemon, address, _ = site
    with Connection(address) as client:
        calls = _per_request(
            daemon,
            tmp_path / "calls",
            lambda: _ok(client.post("shop.test", b"body")),
        )
    # And a look whether the backend has left meanwhile, as it cannot be sent twice.
    _assert_at_most(calls, 7)


def test_a_request_alone_over_http_2_does_not_wait_for_others(
    site: tuple[Kakehi, str, str], tmp_path: Path
) -> None:
    daemon, _, address = site
    with Connection(address) as client:
        calls = _per_request(daemon, tmp_path / "calls", lambda: _ok(client.get("shop.test")))
    # nginx has something to say of its own now and then.
    _assert_at_most(calls, 6.75)


def test_a_connection_for_one_request_costs_no_call_in_vain(
    site: tuple[Kakehi, str, str], tmp_path: Path
) -> None:
    daemon, address, _ = site

    def ask() -> None:
        with Connection(address) as client:
            _ok(client.get("shop.test", "/", "Connection: close"))
            client.expect_closed()

    calls = _per_request(daemon, tmp_path / "calls", ask)
    assert calls["setsockopt"] + calls["shutdown"] == 0, calls
    # Wait, accept, watch; the request; close. Now and then it is looked whether more than one came,
    # and where the machine is busy an event comes in two parts.
    _assert_at_most(calls, 11)


def _ok(response: wire.Response) -> None:
    assert (response.status, response.body) == (200, b"ok")
