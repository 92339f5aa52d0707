"""Connections that end without a byte, as checks of health make them: no error in any metric."""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import pki, ports
from tests.harness.daemon import Kakehi
from tests.harness.metrics import scrape, wait_for
from tests.harness.repo import Repo

ERRORS = ("error", "rejected", "refused", "timeout", "aborted")


class Watched:
    """A daemon with a listener of each kind, and what it has counted as errors."""

    def __init__(self, directory: Path) -> None:
        self.pair = pki.make("shop.test")
        self.admin = ports.address()
        kinds = ("plain", "h2c", "tls", "hello", "told")
        self.addresses = {kind: ports.address() for kind in kinds}
        self.daemon = Kakehi(Repo(directory), workers=1)
        more: dict[str, dict[str, object]] = {
            "h2c": {"h2c": True},
            "tls": {"protocol": "https"},
            "hello": {"protocol": "https"},
            "told": {"proxy_protocol": ["127.0.0.0/8"]},
        }
        self.daemon.repo.commit(
            {
                "tls/shop.crt": self.pair.chain.decode(),
                "tls/shop.key": self.pair.key.decode(),
                "kakehi.yaml": {
                    "settings": {"access_log": str(self.daemon.access_log), "admin": self.admin},
                    "listeners": {
                        kind: {"address": address, **more.get(kind, {})}
                        for kind, address in self.addresses.items()
                    },
                    "certificates": {
                        "shop": {"certificate": "tls/shop.crt", "private_key": "tls/shop.key"}
                    },
                    "clusters": {"shop": {"backends": {}}},
                    "frontends": {
                        "all": {"listeners": [*self.addresses], "cluster": "shop"},
                        # Makes that listener look at the first message before any handshake.
                        "passing": {
                            "listeners": ["hello"],
                            "hostname": "passed.test",
                            "passthrough": True,
                            "cluster": "shop",
                        },
                    },
                },
            }
        )
        self.daemon.start()

    def errors(self) -> dict[str, float]:
        return {
            name: value
            for name, value in scrape(self.admin).items()
            if any(word in name for word in ERRORS)
        }

    def wait_for_none_left(self) -> None:
        wait_for(self.admin, lambda numbers: numbers["kakehi_worker_connections"] == 0)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    made = Watched(tmp_path_factory.mktemp("watched"))
    yield made
    made.daemon.stop()


def _leave(address: str, how: str) -> None:
    connection = socket.create_connection(ports.split(address), 10)
    if how == "reset":
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("kind", ["plain", "h2c", "tls", "hello", "told"])
def test_a_connection_without_a_byte_is_no_error(watched: Watched, kind: str, how: str) -> None:
    before = watched.errors()
    accepted = scrape(watched.admin)["kakehi_connections_accepted_total"]
    for _ in range(5):
        _leave(watched.addresses[kind], how)
    wait_for(
        watched.admin,
        lambda numbers: numbers["kakehi_connections_accepted_total"] == accepted + 5,
    )
    watched.wait_for_none_left()
    assert watched.errors() == before
    assert watched.daemon.access_entries() == []


@pytest.mark.parametrize(
    ("kind", "said", "counter"),
    [
        ("tls", b"GET / HTTP/1.1\r\n\r\n", "kakehi_tls_handshake_errors_total"),
        ("hello", b"GET / HTTP/1.1\r\n\r\n", "kakehi_tls_handshake_errors_total"),
        ("told", b"PROXY TCP4", "kakehi_proxy_protocol_errors_total"),
        ("told", b"GET / HTTP/1.1\r\n", "kakehi_proxy_protocol_errors_total"),
    ],
)
def test_one_that_has_begun_to_speak_still_is(
    watched: Watched, kind: str, said: bytes, counter: str
) -> None:
    before = watched.errors()[counter]
    connection = socket.create_connection(ports.split(watched.addresses[kind]), 10)
    connection.sendall(said)
    connection.close()
    wait_for(watched.admin, lambda numbers: numbers[counter] == before + 1)


def test_a_client_that_does_not_trust_us_is_counted(watched: Watched) -> None:
    before = watched.errors()["kakehi_tls_handshake_errors_total"]
    plain = socket.create_connection(ports.split(watched.addresses["tls"]), 10)
    with pytest.raises(ssl.SSLError):
        ssl.create_default_context().wrap_socket(plain, server_hostname="shop.test")
    plain.close()
    wait_for(
        watched.admin,
        lambda numbers: numbers["kakehi_tls_handshake_errors_total"] == before + 1,
    )
