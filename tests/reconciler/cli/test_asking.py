"""What commands say of a daemon that is none, is starting, or is of another version."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from reconciler.storage.file.place import lock_directory
from tests.harness.daemon import Kakehi
from tests.harness.repo import Repo

COMMANDS = [
    ("status",),
    ("plan", "REPOSITORY"),
    ("wait", "--commit", "HEAD", "--timeout", "2s"),
    ("history",),
    ("show",),
    ("show", "limits"),
    ("explain", "http://shop.test/"),
    ("drain", "shop/one"),
    ("undrain", "shop/one"),
    ("forgive", "--all"),
    ("retry",),
]
ANSWERS = [
    b"hello\n",
    b"[]\n",
    b'"ok"\n',
    b'{"ok":true}\n',
    b'{"ok":true,"result":null}\n',
    b'{"ok":true,"result":{}}\n',
    b'{"ok":false,"error":"unknown"}\n',
    b'{"ok":false,"error":{}}\n',
    json.dumps({"ok": False, "error": {"code": "usage", "message": "unknown request 'x'"}}).encode()
    + b"\n",
]


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Kakehi]:
    repo = Repo(tmp_path / "shop")
    repo.commit({"a.yaml": "clusters: {shop: {backends: {one: {address: '127.0.0.1:9'}}}}\n"})
    made = Kakehi(repo)
    yield made
    made.kill()


@contextmanager
def answering(daemon: Kakehi, answer: bytes) -> Iterator[None]:
    """Have somebody answer the same to whatever is asked."""
    path = Path(daemon.runtime_dir) / "control.sock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen(16)

        def answers() -> None:
            while True:
                try:
                    asking, _ = listening.accept()
                except OSError:
                    return
                with asking:
                    asking.recv(1 << 16)
                    asking.sendall(answer)

        thread = threading.Thread(target=answers, daemon=True)
        thread.start()
        yield
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(10)
    path.unlink()


def said(daemon: Kakehi, line: tuple[str, ...]) -> tuple[int, str]:
    given = [word.replace("REPOSITORY", str(daemon.repo.directory)) for word in line]
    done = daemon.run_cli(*given)
    return done.returncode, done.stderr


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: answer.decode().strip()[:40])
def test_another_version_is_named_as_that(answer: bytes, daemon: Kakehi) -> None:
    with answering(daemon, answer):
        for line in COMMANDS:
            code, text = said(daemon, line)
            assert code == 1, (line, text)
            assert "of another version than this command" in text, (line, text)
            assert "kakehi run" in text and "error in Kakehi itself" not in text, (line, text)


def test_what_lies_deeper_in_an_answer_is_asked_for_in_the_same_way(daemon: Kakehi) -> None:
    answer = {"ok": True, "result": {"commit": None, "drains": [], "entries": [{"position": 0}]}}
    with answering(daemon, json.dumps(answer).encode() + b"\n"):
        code, text = said(daemon, ("history",))
    assert (code, 'the answer of the daemon has no "' in text) == (1, True), text


@pytest.mark.parametrize("line", COMMANDS, ids=" ".join)
def test_one_that_starts_is_not_called_none(line: tuple[str, ...], daemon: Kakehi) -> None:
    code, text = said(daemon, line)
    assert code in (1, 8) and "no daemon runs at" in text, text
    lock = lock_directory(daemon.runtime_dir)
    try:
        code, text = said(daemon, line)
    finally:
        os.close(lock)
    assert code in (1, 8) and "a daemon starts or ends at" in text, text
    assert "kakehi wait" in text and "no daemon runs" not in text, text


def test_that_one_went_away_is_told_once(daemon: Kakehi) -> None:
    with answering(daemon, b""):
        code, text = said(daemon, ("wait", "--commit", "HEAD", "--timeout", "2s"))
    assert code != 0
    assert text.count("waiting for the next one") == 1, text
