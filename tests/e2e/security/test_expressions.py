"""T33: expressions that would take long to compile or to match, by fault or on purpose."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.harness import ports, rawclient
from tests.harness.daemon import Kakehi
from tests.harness.repo import Repo

_HEAVY = "([a-z]{1000}){12}"
_MANY = 150
# By backtracking each of these takes longer than the world has been there.
_PATIENT = ["/(a+)+x", "/(a|aa)+x", "/(a*)*x", "/(a|a?)+x", "/(.*a){30}x", "/([a-z]+)*x"]


def _document(address: str, expressions: list[str]) -> dict[str, Any]:
    def frontend(hostname: str, **match: Any) -> dict[str, Any]:
        respond = {"body": hostname}
        return {"listeners": ["main"], "hostname": hostname, "respond": respond, **match}

    found = {
        f"e{number}": frontend("regex.test", path={"regex": expression})
        for number, expression in enumerate(expressions)
    }
    return {
        "listeners": {"main": {"address": address}},
        "frontends": {"plain": frontend("plain.test"), **found},
    }


def test_no_path_takes_long_to_be_matched(daemons: Callable[..., Kakehi], tmp_path: Path) -> None:
    daemon, address = daemons(Repo(tmp_path / "repository"), workers=1), ports.address()
    daemon.repo.commit({"kakehi.yaml": _document(address, _PATIENT)})
    daemon.start()
    with rawclient.Connection(address) as client:
        for end in ("", "x"):
            began = time.monotonic()
            status = client.get("regex.test", "/" + "a" * 7000 + end).status
            assert status == (200 if end else 404)
            assert time.monotonic() - began < 2


def test_what_takes_long_to_compile_holds_no_request_up(
    daemons: Callable[..., Kakehi], tmp_path: Path
) -> None:
    daemon, address = daemons(Repo(tmp_path / "repository"), workers=1), ports.address()
    daemon.repo.commit({"kakehi.yaml": _document(address, [])})
    daemon.start()
    [pid] = daemon.worker_pids()
    with _Asking(address) as asking:
        heavy = [f"/{number}/{_HEAVY}" for number in range(_MANY)]
        daemon.commit({"kakehi.yaml": _document(address, heavy)})
    assert daemon.worker_pids() == [pid]
    assert asking.count > 10
    assert asking.longest_s < 1


@pytest.mark.parametrize("expression", ["/([a-z]{1000}){100}", r"/(?:\pL{500}){30}"])
def test_one_that_is_too_large_is_an_error_of_its_line(expression: str, repo: Repo) -> None:
    document = _document("127.0.0.1:8080", [expression])
    repo.commit({"kakehi.yaml": document})
    done = Kakehi(repo).run_cli("validate", str(repo.directory))
    assert done.returncode == 3, done.stdout + done.stderr
    said = done.stdout + done.stderr
    assert "kakehi.yaml:" in said
    assert "exceeds size limit" in said


class _Asking:
    """Asks all the time, on one connection."""

    def __init__(self, address: str) -> None:
        self.longest_s, self.count = 0.0, 0
        self._address = address
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> _Asking:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _ask(self) -> None:
        with rawclient.Connection(self._address) as client:
            while not self._ended.is_set():
                began = time.monotonic()
                assert client.get("plain.test").body == b"plain.test"
                self.longest_s = max(self.longest_s, time.monotonic() - began)
                self.count += 1
                time.sleep(0.005)
