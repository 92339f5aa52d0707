"""Handshakes without pause, and connections that live, from a process of its own.

Started by `Storm`, which the rotation test uses. New handshakes come one after the other on each of
`handshakers` threads, each with one request; `livers` connections ask every 50 ms and are never
closed by us. Everything that fails is a line of the result, a JSON object that the end writes.
"""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.harness import processes, tls
from tests.harness.tls import TlsConnection

ROOT = Path(__file__).resolve().parents[2]
_PAUSE_S = 0.05
_END_S = 30.0
_FAULTS_MAX = 20


class Storm:
    """Use as a context manager; `stop` returns what came of it."""

    def __init__(
        self,
        address: str,
        authority: str,
        directory: Path,
        *,
        name: str,
        handshakers: int = 2,
        livers: int = 8,
        life_s: float = 900,
    ) -> None:
        self._result = directory / "storm.json"
        self._ready = directory / "storm.ready"
        plan = {
            "address": address,
            "authority": authority,
            "name": name,
            "handshakers": handshakers,
            "livers": livers,
            "life_s": life_s,
            "ready": str(self._ready),
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.harness.tlsstorm", json.dumps(plan), str(self._result)],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
        )

    def __enter__(self) -> Storm:
        processes.wait_until(
            lambda: self._ready.exists() or self._process.poll() is not None, "the storm begins"
        )
        assert self._process.poll() is None, "the storm ended at once"
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(_END_S)

    def stop(self) -> dict[str, Any]:
        """`faults`, `handshakes`, `requests`, and `certificates` by SHA-256 and count."""
        assert self._process.poll() is None, "the storm ended early"
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(_END_S)
        assert self._process.returncode == 0
        result: dict[str, Any] = json.loads(self._result.read_text())
        return result


class _Client:
    def __init__(self, plan: dict[str, Any]) -> None:
        self._address, self._name = plan["address"], plan["name"]
        self._authority = plan["authority"]
        self._end = threading.Event()
        self._lock = threading.Lock()
        self.living = threading.Barrier(plan["livers"] + 1)
        self.faults: list[str] = []
        self.handshakes = self.requests = 0
        self.certificates: Counter[str] = Counter()

    def end(self, *_: object) -> None:
        self._end.set()

    def wait(self, seconds: float) -> None:
        self._end.wait(seconds)

    def handshake(self) -> None:
        """One new connection after the other, without resumption."""
        context = tls.trusting_file(self._authority)
        while not self._end.is_set():
            try:
                with TlsConnection(self._address, context, self._name) as connection:
                    self._ask(connection)
                    shown = hashlib.sha256(connection.shown).hexdigest()
            except Exception as error:  # noqa: BLE001  # each of them is a finding
                self._fault("handshake", error)
                continue
            with self._lock:
                self.handshakes += 1
                self.certificates[shown] += 1

    def live(self) -> None:
        """One connection for the whole storm."""
        try:
            context = tls.trusting_file(self._authority)
            with TlsConnection(self._address, context, self._name) as connection:
                self._ask(connection)
                self.living.wait(_END_S)
                while not self._end.wait(_PAUSE_S):
                    self._ask(connection)
                self._ask(connection)
        except Exception as error:  # noqa: BLE001
            self._fault("living connection", error)

    def _ask(self, connection: TlsConnection) -> None:
        response = connection.get(self._name)
        if response.status != 200:
            raise AssertionError(f"answered {response.status}")
        with self._lock:
            self.requests += 1

    def _fault(self, what: str, error: Exception) -> None:
        with self._lock:
            if len(self.faults) < _FAULTS_MAX:
                self.faults.append(f"{time.time():.3f} {what}: {type(error).__name__}: {error}")


def main(plan: dict[str, Any], result: Path) -> None:
    client = _Client(plan)
    signal.signal(signal.SIGTERM, client.end)
    threads = [
        *(threading.Thread(target=client.handshake) for _ in range(plan["handshakers"])),
        *(threading.Thread(target=client.live) for _ in range(plan["livers"])),
    ]
    for thread in threads:
        thread.start()
    client.living.wait(_END_S)
    Path(plan["ready"]).touch()
    client.wait(plan["life_s"])
    for thread in threads:
        thread.join()
    found = {
        "faults": client.faults,
        "handshakes": client.handshakes,
        "requests": client.requests,
        "certificates": client.certificates,
    }
    result.write_text(json.dumps(found))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), Path(sys.argv[2]))
