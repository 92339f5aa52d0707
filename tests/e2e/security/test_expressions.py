"""T33: expressions that would take long to compile or to match, by fault or on purpose."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

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


def test_those_that_the_engine_refuses_are_errors_of_their_values(
    daemons: Callable[..., Kakehi], tmp_path: Path
) -> None:
    daemon, address = daemons(Repo(tmp_path / "repository"), workers=1), ports.address()
    daemon.repo.commit({"kakehi.yaml": _document(address, [])})
    daemon.start()
    long = "/([a-z]{1000}){100}" + "a" * 2000
    many = [long, *(f"/{number}/[9-0]" for number in range(_MANY))]
    sha = daemon.repo.commit({"kakehi.yaml": _document(address, many)})
    written = daemon.repo.directory.joinpath("kakehi.yaml").read_text()
    before = written[: written.index(f'"{long}"')]
    place = f"kakehi.yaml:{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}: "
    directory = str(daemon.repo.directory)
    told = [
        daemon.run_cli(*command)
        for command in (
            ("validate", directory),
            ("plan", directory),
            ("plan", directory, "--from", "HEAD~1"),
            ("wait", "--commit", sha),
        )
    ]
    assert [done.returncode for done in told] == [3, 3, 3, 6], told
    for done in told[:3]:
        found = [each for each in done.stderr.splitlines() if "of the engine: " in each]
        assert len(found) == 99
        large = [each for each in done.stderr.splitlines() if each.startswith(place)]
        assert max(map(len, (*found, *large))) < 250
        assert "is too large: compiled it takes more than 1 MiB" in large[0]
        assert "there are more errors in this file" in done.stderr
    assert "is too large: compiled it takes more than 1 MiB" in told[3].stderr
    status = daemon.status()
    refused = str(status)
    assert place in refused
    assert "hint" in refused
    assert len(refused) < 100_000


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
