"""Sends what no honest client sends, and judges that nothing ambiguous came of it.

The verdict has two halves: what the attacker was told, and what the backend behind (which
would believe anything) has received. Used by the security suite.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from tests.harness import rawclient, wire
from tests.harness.gateway import Lane

SENTINEL = "/sentinel"


@dataclass
class Verdict:
    """What came of an attack."""

    responses: list[wire.Response]
    forwarded: list[wire.Request]  # complete requests at the backend, the sentinel left out
    closed: bool

    @property
    def status(self) -> int:
        return self.responses[0].status if self.responses else 0


def send(client: rawclient.Connection, data: bytes, *, byte_by_byte: bool) -> None:
    """Send data, in one piece or byte by byte, and stop when the proxy has had enough."""
    if not byte_by_byte:
        client.send_tolerating_close(data)
        return
    for start in range(len(data)):
        if client.has_bytes():
            return
        if not client.send_tolerating_close(data[start : start + 1]):
            return


def forwarded(lane: Lane) -> list[wire.Request]:
    """Every complete request at the backend, the sentinels left out.

    Fails when a connection carries anything but well-formed requests, or the beginning of one
    that is still open and could go on as something else.
    """
    with lane.connect() as honest:
        # The anyhost lane answers for any name, so this serves both kinds of lanes.
        response = honest.get(lane.host, SENTINEL, "X-Sentinel: 1")
        assert response.status == 200, "the proxy no longer serves"
    lane.backend.settle()
    complete = []
    for connection in lane.backend.connections:
        stream = connection.stream()
        complete += [request for request in stream.requests if request.path != SENTINEL]
        if stream.partial:
            lane.backend.wait_until(
                lambda c=connection: c.ended,
                f"the connection with part of a request was closed: {stream.partial[:300]!r}",
            )
    return complete


def launch(lane: Lane, data: bytes, *, byte_by_byte: bool = False) -> Verdict:
    """Send data on a connection of its own, then half-close; collect all that comes back."""
    client = lane.connect()
    send(client, data, byte_by_byte=byte_by_byte)
    responses = []
    closed = False
    while True:
        try:
            responses.append(client.read_any())
        except (rawclient.Truncated, ConnectionResetError) as ending:
            closed = True
            assert getattr(ending, "partial", b"") == b"", f"half a response: {ending}"
            break
        if client.has_bytes():
            continue
        if responses[-1].status >= 200 and responses[-1].keeps_alive:
            break
    return Verdict(responses, forwarded(lane), closed)


def refused(
    lane: Lane,
    data: bytes,
    statuses: Collection[int] = (400,),
    *,
    byte_by_byte: bool = False,
) -> Verdict:
    """Attack and require: one refusal, the connection closed, no complete request forwarded."""
    verdict = launch(lane, data, byte_by_byte=byte_by_byte)
    got = [response.status for response in verdict.responses]
    assert len(got) == 1 and got[0] in statuses, f"answered {got}, expected one of {statuses}"
    assert verdict.closed, "the connection stays open although its framing is lost"
    assert verdict.forwarded == [], f"forwarded {verdict.forwarded}"
    return verdict
