"""The proxy leaves its clients in good order: a request that is on its way then is served.

RFC 9113 §6.8: first it is said that no more streams are wanted, and a round trip later which was
the last one. A connection is closed when its client knows.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hyperframe.frame import GoAwayFrame, HeadersFrame, PingFrame

from tests.e2e.h2.conftest import Front, Shared
from tests.harness import ports, processes
from tests.harness.h2frames import Attacker

LAST_OF_ALL = 2**31 - 1


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Shared]:
    """Nothing is shared, since it is ended."""
    with Shared(tmp_path) as made:
        yield made


def begin_shutdown(front: Front) -> None:
    assert front.daemon.process is not None
    front.daemon.process.send_signal(signal.SIGINT)


def await_shutdown(front: Front, way: str) -> None:
    """A second signal would cut everything off."""
    if way == "shutdown" and front.daemon.process is not None:
        assert front.daemon.process.wait(20) == 0


def remove_listener(front: Front) -> None:
    document = front.document(*(each.address for each in front.backends))
    document["listeners"] = {front.name: {"address": ports.address(), "h2c": True}}
    front.daemon.commit({"kakehi.yaml": document})


def keep_for_long(front: Front) -> None:
    """Nothing to be done: the time of an idle connection passes."""


WAYS: dict[str, tuple[Callable[[Front], None], dict[str, Any]]] = {
    "shutdown": (begin_shutdown, {}),
    "listener removed": (remove_listener, {}),
    "idle for long": (keep_for_long, {"timeouts": {"keep_alive": "1s"}}),
}


def start(front: Front, listener: dict[str, Any]) -> None:
    document = front.document(front.backend().address)
    document["listeners"][front.name] |= listener
    front.serve({"kakehi.yaml": document})


def farewells(client: Attacker) -> list[int]:
    """The last streams that were named."""
    frames = client.read(0.05)
    return [frame.last_stream_id for frame in frames if isinstance(frame, GoAwayFrame)]


def answers(client: Attacker) -> int:
    return sum(isinstance(frame, HeadersFrame) for frame in client.read(0.05))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("served", [0, 1])
def test_a_stream_that_is_on_its_way_is_served(front: Front, way: str, served: int) -> None:
    leave, listener = WAYS[way]
    start(front, listener)
    with Attacker(front.address) as client:
        for number in range(served):
            client.send(client.request(2 * number + 1))
        processes.wait_until(lambda: answers(client) == served, "it is known")
        leave(front)
        processes.wait_until(lambda: farewells(client), "it is said that we leave")
        assert farewells(client) == [LAST_OF_ALL]
        asked = next(f for f in client.frames if isinstance(f, PingFrame) and not f.flags)
        client.send(client.request(101), PingFrame(0, asked.opaque_data, flags=["ACK"]))
        processes.wait_until(lambda: answers(client) == served + 1, "it is served")
        client.read_to_close()
        assert farewells(client) == [LAST_OF_ALL, 101]
    await_shutdown(front, way)


@pytest.mark.parametrize("way", WAYS)
def test_who_says_nothing_is_left_soon(front: Front, way: str) -> None:
    leave, listener = WAYS[way]
    start(front, listener)
    with Attacker(front.address) as client:
        client.send(client.request(1))
        processes.wait_until(lambda: answers(client) == 1, "it is known")
        leave(front)
        processes.wait_until(lambda: farewells(client), "it is said that we leave")
        assert client.read_to_close() < 2.5
        assert farewells(client) == [LAST_OF_ALL, 1]
    await_shutdown(front, way)
