"""HTTP/2 connections to backends that end with requests on them, or take none yet.

What is asked: nothing that may have been begun is sent twice, nothing that was certainly not begun
is lost, and all that have to go on share what they go on by.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import h2.settings
import pytest

from tests.e2e.h2.conftest import Front
from tests.harness.h2backend import H2Backend, Request
from tests.harness.h2frames import Attacker
from tests.harness.processes import wait_until

COUNT = 30
STREAMS_MAX = h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS


class Dying:
    """A backend whose first connection does as it is told once all requests are on it."""

    def __init__(self, front: Front) -> None:
        self.front = front
        self.may_die = threading.Event()
        self.backend = front.backend(self._script)
        front.start(self.backend.address)

    def _script(self, request: Request) -> None:
        if request.path != "/warm" and request.peer.number == 0:
            self.may_die.wait(20)
            if not request.peer.is_lost and request.path != "/answered":
                return
        request.answer(b"well")

    def warm(self) -> None:
        with self.front.connect() as client:
            assert client.get("a", "/warm").status == 200

    def ask(self, count: int, method: str = "GET") -> list[int]:
        """The statuses of so many requests at a time, each of a client of its own."""

        def one(_: int) -> int:
            with self.front.connect() as client:
                return client.get("a", method=method).status

        before = len(self.backend.seen)
        with ThreadPoolExecutor(count) as pool:
            done = [pool.submit(one, number) for number in range(count)]
            self.backend.wait_for(before + count)
            self.die()
            self.may_die.set()
            return [each.result(20) for each in done]

    def die(self) -> None:
        self.backend.peers[0].close()


@pytest.mark.parametrize("is_warm", [False, True])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_running_requests_are_not_sent_twice(front: Front, method: str, is_warm: bool) -> None:
    """One that met a connection that was idle may be: the backend may not have seen it."""
    dying = Dying(front)
    if is_warm:
        dying.warm()
    statuses = Counter(dying.ask(COUNT, method))
    repeated = statuses[200]
    assert statuses[502] == COUNT - repeated
    assert repeated <= (10 if is_warm and method == "GET" else 0)
    assert len(dying.backend.seen) == COUNT + repeated + is_warm
    assert len(dying.backend.peers) <= 2
    # What comes next is served, by one connection.
    dying.warm()
    dying.warm()
    assert len(dying.backend.peers) == 2


@pytest.mark.parametrize("last", [0, 21])
def test_what_goaway_says_was_not_taken_goes_on_by_one_connection(front: Front, last: int) -> None:
    """Whatever its method; and what was taken is answered by the old one or lost with it."""
    dying = Dying(front)

    def die() -> None:
        peer = dying.backend.peers[0]
        peer.go_away(last)
        peer.close()

    dying.die = die  # type: ignore[method-assign]
    taken = (last + 1) // 2
    statuses = Counter(dying.ask(COUNT, "POST"))
    assert statuses == Counter({200: COUNT - taken, 502: taken})
    assert len(dying.backend.seen) == COUNT + COUNT - taken
    assert len(dying.backend.peers) == 2


def test_a_burst_that_meets_a_closed_connection_is_not_lost(front: Front) -> None:
    """The backend has closed it while it was idle, and all come before that is known."""
    backend = front.backend()
    front.start(backend.address)
    with Attacker(front.address) as client:
        stream = 1
        for number in range(20):
            peers = len(backend.peers)
            client.send(*(client.request(stream + 2 * at) for at in range(10)))
            stream += 20
            wait_until(lambda: answered(client) == 10 * (number + 1), "all are answered")  # noqa: B023
            assert len(backend.peers) <= peers + 1
            backend.peers[-1].close()
    assert front.outcomes(200) == [(200, "ok")] * 200


def answered(client: Attacker) -> int:
    return sum(frame.type == 1 for frame in client.read(0.02))


def test_a_poison_request_is_delivered_once_more_at_most(front: Front) -> None:
    """Each connection that it comes by is lost."""

    def script(request: Request) -> None:
        if request.path == "/poison":
            return request.peer.close()
        return request.answer(b"well")

    backends = [front.backend(script) for _ in range(4)]
    front.start(*(each.address for each in backends))
    with front.connect() as client:
        for _ in range(8):
            assert client.get("a").status == 200
    with front.connect() as client:
        assert client.get("a", "/poison").status == 502
    assert sum(delivered(each) for each in backends) <= 2


def delivered(backend: H2Backend) -> int:
    return sum(request.path == "/poison" for request in backend.seen)


def allow(backend: H2Backend, streams: int) -> None:
    """Let the first connection have so many streams from now on."""
    wait_until(lambda: backend.peers, "the proxy has come")
    peer = backend.peers[0]
    wait_until(lambda: peer.h2.remote_settings.initial_window_size, "it has said its settings")
    peer.do(lambda it: it.update_settings({STREAMS_MAX: streams}))


def test_a_backend_that_takes_no_stream_yet_is_waited_for(front: Front) -> None:
    backend = front.backend(settings={STREAMS_MAX: 0})
    front.start(backend.address)

    def ask(method: str) -> int:
        with front.connect() as client:
            return client.get("a", method=method).status

    with ThreadPoolExecutor(20) as pool:
        done = [pool.submit(ask, method) for method in ("GET", "POST") * 10]
        time.sleep(0.5)
        assert not any(each.done() for each in done)
        allow(backend, 100)
        assert [each.result(20) for each in done] == [200] * 20
    assert len(backend.peers) == 1


def test_a_backend_that_never_takes_a_stream_is_waited_for_within_connect(front: Front) -> None:
    backend = front.backend(settings={STREAMS_MAX: 0})
    front.start(backend.address, timeouts={"connect": "500ms"}, retries=0)
    began = time.monotonic()
    with front.connect() as client:
        assert client.get("a").status == 504
    assert 0.4 < time.monotonic() - began < 3
    assert front.outcomes(1) == [(504, "connect_timeout")]
    wait_until(lambda: not backend.alive, "the connection is given up")


def test_a_backend_that_takes_none_and_leaves_cannot_be_reached(front: Front) -> None:
    backend = front.backend(settings={STREAMS_MAX: 0})
    other = front.backend()
    front.start(backend.address, other.address)

    def leave() -> None:
        wait_until(lambda: backend.peers, "the proxy has come")
        time.sleep(0.1)
        backend.peers[0].go_away(0)

    leaving = threading.Thread(target=leave)
    leaving.start()
    with front.connect() as client:
        for _ in range(2):
            assert client.get("a", method="POST").status == 200
    leaving.join()
