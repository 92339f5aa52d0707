"""Honest peers are never taken for abusive ones, however much they do at once.

The other half of `tests.e2e.security.test_h2_attacks`: what real clients and backends send when
they are busy. What is asked each time is that no call fails and no connection ends.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import grpc
import h2.errors
import pytest
from hyperframe.frame import HeadersFrame, PingFrame, RstStreamFrame, WindowUpdateFrame

from tests.e2e.h2.conftest import Front
from tests.harness import processes
from tests.harness.grpcsite import GrpcClient, GrpcServer
from tests.harness.h2backend import Request
from tests.harness.h2frames import GET, Attacker

DEADLINE_S = 60


@pytest.fixture
def served(front: Front) -> Iterator[tuple[Front, GrpcServer, GrpcClient]]:
    with GrpcServer() as server, GrpcClient(front.address) as client:
        front.start(server.address)
        yield front, server, client


def errors(front: Front) -> float:
    """Connections that ended because a peer, a client or a backend, did wrong."""
    return front.counted("http2_errors_total")


def codes(calls: list[Any]) -> Counter[str]:
    """How the calls ended."""
    return Counter(call.code().name for call in calls)


@pytest.mark.parametrize("length", [0, 10, 100_000])
def test_bursts_of_calls_on_one_channel(
    served: tuple[Front, GrpcServer, GrpcClient], length: int
) -> None:
    front, _, client = served
    message = b"x" * length
    for _ in range(1 if length > 1000 else 3):
        calls = [client.unary.future(message, timeout=DEADLINE_S) for _ in range(1000)]
        assert codes(calls) == {"OK": 1000}
    assert errors(front) == 0


def test_streams_of_tiny_messages_that_are_cancelled(
    served: tuple[Front, GrpcServer, GrpcClient],
) -> None:
    """Of what was on its way in either direction, nothing is held against anybody."""
    front, _, client = served
    others = [client.stall.future(b"", timeout=DEADLINE_S) for _ in range(8)]
    for _ in range(20):
        download = client.download(b"100000 3", timeout=DEADLINE_S)
        for _ in range(50):
            next(download)
        download.cancel()
        chat = client.chat(iter([b"abc"] * 5000), timeout=DEADLINE_S)
        for _ in range(50):
            next(chat)
        chat.cancel()
        assert client.unary(b"on", timeout=DEADLINE_S) == b"on"
    assert errors(front) == 0
    assert not any(other.done() for other in others)
    for other in others:
        other.cancel()


def test_a_thousand_calls_that_are_cancelled_at_once(
    served: tuple[Front, GrpcServer, GrpcClient],
) -> None:
    front, _, client = served
    stays = client.chat(_slowly(), timeout=DEADLINE_S)
    assert next(stays) == b"A"
    for _ in range(3):
        calls = [client.download(b"100000 3", timeout=DEADLINE_S) for _ in range(1000)]
        for call in calls[:30]:
            next(call)
        for call in calls:
            call.cancel()
        assert codes(calls) == {"CANCELLED": 1000}
    assert client.unary(b"on", timeout=DEADLINE_S) == b"on"
    assert next(stays) == b"A"
    assert errors(front) == 0
    stays.cancel()


def _slowly() -> Iterator[bytes]:
    while True:
        yield b"a"
        time.sleep(0.2)


def test_deadlines_that_pass_one_after_the_other(
    served: tuple[Front, GrpcServer, GrpcClient],
) -> None:
    front, _, client = served
    for _ in range(500):
        with pytest.raises(grpc.RpcError) as late:
            client.stall(b"", timeout=0.002)
        assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert client.unary(b"on", timeout=DEADLINE_S) == b"on"
    assert errors(front) == 0


def test_pings_for_long(front: Front) -> None:
    """Ten a second, and an answer to each, for longer than any budget would last by itself."""
    front.start(front.backend().address)
    with Attacker(front.address) as client:
        for number in range(200):
            assert client.send(PingFrame(0, number.to_bytes(8, "big")))
            time.sleep(0.1)
            client.read()
        processes.wait_until(lambda: pongs(client) == 200, "every ping is answered")
        assert client.go_away() is None


def pongs(client: Attacker) -> int:
    return sum(isinstance(frame, PingFrame) for frame in client.read(0.05))


def test_pings_and_updates_of_a_backend(front: Front) -> None:
    """One measures the way with each frame that it gets, and opens its windows piece by piece."""

    def script(request: Request) -> None:
        for part in request.parts():
            request.peer.do(lambda it: it.ping(b"12345678"))
            for _ in range(min(len(part), 20)):
                request.peer.do(lambda it: it.increment_flow_control_window(1))
        request.answer(b"ok")

    backend = front.backend(script)
    front.start(backend.address)
    with front.connect() as client:
        for _ in range(3):
            client.send(b"POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 3000\r\n\r\n")
            for _ in range(300):
                client.send(b"0123456789")
            assert client.read_response().status == 200
    assert errors(front) == 0
    assert len(backend.peers) == 1


def test_late_frames_of_a_backend_are_no_fault(front: Front) -> None:
    """Its clients leave while it sends small pieces; who shares its connection hears nothing."""
    cancelled = threading.Event()

    def script(request: Request) -> None:
        request.head()
        if request.path == "/stays":
            assert cancelled.wait(DEADLINE_S)
            return request.send(b"here", ends=True)
        request.send(b"x")
        # As one that has not read of the end yet: the package would refuse to send more.
        assert cancelled.wait(DEADLINE_S)
        for _ in range(3000):
            with request.peer.changed:
                request.peer.socket.sendall(
                    b"\0\0\1\0\0" + request.stream.to_bytes(4, "big") + b"x"
                )
        return None

    backend = front.backend(script)
    front.start(backend.address)
    with front.connect() as stays:
        stays.send(b"GET /stays HTTP/1.1\r\nHost: a\r\n\r\n")
        backend.wait_for(1)
        with Attacker(front.address) as leaves:
            for number in range(10):
                path = (*GET[:3], (":path", "/leaves"))
                leaves.send(leaves.request(2 * number + 1, path))
            backend.wait_for(11)
            processes.wait_until(lambda: heads(leaves) == 10, "all answers have begun")
            leaves.send(*(RstStreamFrame(2 * number + 1, 8) for number in range(10)))
            processes.wait_until(
                lambda: sum(each.reset is not None for each in backend.seen) == 10,
                "the backend is told",
            )
        cancelled.set()
        assert stays.read_response().body == b"here"
    assert errors(front) == 0
    assert len(backend.peers) == 1


def test_late_frames_of_a_client_are_no_fault(front: Front) -> None:
    """The backend gives an upload up; what its client has sent before it knew is read over."""

    def script(request: Request) -> None:
        if request.path == "/given-up":
            request.give_up(h2.errors.ErrorCodes.INTERNAL_ERROR)
        else:
            request.answer(b"ok")

    front.start(front.backend(script).address)
    with Attacker(front.address) as client:
        fields = ((":method", "POST"), *GET[1:3], (":path", "/given-up"))
        for number in range(5):
            stream = 2 * number + 1
            client.send(client.request(stream, fields, ends=False))
            processes.wait_until(lambda: heads(client) == number + 1, "it is given up")  # noqa: B023
            for _ in range(1000):
                assert client.send(b"\0\0\1\0\0" + stream.to_bytes(4, "big") + b"x")
            client.send(WindowUpdateFrame(stream, window_increment=100), RstStreamFrame(stream, 8))
        client.send(client.request(11))
        processes.wait_until(lambda: heads(client) == 6, "the next one is answered")
        assert client.go_away() is None


def heads(client: Attacker) -> int:
    return sum(isinstance(frame, HeadersFrame) for frame in client.read(0.02))


def test_streams_that_are_opened_before_our_settings_are_read(front: Front) -> None:
    """A client may repeat what is refused, and need not; here is nothing to be repeated."""
    front.start(front.backend(lambda request: request.answer(b"ok")).address)
    with Attacker(front.address) as client:
        client.send(*(client.request(2 * number + 1) for number in range(500)))
        processes.wait_until(lambda: heads(client) == 500, "all are answered")
        assert not client.resets()
        assert client.go_away() is None


@pytest.mark.parametrize("window_bits", [4, 16, 30])
def test_h2load_with_bursts_of_a_thousand(front: Front, window_bits: int) -> None:
    program = shutil.which("h2load")
    if program is None:
        pytest.skip("h2load is not installed")
    front.start(front.backend(lambda request: request.answer(b"x" * 100)).address)
    done = subprocess.run(
        [
            *(program, "--requests=2000", "--clients=2", "--max-concurrent-streams=1000"),
            f"--window-bits={window_bits}",
            *(f"--connection-window-bits={max(window_bits, 16)}", f"http://{front.address}/"),
        ],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=True,
    )
    assert "2000 succeeded, 0 failed, 0 errored" in done.stdout, done.stdout
    assert errors(front) == 0


NODE = """
const http2 = require("http2");
const session = http2.connect(process.argv[1]);
const counts = {ended: 0, cancelled: 0, pongs: 0};
const fail = (error) => { console.log(String(error)); process.exit(1); };
session.on("error", fail);
session.on("close", () => fail("closed"));
session.on("goaway", (code) => fail(`goaway ${code}`));
function ask(cancels) {
  return new Promise((resolve) => {
    const stream = session.request({":path": cancels ? "/never" : "/"});
    stream.on("error", fail);
    stream.on("response", (head) => head[":status"] === 200 || fail(head[":status"]));
    stream.on("data", () => {});
    stream.on("close", () => { counts[cancels ? "cancelled" : "ended"] += 1; resolve(); });
    if (cancels) setTimeout(() => stream.close(http2.constants.NGHTTP2_CANCEL), cancels);
    stream.end();
  });
}
async function main() {
  const ping = () => session.ping((error) => {
    if (error) fail(error);
    counts.pongs += 1;
    setTimeout(ping, 20);
  });
  session.once("connect", ping);
  for (let round = 0; round < 2; round += 1) {
    const asked = [];
    for (let at = 0; at < 1000; at += 1) asked.push(ask(at % 2 ? 1 + at / 10 : 0));
    await Promise.all(asked);
  }
  console.log(JSON.stringify(counts));
  process.exit(0);
}
main();
"""


def test_node_with_bursts_cancels_and_pings(front: Front) -> None:
    program = shutil.which("node")
    if program is None:
        pytest.skip("node is not installed")

    def script(request: Request) -> None:
        if request.path == "/never":
            request.read()
            request.wait(lambda: request.reset is not None)
        else:
            request.answer(b"x" * 100)

    front.start(front.backend(script).address)
    done = subprocess.run(
        [program, "-e", NODE, f"http://{front.address}"],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    counts = json.loads(done.stdout)
    assert (counts["ended"], counts["cancelled"]) == (1000, 1000)
    assert counts["pongs"] > 10
    assert errors(front) == 0
