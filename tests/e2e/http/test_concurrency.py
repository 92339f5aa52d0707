"""Many clients at once, of all sorts, polite and not: nobody gets what is somebody else's."""

from __future__ import annotations

import hashlib
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.harness import rawclient, wire
from tests.harness.gateway import Lane
from tests.harness.rawbackend import Exchange

CLIENTS = 24
REQUESTS_EACH = 40


def _echo(exchange: Exchange) -> None:
    """Answer with what the request was, in a framing that it names itself."""
    body = exchange.read_body()
    text = b"%s %s" % (exchange.request.target, hashlib.sha256(body).hexdigest().encode())
    framing = (exchange.request.get("x-framing") or b"length").decode()
    exchange.send(wire.response(text + b" " + body, framing=framing))
    if framing == "close":
        exchange.close()


def _one_request(
    client: rawclient.Connection, host: str, path: str, chance: random.Random
) -> wire.Response:
    """Send one request of a random shape and check that the answer belongs to it."""
    body = chance.randbytes(chance.choice([0, 1, 100, 5000, 70_000, 300_000]))
    fields = [f"X-Framing: {chance.choice(['length', 'length', 'chunked', 'close'])}"]
    if chance.random() < 0.5:
        fields.append(f"Content-Length: {len(body)}")
        data = body
    else:
        fields.append("Transfer-Encoding: chunked")
        data = wire.chunked(body, chance.choice([0, 999, 20_000]))
    head = "\r\n".join([f"PUT {path} HTTP/1.1", f"Host: {host}", *fields, "", ""]).encode()
    if chance.random() < 0.3:
        cut = chance.randrange(len(head + data))
        client.send_pieces([(head + data)[:cut], (head + data)[cut:]])
    else:
        client.send(head + data)
    response = client.read_response("PUT")
    expected = b"%s %s " % (path.encode(), hashlib.sha256(body).hexdigest().encode()) + body
    assert response.status == 200
    assert response.body == expected
    return response


def test_no_client_gets_what_belongs_to_another(lane: Lane) -> None:
    lane.backend.script = _echo
    address = lane.gateway.addresses["main"]

    def polite(number: int) -> None:
        chance = random.Random(number)
        client = rawclient.Connection(address)
        try:
            for count in range(REQUESTS_EACH):
                response = _one_request(client, lane.host, f"/{number}/{count}", chance)
                if not response.keeps_alive:
                    client.close()
                    client = rawclient.Connection(address)
        finally:
            client.close()

    def rude(number: int) -> None:
        """Leaves in the middle of requests and of responses, in one way or another."""
        chance = random.Random(-number)
        for count in range(REQUESTS_EACH):
            client = rawclient.Connection(address)
            head = lane.head(f"PUT /rude/{number}/{count}", "Content-Length: 100000")
            data = head + b"r" * 100_000
            client.send_tolerating_close(data[: chance.choice([10, len(head), 5000, len(data)])])
            if chance.random() < 0.5:
                client.reset()
            else:
                client.close()

    with ThreadPoolExecutor(CLIENTS + 8) as pool:
        running = [pool.submit(polite, number) for number in range(CLIENTS)]
        running += [pool.submit(rude, number) for number in range(1, 9)]
        for each in running:
            each.result(100)


def test_a_reset_in_an_upload_does_not_take_the_answer_away(lane: Lane) -> None:
    """The backend refuses early and resets the rest: what it said first is what counts."""

    def script(exchange: Exchange) -> None:
        exchange.send(wire.response(b"too large", status="413 Content Too Large"))
        exchange.wait_until_delivered()
        exchange.reset()

    lane.backend.script = script
    for _ in range(10):
        client = lane.connect()
        # More than all buffers on the way hold, so that the reset meets what is on its way.
        client.send(lane.head("POST /", "Content-Length: 1000000000"))
        client.send_tolerating_close(b"x" * 3_000_000)
        response = client.read_response()
        assert (response.status, response.body) == (413, b"too large")


def test_many_stale_connections_do_not_use_up_the_tries(lane: Lane) -> None:
    """After a restart of the backend every pooled connection is dead, and a GET succeeds still."""
    together = threading.Barrier(12)

    def fill_the_pool(exchange: Exchange) -> None:
        together.wait(10)
        exchange.send(wire.response())

    lane.backend.script = fill_the_pool
    clients = [lane.connect() for _ in range(12)]
    for client in clients:
        client.send(lane.head("GET /"))
    for client in clients:
        assert client.read_response().status == 200
    assert len(lane.backend.connections) == 12

    def dead_if_pooled(exchange: Exchange) -> None:
        if exchange.ordinal > 1:
            exchange.close()
        else:
            exchange.send(wire.response(b"fresh"))

    lane.backend.script = dead_if_pooled
    assert clients[0].get(lane.host).body == b"fresh"


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_a_connection_that_was_closed_while_idle_loses_no_request(lane: Lane, method: str) -> None:
    client = lane.connect()
    for number in range(10):
        assert client.get(lane.host, f"/{number}", method=method).status == 200
        connection = lane.backend.connections[-1]
        connection.half_close()
        lane.backend.wait_until(lambda c=connection: c.ended)
    assert len(lane.backend.requests) == 10


def test_pipelining_without_reading_is_bounded(lane: Lane) -> None:
    """A client that asks and asks and never reads: its requests wait, nobody's memory fills."""
    size = 200_000
    lane.backend.script = lambda exchange: exchange.send(wire.response(b"x" * size))
    client = lane.connect(receive_buffer=4096)
    count = 500
    asking = threading.Thread(target=client.send, args=(lane.head("GET /") * count,))
    asking.start()
    lane.backend.wait_for_requests(1)
    # 100 MB were asked for; the socket buffers between hold a few requests' worth.
    with pytest.raises(AssertionError, match="not within"):
        lane.backend.wait_until(lambda: len(lane.backend.requests) > 200, deadline_s=1)
    assert lane.get("/another").status == 200
    for _ in range(count):
        assert len(client.read_response().body) == size
    asking.join(20)


def test_a_hundred_thousand_tiny_chunks(lane: Lane) -> None:
    count = 100_000
    client = lane.connect()
    client.send(lane.head("POST /", "Transfer-Encoding: chunked"))
    client.send(b"1\r\nx\r\n" * count + b"0\r\n\r\n")
    assert client.read_response("POST").status == 200
    assert lane.backend.last.body == b"x" * count


def test_a_response_of_tiny_chunks(lane: Lane) -> None:
    count = 100_000
    data = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * count
    lane.backend.script = lambda exchange: exchange.send(data + b"0\r\n\r\n")
    client = lane.connect()
    assert client.get(lane.host).body == b"x" * count
    assert client.get(lane.host).body == b"x" * count
