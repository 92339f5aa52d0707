"""T33: expressions that would take long to compile or to match, by fault or on purpose."""

from __future__ import annotations

import re
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
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
        sha = daemon.repo.commit({"kakehi.yaml": _document(address, heavy)})
        # Compiled where they are checked, and then by the worker.
        daemon.wait(sha, timeout_s=90)
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


def test_all_together_are_bounded_and_the_largest_are_named(
    daemons: Callable[..., Kakehi], tmp_path: Path
) -> None:
    daemon, address = daemons(Repo(tmp_path / "repository"), workers=1), ports.address()
    settings = {"settings": {"max_expression_bytes": "2MiB", "access_log": "off"}}
    small = "([a-z]{1000}){3}"
    daemon.repo.commit({"kakehi.yaml": _document(address, [f"/0/{small}"]) | settings})
    daemon.start()
    generation = daemon.status()["generation"]
    many = [f"/{number}/{small}" for number in range(20)]
    sha = daemon.repo.commit({"kakehi.yaml": _document(address, many) | settings})
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
    for done in told:
        place = r"kakehi.yaml:\d+:\d+: frontend \"e\d+\": path.regex: with it all"
        assert re.search(place, done.stderr)
        assert re.search(r"the largest: frontend \"e\d+\" \(kakehi.yaml:\d+\) \d+", done.stderr)
    # No worker was asked.
    assert daemon.status()["generation"] == generation
    assert "stage=validation" in daemon.log()
    fewer = [f"/{number}/{small}" for number in range(4)]
    daemon.commit({"kakehi.yaml": _document(address, fewer) | settings})


def test_what_runs_above_the_bound_goes_on_and_is_told(
    daemons: Callable[..., Kakehi], tmp_path: Path
) -> None:
    """As a version without the bound has left it."""
    daemon, address = daemons(Repo(tmp_path / "repository"), workers=1), ports.address()
    daemon.repo.commit({"kakehi.yaml": _document(address, ["/0/[a-z]+"])})
    daemon.start()
    assert daemon.status()["warnings"] == []
    daemon.interrupt()
    with closing(sqlite3.connect(daemon.state_dir / "state.db")) as database:
        database.execute("UPDATE counts SET number = ? WHERE kind = 'expression'", (1 << 30,))
        database.commit()
    daemon.start()
    [warning] = daemon.status()["warnings"]
    assert "all expressions take 1024.0MiB of each worker" in warning
    assert "settings.max_expression_bytes allows 256MiB: what runs goes on" in warning
    with rawclient.Connection(address) as client:
        assert client.get("regex.test", "/0/a").status == 200
    sha = daemon.repo.commit({"kakehi.yaml": _document(address, ["/0/[a-z]+", "/1/[a-z]+"])})
    assert daemon.run_cli("wait", "--commit", sha).returncode == 6
    daemon.commit({"kakehi.yaml": _document(address, ["/0/[a-b]+"])})


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
