"""Streams of a client whose backend shows a chain of certificates longer than a small read."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import hpack
import pytest
from hyperframe.frame import Frame, HeadersFrame

from tests.harness import pki, ports, processes
from tests.harness.daemon import Kakehi
from tests.harness.h2frames import Attacker
from tests.harness.repo import Repo

CERTIFICATES = 45
# The handshake message must not fit into what is read at once for a stream, nor be over the limit.
SMALL, LARGE = 34 << 10, 60 << 10


class Wordy:
    """A backend over TLS with many certificates that nobody needs."""

    def __init__(self, directory: Path) -> None:
        pair, other = pki.make("a.test"), pki.make("other.test", kind="rsa", bits=3072)
        pem = directory / "chain.pem"
        pem.write_bytes(pair.key + pair.chain + other.pem * CERTIFICATES)
        assert SMALL < CERTIFICATES * len(other.der) < LARGE
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(pem)
        self.listening = ports.listening()
        self.address = ports.of(self.listening)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                plain, _ = self.listening.accept()
                with self.context.wrap_socket(plain, server_side=True) as secure:
                    secure.recv(65536)
                    secure.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            except ssl.SSLError:
                continue
            except OSError:
                return


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    address = ports.address()
    backend = Wordy(tmp_path)
    daemon = Kakehi(Repo(tmp_path / "repository"))
    daemon.repo.commit(
        {
            "kakehi.yaml": {
                "settings": {"access_log": str(daemon.access_log)},
                "listeners": {"front": {"address": address, "h2c": True}},
                "clusters": {
                    "shop": {
                        "retries": 0,
                        "tls": {"verify": False},
                        "backends": {"a": {"address": backend.address}},
                    }
                },
                "frontends": {"all": {"listeners": ["front"], "cluster": "shop"}},
            }
        }
    )
    daemon.start()
    yield address
    daemon.stop()
    backend.listening.close()


def test_a_long_chain_is_read_to_its_end(address: str) -> None:
    with Attacker(address) as client:
        client.send(client.request(1))

        def heads() -> list[Frame]:
            return [each for each in client.read(0.1) if isinstance(each, HeadersFrame)]

        processes.wait_until(lambda: bool(heads()), "the answer has come")
        assert (":status", "200") in hpack.Decoder().decode(heads()[0].data)
