"""What comes first when the client's window is the bound: as it asked for it (RFC 9218)."""

from __future__ import annotations

from itertools import pairwise

from tests.e2e.h2.conftest import Front
from tests.harness import processes
from tests.harness.h2backend import Request
from tests.harness.h2client import H2Client

BODY = b"x" * 600_000
CLIENT_WINDOW = 65_535


def answer(request: Request) -> None:
    request.head()
    request.send(BODY, ends=True)


def test_the_urgent_is_whole_before_the_rest_and_parts_take_turns(front: Front) -> None:
    backend = front.backend(answer)
    front.start(backend.address)
    with H2Client(front.address) as client:
        late, first, *shared = (
            client.get("a", ("priority", value)) for value in ("u=6", "u=1", "u=3, i", "u=3, i")
        )
        # Before this client reads its first byte, the proxy holds all that it takes in of each, but
        # for this client's window: what it has not got yet could not come first.
        asked = backend.wait_for(4)
        processes.wait_until(
            lambda: all(request.window() == 0 for request in asked), "they wait for this client"
        )
        sent = sum(request.sent for request in asked)
        processes.wait_until(
            lambda: front.counted("worker_buffered_bytes") >= sent - CLIENT_WINDOW, "all has come"
        )
        client.read_until(lambda: len(client.ended) == 4)
    last = {stream: at for at, stream in enumerate(client.order)}
    assert last[first] < min(last[stream] for stream in shared)
    assert max(last[stream] for stream in shared) < last[late]
    turns = [stream for stream in client.order if stream in shared]
    changes = sum(one != other for one, other in pairwise(turns))
    assert changes > 8, turns
