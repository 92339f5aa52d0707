"""gRPC through the proxy, with grpcio on both sides, in clear text and over TLS on both."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from tests.e2e.h2.conftest import Front
from tests.harness import pki, processes
from tests.harness.grpcsite import GrpcClient, GrpcServer

DEADLINE_S = 20


class Way:
    """A client and a server with the proxy between them."""

    def __init__(self, front: Front, server: GrpcServer, client: GrpcClient) -> None:
        self.front, self.server, self.client = front, server, client


@pytest.fixture(params=["clear", "tls"])
def way(front: Front, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Way]:
    if request.param == "clear":
        with GrpcServer() as server, GrpcClient(front.address) as client:
            front.start(server.address)
            yield Way(front, server, client)
        return
    pair = pki.make("shop.test")
    credentials = grpc.ssl_server_credentials([(pair.key, pair.chain)])
    trusting = grpc.ssl_channel_credentials(pair.pem)
    with GrpcServer(credentials) as server, GrpcClient(front.address, trusting) as client:
        document = front.document(
            server.address, tls={"ca": "tls/ca.pem", "server_name": "shop.test"}
        )
        document["listeners"][front.name] = {"address": front.address, "protocol": "https"}
        document["certificates"] = {
            "shop": {"certificate": "tls/shop.crt", "private_key": "tls/shop.key"}
        }
        front.serve(
            {
                "kakehi.yaml": document,
                "tls/ca.pem": pair.pem.decode(),
                "tls/shop.crt": pair.chain.decode(),
                "tls/shop.key": pair.key.decode(),
            }
        )
        yield Way(front, server, client)


def test_all_four_kinds_of_calls(way: Way) -> None:
    call = way.client
    assert call.unary(b"hello", timeout=DEADLINE_S) == b"hello"
    parts = list(call.download(b"5 3", timeout=DEADLINE_S))
    assert parts == [bytes([number]) * 3 for number in range(5)]
    assert call.upload(iter([b"a" * 1000] * 50), timeout=DEADLINE_S) == b"50000"
    assert list(call.chat(iter([b"a", b"b"]), timeout=DEADLINE_S)) == [b"A", b"B"]


def test_long_messages_and_many_of_them(way: Way) -> None:
    call = way.client
    long = bytes(range(256)) * 40_000
    assert call.unary(long, timeout=DEADLINE_S) == long
    assert sum(len(each) for each in call.download(b"200 50000", timeout=60)) == 10_000_000
    assert call.upload(iter([b"a" * 50_000] * 200), timeout=60) == b"10000000"


def test_a_chat_goes_back_and_forth(way: Way) -> None:
    """Each message is answered before the next one is sent: nothing waits for more."""
    answered = threading.Semaphore(1)

    def messages() -> Iterator[bytes]:
        for number in range(20):
            assert answered.acquire(timeout=DEADLINE_S)
            yield f"m{number}".encode()

    got = []
    for answer in way.client.chat(messages(), timeout=60):
        got.append(answer)
        answered.release()
    assert got == [f"M{number}".encode() for number in range(20)]


def test_metadata_and_binary_trailers(way: Way) -> None:
    given = bytes(range(256))
    call = way.client.unary.with_call(b"", metadata=[("x-given-bin", given)], timeout=DEADLINE_S)
    assert dict(call[1].trailing_metadata())["x-seen-bin"] == given


def test_errors_are_the_services_own(way: Way) -> None:
    with pytest.raises(grpc.RpcError) as failed:
        way.client.fail("no — grund".encode(), timeout=DEADLINE_S)
    assert failed.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert failed.value.details() == "no — grund"
    with pytest.raises(grpc.RpcError) as missing:
        way.client.unknown(b"", timeout=DEADLINE_S)
    assert missing.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_deadline_passes_and_the_server_hears_of_it(way: Way) -> None:
    with pytest.raises(grpc.RpcError) as late:
        way.client.stall(b"", timeout=1)
    assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    # It goes over in whole units, which gRPC rounds up.
    assert 0 < way.server.echo.deadlines[0] <= 1.1
    assert way.server.echo.cancelled.wait(DEADLINE_S)


def test_a_cancelled_call_is_cancelled_at_the_server(way: Way) -> None:
    call = way.client.stall.future(b"")
    processes.wait_until(lambda: way.server.echo.deadlines, "the call has arrived")
    call.cancel()
    assert way.server.echo.cancelled.wait(DEADLINE_S)
    assert way.client.unary(b"on", timeout=DEADLINE_S) == b"on"


def test_a_server_that_is_not_there_is_unavailable(front: Front) -> None:
    front.start("127.0.0.1:1")
    with GrpcClient(front.address) as client:
        with pytest.raises(grpc.RpcError) as gone:
            client.unary(b"", timeout=DEADLINE_S)
        assert gone.value.code() is grpc.StatusCode.UNAVAILABLE


def test_many_calls_at_a_time_while_commits_change_the_backend(front: Front) -> None:
    """Not one call fails, whichever of the two servers it meets."""
    with GrpcServer() as one, GrpcServer() as two, GrpcClient(front.address) as client:
        front.start(one.address)
        over = threading.Event()

        def work(number: int) -> int:
            count = 0
            while not over.is_set():
                message = f"{number}-{count}".encode()
                assert client.unary(message, timeout=DEADLINE_S) == message
                count += 1
            return count

        with ThreadPoolExecutor(8) as pool:
            done = [pool.submit(work, number) for number in range(8)]
            for number in range(10):
                front.commit([two, one][number % 2].address)
                time.sleep(0.1)
            over.set()
            assert sum(each.result(60) for each in done) > 100
