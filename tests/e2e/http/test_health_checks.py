"""Health checks: who fails them gets no requests, whoever dies meanwhile, whatever is committed.

Drills: backends that flap (D07), and all of them down and up again (D08).
"""

from __future__ import annotations

import os
import re
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import ports, processes, rawclient
from tests.harness.checked import Checked
from tests.harness.daemon import Kakehi
from tests.harness.repo import Repo

INTERVAL_S = 0.2
CHECK: dict[str, Any] = {
    "http": {"path": "/healthz"},
    "interval": "200ms",
    "timeout": "100ms",
    "healthy_after": 2,
    "unhealthy_after": 3,
}


class Host:
    """Two workers in front of two backends that say their names."""

    def __init__(self, directory: Path) -> None:
        self.address, self.admin = ports.address(), ports.address()
        self.backends = {"a": Checked("a"), "b": Checked("b")}
        self.daemon = Kakehi(Repo(directory), workers=2)
        self.commit(start=True)

    def document(self, **changes: Any) -> dict[str, Any]:
        cluster = {
            "health_check": CHECK,
            "backends": {name: {"address": each.address} for name, each in self.backends.items()},
            **changes,
        }
        return {
            "settings": {"access_log": str(self.daemon.access_log), "admin": self.admin},
            "listeners": {"plain": {"address": self.address}},
            "clusters": {"app": cluster},
            "frontends": {"app": {"listeners": ["plain"], "cluster": "app"}},
        }

    def commit(self, *, start: bool = False, **changes: Any) -> None:
        commit = self.daemon.repo.commit({"kakehi.yaml": self.document(**changes)})
        if start:
            self.daemon.start()
        else:
            self.daemon.wait(commit)

    def ask(self) -> tuple[int, str]:
        with rawclient.Connection(self.address) as connection:
            answer = connection.get("app.test", "/")
            return answer.status, answer.body.decode()

    def served_by(self, count: int = 24) -> set[str]:
        """Who answers so many requests, each by a connection of its own: both workers get some."""
        found = [self.ask() for _ in range(count)]
        assert {status for status, _ in found} == {200}, found
        return {body for _, body in found}

    def unhealthy(self) -> int:
        """Of how many `status` says so."""
        return sum("is not healthy" in each for each in self.daemon.status()["warnings"])

    def health(self) -> set[str]:
        found = self.daemon.json("show", "backends")["backends"]
        return {each["health"] for each in found}

    def prober(self) -> int:
        [pid] = [
            pid
            for pid in self.daemon.left()
            if Path(f"/proc/{pid}/comm").read_text().strip() == "kakehi-prober"
        ]
        return pid

    def await_served_by(self, names: set[str], deadline_s: float = 20.0) -> float:
        began = time.monotonic()
        while self.served_by() != names:
            assert time.monotonic() - began < deadline_s, names
            time.sleep(0.02)
        return time.monotonic() - began

    def close(self) -> None:
        for each in self.backends.values():
            each.close()
        self.daemon.stop()


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    made = Host(tmp_path / "site")
    try:
        yield made
    finally:
        made.close()


def status(code: int) -> Callable[[Checked], None]:
    return lambda backend: backend.answer(code)


@pytest.mark.parametrize(
    ("fail", "mend"),
    [(status(500), status(200)), (Checked.hang, status(200)), (Checked.refuse, Checked.listen)],
    ids=["answers 500", "answers nothing", "refuses connections"],
)
def test_who_fails_is_out_and_comes_back(
    host: Host, fail: Callable[[Checked], None], mend: Callable[[Checked], None]
) -> None:
    host.await_served_by({"a", "b"})
    fail(host.backends["b"])
    host.await_served_by({"a"})
    assert host.served_by(60) == {"a"}
    mend(host.backends["b"])
    host.await_served_by({"a", "b"})


def test_all_are_tried_where_none_is_healthy(host: Host) -> None:
    for each in host.backends.values():
        each.answer(500)
    processes.wait_until(lambda: host.unhealthy() == 2, "both are out", 20)
    # Only the checks fail: what is asked for is answered.
    assert host.served_by() == {"a", "b"}
    host.backends["a"].answer(200)
    assert host.await_served_by({"a"}) < 20


def test_what_is_known_outlives_commits_and_whoever_dies(host: Host) -> None:
    host.backends["b"].answer(500)
    host.await_served_by({"a"})
    for number in range(20):
        host.commit(retries=1 + number % 2)
        assert host.served_by(4) == {"a"}
    prober = host.prober()
    # Whoever finds nothing out any more leaves what was found.
    os.kill(prober, signal.SIGSTOP)
    assert host.served_by() == {"a"}
    os.kill(prober, signal.SIGKILL)
    assert host.served_by() == {"a"}
    processes.wait_until(lambda: prober not in host.daemon.left(), "it has ended")
    host.backends["b"].answer(200)
    # There is another one.
    host.await_served_by({"a", "b"})
    host.backends["b"].answer(500)
    host.await_served_by({"a"})
    before = host.daemon.worker_pids()
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    processes.wait_until(
        lambda: len(set(host.daemon.worker_pids()) - set(before)) == 2, "there are others"
    )
    assert host.served_by() == {"a"}


def test_it_goes_on_without_a_daemon_and_is_found_by_the_next(host: Host) -> None:
    host.backends["b"].answer(500)
    host.await_served_by({"a"})
    prober = host.prober()
    assert host.daemon.process is not None
    host.daemon.process.kill()
    host.daemon.process.wait(20)
    host.backends["b"].answer(200)
    host.await_served_by({"a", "b"})
    host.backends["a"].answer(500)
    host.await_served_by({"b"})
    host.daemon.start()
    assert host.served_by() == {"b"}
    assert host.prober() == prober
    host.backends["a"].answer(200)
    host.await_served_by({"a", "b"})
    # What is not checked any more has no prober.
    host.commit(health_check=None)
    processes.wait_until(lambda: prober not in host.daemon.left(), "it has ended")
    host.backends["a"].answer(500)
    time.sleep(4 * INTERVAL_S)
    assert host.served_by() == {"a", "b"}


def test_it_is_seen_who_is_out_and_why(host: Host) -> None:
    host.await_served_by({"a", "b"})
    host.backends["b"].answer(503)
    host.await_served_by({"a"})
    processes.wait_until(lambda: host.unhealthy() == 1, "status says so")
    [said] = [each for each in host.daemon.status()["warnings"] if "app/b" in each]
    assert said.startswith("backend app/b is not healthy for ")
    assert said.endswith(": it answered 503")
    found = {each["name"]: each for each in host.daemon.json("show", "backends")["backends"]}
    assert (found["app/a"]["health"], found["app/a"]["usable"]) == ("healthy", True)
    assert (found["app/b"]["health"], found["app/b"]["usable"]) == ("unhealthy", False)
    assert found["app/b"]["fault"] == "it answered 503"
    assert 0 <= found["app/b"]["for_s"] < 60
    assert 0 < found["app/a"]["took_s"] < 1
    shown = host.daemon.run_cli("show", "backends/app").stdout
    assert "app/b" in shown
    assert "it answered 503" in shown
    explained = host.daemon.json("explain", f"http://app.test:{host.address.split(':')[1]}/")
    assert "1 of 2 backends get no requests, by their checks" in explained["message"]
    words = {each["name"]: each["health"] for each in explained["backends"]}
    assert words["app/a"].startswith("healthy for ")
    assert ", by GET /healthz every 200ms" in words["app/a"]
    assert words["app/b"].endswith("by GET /healthz every 200ms: it answered 503")
    with urllib.request.urlopen(f"http://{host.admin}/metrics", timeout=10) as response:
        text = response.read().decode()
    assert 'kakehi_backend_healthy{backend="b",cluster="app"} 0.0' in text
    assert 'kakehi_backend_healthy{backend="a",cluster="app"} 1.0' in text
    assert "kakehi_backends_unhealthy 1.0" in text
    assert re.search(r'kakehi_health_checks_total\{result="bad"\} [1-9]', text)
    assert "a backend is not healthy" in host.daemon.log()


def test_who_is_left_with_nobody_healthy_is_told(host: Host) -> None:
    host.await_served_by({"a", "b"})
    host.backends["b"].answer(500)
    processes.wait_until(lambda: host.unhealthy() == 1, "status says so", 20)
    said = 'cluster "app" is left to backends that are not healthy'
    document = host.document(backends={"b": {"address": host.backends["b"].address}})
    host.daemon.repo.write({"kakehi.yaml": document})
    planned = host.daemon.run_cli("plan", str(host.daemon.repo.directory))
    assert said in planned.stderr
    drained = host.daemon.run_cli("drain", "app/a")
    assert "no backend that is left of cluster app is healthy" in drained.stdout


def test_a_new_backend_waits_for_its_first_good_check(host: Host) -> None:
    processes.wait_until(lambda: host.health() == {"healthy"}, "both have been checked")
    late = Checked("late")
    host.backends["late"] = late
    late.answer(500)
    host.commit(health_check={**CHECK, "initial": "unchecked"})
    host.await_served_by({"a", "b"})
    assert host.served_by(60) == {"a", "b"}
    late.answer(200)
    host.await_served_by({"a", "b", "late"})


def test_a_connection_may_be_asked_something(host: Host) -> None:
    host.commit(
        health_check={
            "tcp": {"send": "GET /healthz HTTP/1.0\r\n\r\n", "expect": "HTTP/1.1 200"},
            "interval": "200ms",
            "timeout": "100ms",
        }
    )
    host.backends["a"].answer(404)
    host.await_served_by({"b"})
    host.backends["a"].answer(200)
    host.await_served_by({"a", "b"})
