"""Early data (0-RTT): off unless a frontend asks for it, and then by the rules of RFC 8470 (T31).

One worker, as sessions for early data are known to the one that made them. The client is OpenSSL's.
"""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hpack
import hyperframe.frame
import pytest

from tests.e2e.tls.shop import Shop
from tests.harness import pki, ports, processes, tls, wire
from tests.harness.daemon import Kakehi

ACCEPTED, REJECTED = "Early data was accepted", "Early data was rejected"
NOT_SENT = "Early data was not sent"
DEADLINE_S = 20
# After so long without a byte, the first flight of a client is whole.
FLIGHT_S = 0.5
GET = b"GET /early HTTP/1.1\r\nHost: early.test\r\n\r\n"


class EarlyShop(Shop):
    """early.test asks for early data, late.test on the same listener does not."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.daemon = Kakehi(self.repo, workers=1)
        self.kept = str(directory / "session.pem")
        self.early = directory / "early"
        self.authority = pki.make("An authority", is_ca=True)

    def document(self, tls: dict[str, Any] | None, more: dict[str, Any]) -> dict[str, Any]:
        document = super().document(tls, more)
        document["frontends"] = {
            name: {"listeners": ["front"], "hostname": f"{name}.test", "cluster": "shop"}
            for name in ("early", "late")
        }
        document["frontends"]["early"]["early_data"] = True
        return document

    def start(self, **settings: Any) -> None:
        files = self.files(settings, shop=pki.make("early.test", "late.test"))
        files["tls/clients.pem"] = self.authority.pem.decode()
        self.daemon.begin(files)

    def keep_session(self, name: str = "early.test") -> tls.Said:
        """One ordinary request, whose session is kept."""
        return tls.s_client(self.address, "-sess_out", self.kept, name=name, host=name)

    def ask_early(
        self, data: bytes, *options: str, name: str = "early.test", address: str = ""
    ) -> tls.Said:
        """Resume with early data; a second request in order follows, after which all ends."""
        self.early.write_bytes(data)
        resuming = ("-sess_in", self.kept, "-early_data", str(self.early))
        return tls.s_client(address or self.address, *resuming, *options, name=name, host=name)

    def seen(self, path: bytes) -> list[wire.Request]:
        return [request for request in self.backend.requests if request.target == path]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EarlyShop]:
    with EarlyShop(tmp_path_factory.mktemp("shop")) as made:
        yield made


@pytest.fixture
def shop(shared: EarlyShop) -> EarlyShop:
    """The daemon of all tests here, and a backend of its own: what that has seen is looked at."""
    shared.renew_backend()
    return shared


def test_what_is_safe_is_served_and_marked(shop: EarlyShop) -> None:
    shop.start()
    shop.keep_session()
    said = shop.ask_early(GET)
    assert ACCEPTED in said.text, said.text
    assert said.text.count("HTTP/1.1 200 OK") == 2
    [early] = shop.seen(b"/early")
    assert early.get("early-data") == b"1"
    # What comes after the handshake is like any other.
    assert shop.backend.last.get("early-data") is None


@pytest.mark.parametrize(
    "data",
    [
        b"POST /early HTTP/1.1\r\nHost: early.test\r\nContent-Length: 2\r\n\r\nhi",
        b"DELETE /early HTTP/1.1\r\nHost: early.test\r\n\r\n",
        b"GET /early HTTP/1.1\r\nHost: early.test\r\nContent-Length: 2\r\n\r\nhi",
        b"GET /early HTTP/1.1\r\nHost: late.test\r\n\r\n",
    ],
    ids=["post", "delete", "get-with-body", "another-frontend"],
)
def test_what_is_not_safe_is_too_early(shop: EarlyShop, data: bytes) -> None:
    shop.start()
    shop.keep_session()
    said = shop.ask_early(data)
    assert ACCEPTED in said.text, said.text
    assert "HTTP/1.1 425 Too Early" in said.text
    assert shop.seen(b"/early") == []
    [entry] = shop.daemon.wait_for_access(lambda each: each["status"] == 425)
    assert entry["outcome"] == "too_early"


def test_it_is_off_for_others(shop: EarlyShop) -> None:
    shop.start()
    assert "Max Early Data: 0" in shop.keep_session("late.test").text
    said = shop.ask_early(GET.replace(b"early.test", b"late.test"), name="late.test")
    assert NOT_SENT in said.text, said.text
    assert shop.seen(b"/early") == []


def test_it_is_off_where_clients_show_certificates(shop: EarlyShop) -> None:
    shop.start(client_ca="tls/clients.pem", client_auth="optional")
    assert "Max Early Data: 0" in shop.keep_session().text


def test_turning_it_off_is_a_commit(shop: EarlyShop) -> None:
    shop.start()
    shop.keep_session()
    files = shop.files({}, shop=pki.make("early.test", "late.test"))
    del files["kakehi.yaml"]["frontends"]["early"]["early_data"]
    shop.daemon.commit(files)
    said = shop.ask_early(GET)
    assert REJECTED in said.text, said.text
    assert shop.seen(b"/early") == []


def test_a_backend_may_ask_for_it_again(shop: EarlyShop) -> None:
    shop.start()
    shop.keep_session()
    shop.backend.script = lambda exchange: exchange.send(wire.response(status="425 Too Early"))
    said = shop.ask_early(GET)
    assert "HTTP/1.1 425" in said.text, said.text


class Relay:
    """Passes one connection on; keeps its first flight, and holds back what comes behind it."""

    def __init__(self, target: str) -> None:
        self.first = b""
        self.go_on = threading.Event()
        self._listening = ports.listening()
        self.address = ports.of(self._listening)
        self._target = ports.split(target)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *_: object) -> None:
        self.go_on.set()
        self._listening.close()
        self._thread.join(DEADLINE_S)

    def _run(self) -> None:
        client, _ = self._listening.accept()
        with client, socket.create_connection(self._target, DEADLINE_S) as server:
            back = threading.Thread(target=self._pass, args=[server, client], daemon=True)
            client.settimeout(FLIGHT_S)
            # The first flight: all that comes before anything is answered.
            while True:
                try:
                    self.first += client.recv(65536)
                except TimeoutError:
                    break
            client.settimeout(DEADLINE_S)
            server.sendall(self.first)
            back.start()
            self.go_on.wait(DEADLINE_S)
            self._pass(client, server)
            back.join(DEADLINE_S)

    @staticmethod
    def _pass(source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            return


def test_it_is_served_before_the_handshake_is_complete(shop: EarlyShop) -> None:
    shop.start()
    shop.keep_session()
    with Relay(shop.address) as relay:
        said: list[tls.Said] = []
        client = threading.Thread(
            target=lambda: said.append(shop.ask_early(GET, address=relay.address)), daemon=True
        )
        client.start()
        processes.wait_until(lambda: shop.seen(b"/early"), "the request has arrived")
        relay.go_on.set()
        client.join(DEADLINE_S)
    assert said[0].text.count("HTTP/1.1 200 OK") == 2, said[0].text


def test_a_repetition_is_not_served(shop: EarlyShop) -> None:
    shop.start()
    shop.keep_session()
    with Relay(shop.address) as relay:
        relay.go_on.set()
        shop.ask_early(GET, address=relay.address)
        assert len(shop.seen(b"/early")) == 1
        with socket.create_connection(ports.split(shop.address), DEADLINE_S) as again:
            again.sendall(relay.first)
            answer = again.recv(65536)
            again.shutdown(socket.SHUT_WR)
            while part := again.recv(65536):
                answer += part
    # A handshake was begun: nothing of what it brought along was taken.
    assert answer[:1] == b"\x16"
    assert len(shop.seen(b"/early")) == 1


def test_http2_as_early_data(shop: EarlyShop) -> None:
    """Streams that are safe are served, others are answered; each by itself."""
    shop.start()
    begin = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + hyperframe.frame.SettingsFrame(0).serialize()
    # A frame that is none ends the connection, and so the client.
    end = b"\0\0\1\6\0\0\0\0\0x"
    speak_h2(shop, begin + end, "-sess_out", shop.kept)
    encoder, frames = hpack.Encoder(), b""
    for stream, method in ((1, "GET"), (3, "DELETE")):
        fields = [
            (":method", method),
            (":scheme", "https"),
            (":authority", "early.test"),
            (":path", "/early"),
        ]
        head = hyperframe.frame.HeadersFrame(stream, encoder.encode(fields))
        head.flags |= {"END_HEADERS", "END_STREAM"}
        frames += head.serialize()
    shop.early.write_bytes(begin + frames)
    with Relay(shop.address) as relay:
        speaking = threading.Thread(
            target=speak_h2,
            args=[shop, end, "-sess_in", shop.kept, "-early_data", str(shop.early)],
            kwargs={"address": relay.address},
            daemon=True,
        )
        speaking.start()
        entries = shop.daemon.wait_for_access(lambda each: each["path"] == "/early", 2)
        relay.go_on.set()
        speaking.join(DEADLINE_S)
    assert {each["method"]: each["status"] for each in entries} == {"GET": 200, "DELETE": 425}
    [early] = shop.seen(b"/early")
    assert (early.method, early.get("early-data")) == (b"GET", b"1")


def speak_h2(shop: EarlyShop, data: bytes, *options: str, address: str = "") -> None:
    subprocess.run(
        [
            *("openssl", "s_client", "-connect", address or shop.address, "-quiet", "-ign_eof"),
            *("-servername", "early.test", "-alpn", "h2", *options),
        ],
        input=data,
        capture_output=True,
        timeout=DEADLINE_S + 10,
    )
