"""T17 over real HTTP/2, in clear and over TLS: what HTTP/1.1 would read otherwise goes nowhere.

Each request is refused (RST_STREAM, GOAWAY or a 4xx), and the backend, which records every byte,
gets either nothing or exactly one request that was meant as one.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import hpack
import pytest
from hyperframe.frame import DataFrame, HeadersFrame, RstStreamFrame

from tests.harness import pki, ports, processes
from tests.harness.daemon import Kakehi
from tests.harness.h2frames import Attacker
from tests.harness.rawbackend import RawBackend
from tests.harness.repo import Repo

Fields = tuple[tuple[str, str], ...]

PLAIN: Fields = (
    (":method", "GET"),
    (":scheme", "https"),
    (":authority", "a.test"),
    (":path", "/"),
)
SMUGGLED = "GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n"


def altered(name: str, value: str) -> Fields:
    return tuple((each, value if each == name else old) for each, old in PLAIN)


REFUSED: dict[str, Fields] = {
    "crlf in a value": (*PLAIN, ("x-a", "1\r\nx-b: 2")),
    "lf in a value": (*PLAIN, ("x-a", "1\nx-b: 2")),
    "cr in a value": (*PLAIN, ("x-a", "1\rx-b: 2")),
    "nul in a value": (*PLAIN, ("x-a", "1\0")),
    "a request in a value": (*PLAIN, ("x-a", f"1\r\n\r\n{SMUGGLED}")),
    "blank before a value": (*PLAIN, ("x-a", " 1")),
    "crlf in a name": (*PLAIN, ("x-a\r\nx-b", "1")),
    "colon in a name": (*PLAIN, ("x-a: 1", "2")),
    "blank in a name": (*PLAIN, ("x a", "1")),
    "nul in a name": (*PLAIN, ("x\0a", "1")),
    "no name": (*PLAIN, ("", "1")),
    "large letters in a name": (*PLAIN, ("Transfer-Encoding", "chunked")),
    "transfer-encoding": (*PLAIN, ("transfer-encoding", "chunked")),
    "connection": (*PLAIN, ("connection", "x-secret")),
    "keep-alive": (*PLAIN, ("keep-alive", "1")),
    "proxy-connection": (*PLAIN, ("proxy-connection", "close")),
    "upgrade": (*PLAIN, ("upgrade", "websocket")),
    "te other than trailers": (*PLAIN, ("te", "gzip")),
    "two hosts": (*PLAIN, ("host", "b.test")),
    "two authorities": (*PLAIN, (":authority", "b.test")),
    "an authority with a user": altered(":authority", "user@a.test"),
    "an authority with a path": altered(":authority", "a.test/x"),
    "an authority with a line": altered(":authority", f"a.test\r\n\r\n{SMUGGLED}"),
    "no authority": altered(":authority", ""),
    "a blank in the path": altered(":path", "/ HTTP/1.1"),
    "a request in the path": altered(":path", f"/ HTTP/1.1\r\nHost: a.test\r\n\r\n{SMUGGLED}"),
    "a tab in the path": altered(":path", "/\tx"),
    "an empty path": altered(":path", ""),
    "a relative path": altered(":path", "smuggled"),
    "an absolute path": altered(":path", "http://b.test/"),
    "a fragment": altered(":path", "/#x"),
    "a blank in the method": altered(":method", "GET /smuggled HTTP/1.1"),
    "a line in the method": altered(":method", "GET\r\n"),
    "an empty method": altered(":method", ""),
    "connect": altered(":method", "CONNECT"),
    "a scheme with a line": altered(":scheme", "https\r\nx: y"),
    "a status": (*PLAIN, (":status", "200")),
    "an unknown pseudo field": (*PLAIN, (":x", "1")),
    "a pseudo field behind others": (*PLAIN[:3], ("x-a", "1"), PLAIN[3]),
    "two paths": (*PLAIN, (":path", "/b")),
    "no method": PLAIN[1:],
    "no path": PLAIN[:3],
    "two lengths": (*PLAIN, ("content-length", "1"), ("content-length", "2")),
    "a list of lengths": (*PLAIN, ("content-length", "1, 1")),
    "a signed length": (*PLAIN, ("content-length", "+1")),
    "a length without body": (*PLAIN, ("content-length", "5")),
}


class Place:
    """One worker with both kinds of listener."""

    def __init__(self, directory: Path) -> None:
        self.addresses = {"h2c": ports.address(), "tls": ports.address()}
        self.backend = RawBackend()
        pair = pki.make("a.test")
        repo = Repo(directory / "repository")
        listeners = {
            "h2c": {"address": self.addresses["h2c"], "h2c": True},
            "tls": {
                "address": self.addresses["tls"],
                "protocol": "https",
                "tls": {"default_certificate": "own"},
            },
        }
        document = {
            "listeners": listeners,
            "clusters": {"main": {"backends": {"raw": {"address": self.backend.address}}}},
            "frontends": {"all": {"listeners": list(listeners), "cluster": "main"}},
            "certificates": {"own": {"certificate": "own.crt", "private_key": "own.key"}},
        }
        repo.commit({"kakehi.yaml": document, "own.crt": pair.chain, "own.key": pair.key})
        self.daemon = Kakehi(repo)
        self.daemon.start()
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.check_hostname = False
        self.context.verify_mode = ssl.CERT_NONE
        self.context.set_alpn_protocols(["h2"])

    def attacker(self, over: str) -> Attacker:
        return Attacker(self.addresses[over], context=self.context if over == "tls" else None)

    def works(self, over: str) -> bool:
        """Whether an honest request is served, which the backend gets as it was meant."""
        self.backend.reset()
        with self.attacker(over) as client:
            client.send(client.request(1, (*PLAIN, ("x-honest", "1"))))
            status = self.status(client, 1)
        self.backend.settle()
        [request] = self.backend.requests
        assert request.target == b"/"
        assert request.get("x-honest") == b"1"
        return status == 200

    @staticmethod
    def status(client: Attacker, stream: int) -> int | None:
        """The status of a response; None when the stream or the connection was ended."""

        def answered() -> bool:
            client.read(0.1)
            return (
                client.closed
                or client.go_away() is not None
                or any(
                    isinstance(each, HeadersFrame | RstStreamFrame) and each.stream_id == stream
                    for each in client.frames
                )
            )

        processes.wait_until(answered, "an answer or an end")
        decoder = hpack.Decoder()
        for frame in client.frames:
            if isinstance(frame, HeadersFrame):
                fields = dict(decoder.decode(frame.data))
                if frame.stream_id == stream:
                    return int(fields[":status"])
        return None


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    made = Place(tmp_path_factory.mktemp("downgrade"))
    yield made
    made.daemon.stop()
    made.backend.stop()


@pytest.mark.parametrize("over", ["h2c", "tls"])
@pytest.mark.parametrize("name", REFUSED)
def test_t17_what_would_be_read_otherwise_goes_nowhere(place: Place, name: str, over: str) -> None:
    place.backend.reset()
    with place.attacker(over) as client:
        client.send(client.request(1, REFUSED[name]))
        status = place.status(client, 1)
        assert status is None or 400 <= status < 502, (status, client.frames)
    place.backend.settle()
    assert [bytes(each.received) for each in place.backend.connections] == []
    assert place.works(over)


@pytest.mark.parametrize("over", ["h2c", "tls"])
@pytest.mark.parametrize(("length", "sent"), [(5, 3), (3, 5), (0, 1), (5, 0)])
def test_t17_a_length_that_is_not_what_comes(
    place: Place, over: str, length: int, sent: int
) -> None:
    """The body of a request ends where its frames end, and never where a field says."""
    place.backend.reset()
    post = (*altered(":method", "POST"), ("content-length", str(length)))
    with place.attacker(over) as client:
        body = DataFrame(1, (SMUGGLED.encode() * 2)[:sent], flags=["END_STREAM"])
        client.send(client.request(1, post, ends=False), body)
        assert place.status(client, 1) in (None, 400)
    place.backend.settle()
    for connection in place.backend.connections:
        # It may have seen a beginning; the rest never came, and the connection is no one else's.
        place.backend.wait_until(lambda each=connection: each.ended, "the connection is closed")
        assert b"smuggled" not in connection.received
    assert place.works(over)


@pytest.mark.parametrize("over", ["h2c", "tls"])
def test_t17_trailers_are_no_fields_of_the_head(place: Place, over: str) -> None:
    place.backend.reset()
    for name in ("content-length", "transfer-encoding", "host", ":path", "x\r\ny"):
        with place.attacker(over) as client:
            trailers = client.request(1, ((name, "7"),))
            client.send(
                client.request(1, altered(":method", "POST"), ends=False),
                DataFrame(1, b"body"),
                trailers,
            )
            place.status(client, 1)
    place.backend.settle()
    for request in place.backend.requests:
        assert (request.method, request.target) == (b"POST", b"/")
        assert request.trailers == []
        assert request.all("host") == [b"a.test"]
        assert request.all("content-length") == []
    assert place.works(over)
