"""Strangers and garbage on the workers' control sockets: F14. None of it is ever half applied."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

from tests.harness.load import OpenLoop
from tests.harness.site import Site

DEADLINE_S = 20.0


def frame(message: object) -> bytes:
    body = json.dumps(message).encode()
    return len(body).to_bytes(4, "big") + body


HELLO_OF_THE_PAST = frame({"type": "hello", "epoch": 0})
COMMIT = {"type": "commit", "transaction": 1, "generation": 99}
PREPARE: dict[str, Any] = {
    "type": "prepare",
    "transaction": 1,
    "generation": 99,
    "base_generation": 1,
    "base_digest": "0" * 32,
    "commit": "f" * 40,
    "ops": '{"puts":[],"removes":[]}',
    "sockets": [],
}

SENDINGS = {
    "nothing": b"",
    "garbage": os.urandom(5000),
    "text": b"GET / HTTP/1.1\r\n\r\n",
    "a length and no body": (1000).to_bytes(4, "big"),
    "a torn message": frame(COMMIT)[:-5],
    "a length of 4 GiB": b"\xff\xff\xff\xff" + b"x" * 1000,
    "a length over the limit": (64 * 1024 * 1024 + 1).to_bytes(4, "big") + b"x" * 1000,
    "no JSON": (4).to_bytes(4, "big") + b"{]}[",
    "no message": frame(["hello"]),
    "an unknown message": frame({"type": "explode"}),
    "an unknown field": frame({"type": "hello", "epoch": 1, "colour": "red"}),
    "a wrong type": frame({"type": "hello", "epoch": "1"}),
    "a commit before the hello": frame(COMMIT),
    "a prepare before the hello": frame(PREPARE),
    "a hello of the past": HELLO_OF_THE_PAST,
    "a shutdown after a hello of the past": HELLO_OF_THE_PAST
    + frame({"type": "shutdown", "drain_ms": 0}),
}


def test_garbage_is_refused_and_the_worker_serves_on(site: Site, tmp_path: Path) -> None:
    site.start({"kakehi.yaml": site.document({"main": ["red"]}, {"main": "main"})})
    before, workers = site.running(), site.identity()
    path = site.daemon.runtime_dir / "workers" / "0.sock"
    with OpenLoop(site.address, ["main.test"], tmp_path / "load", rate=100, fresh=1) as load:
        for name, content in SENDINGS.items():
            with socket.socket(socket.AF_UNIX) as stranger:
                stranger.settimeout(DEADLINE_S)
                stranger.connect(str(path))
                stranger.sendall(content)
                stranger.shutdown(socket.SHUT_WR)
                answer = bytearray()
                try:
                    while data := stranger.recv(4096):
                        answer += data
                except ConnectionResetError:
                    pass
                assert b"welcome" not in answer, name
                assert b"committed" not in answer, name
            assert site.running() == before, name
        load.stop()
    assert load.failures == []
    assert site.identity() == workers
    # The reconciler's own connection was not concerned.
    site.commit({"kakehi.yaml": site.document({"main": ["blue"]}, {"main": "main"})})
    assert site.everywhere("main.test") == {"blue"}
    assert site.identity() == workers


def test_connections_that_say_nothing_do_not_lock_the_reconciler_out(site: Site) -> None:
    """Its successor has to get in, however many strangers hold connections."""
    site.start({"kakehi.yaml": site.document({"main": ["red"]}, {"main": "main"})})
    workers = site.identity()
    path = site.daemon.runtime_dir / "workers" / "0.sock"
    for name in ("run", "run/workers", "run/workers/0.sock", "run/control.sock"):
        assert (site.daemon.base / name).stat().st_mode & 0o077 == 0, f"{name} is for the owner"
    strangers = [socket.socket(socket.AF_UNIX) for _ in range(3)]
    try:
        for stranger in strangers:
            stranger.connect(str(path))
        site.daemon.leave()
        site.daemon.return_()
        assert site.identity() == workers
        assert site.everywhere("main.test") == {"red"}
    finally:
        for stranger in strangers:
            stranger.close()
