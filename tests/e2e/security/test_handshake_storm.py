"""Hundreds of full handshakes at once: whoever has a connection is served as quickly as before.

Each costs the worker an RSA signature of some milliseconds, and the clients send their first
message only, which costs them nothing. One after the other in one turn they would stall everybody.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import metrics, pki, ports, wire
from tests.harness.daemon import Kakehi
from tests.harness.rawbackend import Exchange, RawBackend
from tests.harness.rawclient import Connection
from tests.harness.repo import Repo

STORM = 300
BITS = 4096
# The storm as a whole takes more than half a second of the worker.
STORM_S_MIN = 0.4
# Of the storm's time, in the best of a few attempts: the machine may have other things to do.
WAIT_SHARE_MAX = 0.15
ATTEMPTS = 3


class Site:
    """One worker with a listener in clear text and one over TLS with a costly certificate."""

    def __init__(self, directory: Path) -> None:
        self.clear, self.secure, self.admin = (ports.address() for _ in range(3))
        self.backend = RawBackend(self.answer)
        self.daemon = Kakehi(Repo(directory / "repository"))
        pair = pki.make("shop.test", kind="rsa", bits=BITS)
        self.daemon.repo.commit(
            {
                "kakehi.yaml": {
                    "settings": {"access_log": "off", "admin": self.admin},
                    "certificates": {
                        "shop": {"certificate": "tls/shop.crt", "private_key": "tls/shop.key"}
                    },
                    "listeners": {
                        "clear": {"address": self.clear},
                        "secure": {
                            "address": self.secure,
                            "protocol": "https",
                            "tls": {"default_certificate": "shop"},
                        },
                    },
                    "clusters": {"shop": {"backends": {"b": {"address": self.backend.address}}}},
                    "frontends": {"all": {"listeners": ["clear", "secure"], "cluster": "shop"}},
                },
                "tls/shop.crt": pair.chain.decode(),
                "tls/shop.key": pair.key.decode(),
            }
        )
        self.daemon.start()

    @staticmethod
    def answer(exchange: Exchange) -> None:
        exchange.send(wire.response(b"ok"))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.daemon.stop()
    made.backend.stop()


def first_message() -> bytes:
    """What a client begins a full handshake with."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    out = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname="shop.test")
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return out.read()


def test_requests_stay_quick_while_handshakes_come(site: Site) -> None:
    shares = []
    for _ in range(ATTEMPTS):
        shares.append(longest_wait(site))
        if shares[-1] < WAIT_SHARE_MAX:
            break
    else:
        raise AssertionError(f"somebody waited for {min(shares):.0%} of the storm")
    # The handshakes that were begun were not counted against anybody.
    assert metrics.scrape(site.admin)["kakehi_mishaps_total"] == 0


def longest_wait(site: Site) -> float:
    """The longest that a request took during a storm, as a share of the storm's time."""
    hello = first_message()
    host, _, port = site.secure.rpartition(":")
    storm = [socket.create_connection((host, int(port))) for _ in range(STORM)]
    with contextlib.ExitStack() as stack:
        for each in storm:
            stack.enter_context(each)
        innocent = stack.enter_context(Connection(site.clear))
        assert innocent.get("shop.test").status == 200
        began = time.monotonic()
        for each in storm:
            each.sendall(hello)
        waits = []
        answered = 0
        while answered < STORM:
            asked = time.monotonic()
            assert innocent.get("shop.test").status == 200
            waits.append(time.monotonic() - asked)
            for each in storm[answered:]:
                each.setblocking(False)
                try:
                    assert each.recv(1 << 16)
                except BlockingIOError:
                    break
                answered += 1
        took = time.monotonic() - began
    # Otherwise nothing was put to the test.
    assert took > STORM_S_MIN
    return max(waits) / took
