"""The PROXY protocol to backends, with HAProxy as the one that is told."""

from __future__ import annotations

import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import pki, ports, processes
from tests.harness.daemon import Kakehi
from tests.harness.rawclient import Connection
from tests.harness.repo import Repo

_HAPROXY = """\
global
  nbthread 1
defaults
  mode http
  timeout client 20s
  timeout server 20s
  timeout connect 5s
frontend told
  bind {plain} accept-proxy
  bind {secure} accept-proxy ssl crt {pem}
  http-request return status 200 content-type text/plain lf-string "%[src]:%[src_port] %[dst]"
"""


class Told:
    """HAProxy, which answers with what it was told, behind a daemon that tells it."""

    def __init__(self, directory: Path) -> None:
        self.plain, self.secure, self.front, self.passed = (ports.address() for _ in range(4))
        self.pair = pki.make("shop.test")
        self.daemon = Kakehi(Repo(directory / "repository"))
        pem = directory / "backend.pem"
        pem.write_bytes(self.pair.chain + self.pair.key)
        config = directory / "haproxy.cfg"
        config.write_text(_HAPROXY.format(plain=self.plain, secure=self.secure, pem=pem))
        self.haproxy = subprocess.Popen(["haproxy", "-db", "-f", str(config)])

    def stop(self) -> None:
        if self.daemon.process is not None:
            self.daemon.stop()
        self.haproxy.terminate()
        self.haproxy.wait(10)

    def start(self, version: str) -> None:
        def cluster(address: str, **more: Any) -> dict[str, Any]:
            return {"proxy_protocol": version, "backends": {"b": {"address": address}}, **more}

        trusted = {"ca": "tls/ca.pem", "server_name": "shop.test"}
        frontends = {
            name: {"listeners": ["front"], "cluster": name, "path": {"prefix": f"/{name}"}}
            for name in ("plain", "secure")
        }
        passed = {"listeners": ["tls"], "cluster": "passed", "hostname": "shop.test"}
        self.daemon.repo.commit(
            {
                "tls/ca.pem": self.pair.pem.decode(),
                "kakehi.yaml": {
                    "settings": {"access_log": str(self.daemon.access_log)},
                    "listeners": {
                        "front": {"address": self.front, "h2c": True},
                        "tls": {"address": self.passed, "protocol": "https"},
                    },
                    "clusters": {
                        "plain": cluster(self.plain),
                        "secure": cluster(self.secure, tls=trusted),
                        "passed": cluster(self.secure),
                    },
                    "frontends": {**frontends, "passed": {**passed, "passthrough": True}},
                },
            }
        )
        self.daemon.start()
        processes.wait_until(lambda: _listens(self.plain), "HAProxy listens")


def _listens(address: str) -> bool:
    try:
        socket.create_connection(ports.split(address), 1).close()
    except OSError:
        return False
    return True


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Told]:
    made = Told(tmp_path)
    yield made
    made.stop()


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_the_backend_is_told_of_each_client(told: Told, version: str) -> None:
    told.start(version)
    for path in ("/plain", "/secure"):
        with Connection(told.front) as one, Connection(told.front) as other:
            for client in (one, other, one):
                expected = f"127.0.0.1:{client.local_port} 127.0.0.1"
                assert client.get("shop.test", path).body.decode() == expected


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_backend_that_has_the_certificate_is_told_too(told: Told, version: str) -> None:
    told.start(version)
    context = ssl.create_default_context(cadata=told.pair.pem.decode())
    plain = socket.create_connection(ports.split(told.passed), 10)
    with context.wrap_socket(plain, server_hostname="shop.test") as client:
        expected = f"127.0.0.1:{client.getsockname()[1]} 127.0.0.1"
        client.sendall(b"GET / HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n")
        got = b""
        while part := client.recv(65536):
            got += part
        assert got.decode().endswith(expected), got


def test_streams_of_http_2_tell_of_their_connection(told: Told) -> None:
    told.start("v2")
    done = subprocess.run(
        [
            "curl",
            "-s",
            "--http2-prior-knowledge",
            "-w",
            " %{local_port}",
            f"http://{told.front}/plain",
        ],
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    source, _, port = done.stdout.split()
    assert source == f"127.0.0.1:{port}"
