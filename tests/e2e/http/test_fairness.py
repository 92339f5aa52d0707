"""Large transfers take turns by bytes, so that what is small beside them waits for little."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from tests.harness import metrics, ports, processes, wire
from tests.harness.daemon import Kakehi, stopped
from tests.harness.rawbackend import Exchange, RawBackend
from tests.harness.rawclient import Connection
from tests.harness.repo import Repo

TRANSFERS = 24
# More than lies in the buffers of the kernel on its way.
BYTES = 12 << 20
# Half a mebibyte, and what exceeds it: a quarter is passed on at once, but for a byte, and a pipe.
BYTES_PER_TURN_MAX = (512 + 256 + 1024) << 10


@pytest.mark.parametrize("way", ["download", "upload"])
def test_a_turn_of_the_loop_moves_so_many_bytes_only(tmp_path: Path, way: str) -> None:
    address, admin = ports.address(), ports.address()
    begun = threading.Semaphore(0)
    body = b"x" * BYTES

    def answer(exchange: Exchange) -> None:
        exchange.read_body()
        if exchange.request.path == "/download":
            begun.release()
            exchange.send(wire.response(body))
        else:
            exchange.send(wire.response())

    with RawBackend(answer) as backend:
        daemon = Kakehi(Repo(tmp_path / "repository"))
        daemon.repo.commit(
            {
                "kakehi.yaml": {
                    "settings": {"access_log": "off", "admin": admin},
                    "listeners": {"front": {"address": address}},
                    "clusters": {"shop": {"backends": {"b": {"address": backend.address}}}},
                    "frontends": {"all": {"listeners": ["front"], "cluster": "shop"}},
                }
            }
        )
        with daemon:
            (pid,) = daemon.worker_pids()
            head = f"GET /{way} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
            if way == "upload":
                head = f"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {BYTES}\r\n\r\n".encode()
            clients = [Connection(address) for _ in range(TRANSFERS)]

            def transfer(client: Connection) -> None:
                if way == "upload":
                    client.send(body)
                assert client.read_response().status == 200

            for client in clients:
                client.send(head)
            processes.wait_until(
                lambda: metrics.scrape(admin)["kakehi_worker_requests"] == TRANSFERS, "all begun"
            )
            threads = [threading.Thread(target=transfer, args=[client]) for client in clients]
            with stopped(pid):
                # Everybody has something for the worker when it goes on.
                for thread in threads:
                    thread.start()
                time.sleep(0.5)
            before = metrics.scrape(admin)
            for thread in threads:
                thread.join()
            after = metrics.scrape(admin)
            for client in clients:
                client.close()
        direction = {"download": "to", "upload": "from"}[way]
        moved = _grown(before, after, f"kakehi_bytes_{direction}_clients_total")
        turns = _grown(before, after, "kakehi_loop_turns_total")
        assert moved / turns < BYTES_PER_TURN_MAX, (moved, turns)


def _grown(before: dict[str, float], after: dict[str, float], name: str) -> float:
    return after[name] - before[name]
