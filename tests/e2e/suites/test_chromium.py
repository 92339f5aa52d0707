"""Headless Chromium: a page with a hundred resources over HTTP/2, and a WebSocket through changes.

The page itself does what is asked of it and tells the backend what came of it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from tests.harness import metrics, pki, ports, wire
from tests.harness.rawbackend import Exchange, RawBackend
from tests.harness.repo import Content
from tests.harness.tlssite import TlsSite, pem_files
from tests.harness.websocket import serve_echo

RESOURCES = 100
_TOLD_S = 60.0

PAGE = """<!doctype html><title>t</title><script>
const told = (what) => fetch("/told", {method: "POST", body: JSON.stringify(what)});
const all = (from, count) => Promise.all(Array.from({length: count}, (_, n) =>
  fetch(`/resource/${from + n}`).then(r => r.text().then(t => r.status + " " + t))));
const socket = new WebSocket(`wss://${location.host}/socket`);
let echoes = 0, closed = 0;
socket.onmessage = () => { echoes += 1; };
socket.onclose = socket.onerror = () => { closed += 1; };
const phase = async (name, from, count) => {
  const got = await all(from, count);
  const before = echoes;
  socket.send(name);
  while (echoes === before && !closed) await new Promise(r => setTimeout(r, 20));
  const protocols = [...new Set(performance.getEntriesByType("resource")
    .filter(e => e.name.includes("/resource/")).map(e => e.nextHopProtocol))];
  await told({phase: name, good: got.filter((t, n) => t === `200 ${from + n}`).length,
              protocols, echoes, closed});
};
socket.onopen = async () => {
  try {
    await phase("first", 0, COUNT);
    await fetch("/go");
    await phase("second", COUNT, COUNT);
  } catch (error) { await told({phase: "failed", error: String(error)}); }
};
</script>""".replace("COUNT", str(RESOURCES))


class Server:
    """Serves the page, its resources and the socket; keeps what the page tells."""

    def __init__(self) -> None:
        self.told: dict[str, dict[str, Any]] = {}
        self.changed = threading.Condition()
        self.go = threading.Event()
        self.backend = RawBackend(self._answer)

    def _answer(self, exchange: Exchange) -> None:
        path = exchange.request.target.decode()
        if path == "/socket":
            serve_echo(exchange)
            return
        body = exchange.read_body()
        answer, kind = b"", "text/plain"
        if path == "/":
            answer, kind = PAGE.encode(), "text/html"
        elif path.startswith("/resource/"):
            answer = path.rpartition("/")[2].encode()
        elif path == "/go":
            exchange.wait(self.go)
        elif path == "/told":
            found = json.loads(body)
            with self.changed:
                self.told[found["phase"]] = found
                self.changed.notify_all()
        exchange.send(wire.response(answer, fields=[("Content-Type", kind)]))

    def wait_for(self, phase: str) -> dict[str, Any]:
        with self.changed:
            self.changed.wait_for(lambda: {phase, "failed"} & self.told.keys(), _TOLD_S)
        assert phase in self.told, f"the page has told {self.told}"
        return self.told[phase]


def pin(pair: pki.Pair) -> str:
    """The hash by which Chromium is told to trust a key."""
    key = pair.private_key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return base64.b64encode(hashlib.sha256(key).digest()).decode()


@contextmanager
def chromium(url: str, address: str, pins: list[str], directory: Path) -> Iterator[Path]:
    """The browser at that page; yields the file with what it says."""
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("tests/install-tools could not install chromium")
    said = directory / "chromium.log"
    with said.open("wb") as output:
        process = subprocess.Popen(
            [
                *(program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"),
                *("--no-first-run", "--disable-background-networking"),
                *("--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
                *("--remote-debugging-port=0", f"--user-data-dir={directory / 'profile'}"),
                f"--host-resolver-rules=MAP www.test:443 {address}",
                f"--ignore-certificate-errors-spki-list={','.join(pins)}",
                url,
            ],
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
        )
        try:
            yield said
        finally:
            process.terminate()
            process.wait(30)


def test_a_page_and_its_socket_across_a_rotation_and_a_commit(tmp_path: Path) -> None:
    server = Server()
    with TlsSite(tmp_path) as site:
        first, second = site.leaf("www.test"), site.leaf("www.test", kind="rsa")
        files: dict[str, Content] = site.files({"shop": first})
        document: Any = files["kakehi.yaml"]
        document["clusters"]["main"]["backends"] = {"page": {"address": server.backend.address}}
        admin = document["settings"]["admin"] = ports.address()
        site.start(files)
        with chromium("https://www.test/", site.https, [pin(first), pin(second)], tmp_path) as said:
            try:
                before = server.wait_for("first")
            except AssertionError as error:
                raise AssertionError(f"{error}\n{said.read_text(errors='replace')}") from None
            assert before["good"] == RESOURCES
            assert before["protocols"] == ["h2"]
            connections = handshakes(admin)
            site.commit(pem_files({"shop": second}))
            document["clusters"]["main"]["retries"] = 5
            site.commit({"kakehi.yaml": document})
            server.go.set()
            after = server.wait_for("second")
            # The same connection went on: no other was made in between.
            assert handshakes(admin) == connections
        assert (after["good"], after["protocols"]) == (RESOURCES, ["h2"])
        assert (after["echoes"], after["closed"]) == (2, 0)
        assert site.shown() == second.der
        served = site.daemon.wait_for_access(
            lambda each: "/resource/" in each["path"], 2 * RESOURCES
        )
        assert len(served) == 2 * RESOURCES
        assert {each["status"] for each in served} == {200}
        assert {each["generation"] for each in served} == {1, 3}
        assert {each["protocol"] for each in served} == {"HTTP/2.0"}
    server.backend.stop()


def handshakes(admin: str) -> float:
    """How many there have been, at all workers."""
    found = metrics.scrape(admin).items()
    return sum(value for name, value in found if name.startswith("kakehi_tls_handshakes_total"))
