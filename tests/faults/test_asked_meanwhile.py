"""The daemon is killed while a command waits for its answer, and another one comes, or none."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from subprocess import CompletedProcess
from typing import Any

import pytest

from tests.harness import daemon, processes
from tests.harness.rawbackend import Exchange, RawBackend
from tests.harness.rawclient import Connection
from tests.harness.site import Site

WAIT_S = 60.0

Done = CompletedProcess[str]


def files(site: Site, backend: str) -> dict[str, Any]:
    return {"kakehi.yaml": site.document({"main": [backend]}, {"main": "main"})}


def when_told(exchange: Exchange) -> None:
    exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst")
    exchange.wait_for_go()
    exchange.send(b"last.")


@contextmanager
def drain_that_waits(site: Site) -> Iterator[tuple[Future[Done], Callable[[], None]]]:
    """`drain --wait` beside a request in flight, and what ends that."""
    with RawBackend(when_told) as backend, ThreadPoolExecutor(1) as pool:
        site.start(files(site, backend.address))
        with Connection(site.address) as client:
            client.send(b"GET / HTTP/1.1\r\nHost: main.test\r\n\r\n")
            assert client.read_head().get("content-length") == b"10"
            waiting = pool.submit(
                site.daemon.run_cli, "drain", "main/b0", "--wait", "--timeout", "60s"
            )
            try:
                processes.wait_until(lambda: in_flight(site) == [1], "it is counted", WAIT_S)
                yield waiting, backend.go.set
            finally:
                backend.go.set()


def in_flight(site: Site) -> list[int]:
    return [each["active"] for each in site.daemon.ask("status")["drains"]]


def a_drain_waits_for_the_next_one(site: Site) -> None:
    with drain_that_waits(site) as (waiting, end):
        for number in (signal.SIGKILL, signal.SIGTERM):
            site.daemon.leave(number)
            processes.pause(0.5)
            site.daemon.return_(wait=False)
            processes.wait_until(lambda: in_flight(site) == [1], "it is counted again", WAIT_S)
            assert not waiting.done(), waiting.result()
        processes.pause(1)
        assert not waiting.done(), waiting.result()
        end()
        done = waiting.result(WAIT_S)
    assert done.returncode == 0, done
    assert "0 requests in flight" in done.stdout
    assert "the daemon went away; waiting for the next one" in done.stderr


def a_drain_gives_up_when_none_comes(site: Site) -> None:
    with drain_that_waits(site) as (waiting, _):
        site.daemon.leave()
        done = waiting.result(WAIT_S)
        assert done.returncode == 1, done
        assert "no daemon runs" in done.stderr
        site.daemon.return_(wait=False)
        processes.wait_until(lambda: in_flight(site) == [1], "it is drained all the same", WAIT_S)


def a_wait_waits_for_the_next_one(site: Site) -> None:
    site.start(files(site, "red"))
    with daemon.stopped(site.worker_pids()[0]), ThreadPoolExecutor(1) as pool:
        commit = site.repo.commit(files(site, "blue"))
        waiting = pool.submit(site.daemon.run_cli, "wait", "--commit", commit, "--timeout", "60s")
        processes.wait_until(
            lambda: site.daemon.ask("status")["transaction"] is not None, "it is prepared", WAIT_S
        )
        processes.pause(1)
        assert not waiting.done(), waiting.result()
        site.daemon.leave()
        site.daemon.return_(wait=False)
        done = waiting.result(WAIT_S)
    assert done.returncode == 0, done
    assert f"{commit[:12]} runs on every worker" in done.stdout


def a_stop_stops_the_next_one(site: Site) -> None:
    """As where the service manager starts one that was killed again."""
    with RawBackend(when_told) as backend, ThreadPoolExecutor(1) as pool:
        site.start(files(site, backend.address))
        with Connection(site.address) as client:
            client.send(b"GET / HTTP/1.1\r\nHost: main.test\r\n\r\n")
            assert client.read_head().get("content-length") == b"10"
            stopping = pool.submit(site.daemon.run_cli, "stop", "--timeout", "60s")
            processes.wait_until(lambda: "ending:" in site.daemon.log(), "it ends", WAIT_S)
            processes.pause(0.5)
            assert not stopping.done(), stopping.result()
            site.daemon.leave()
            site.daemon.return_(wait=False)
            done = stopping.result(WAIT_S)
            backend.go.set()
    assert done.returncode == 0, done
    assert "The proxy has ended" in done.stderr
    assert site.daemon.await_end() == 0


def a_question_is_asked_of_the_next_one(site: Site) -> None:
    site.start(files(site, "red"))
    site.repo.write(files(site, "blue"))
    asked = {
        ("plan",): "main/b0",
        ("show", "cluster"): "main",
        ("explain", f"http://{site.address}/"): "main.test",
        ("history",): site.repo.head()[:12],
    }
    with ThreadPoolExecutor(len(asked)) as pool:
        with daemon.stopped(site.daemon.pid):
            asking = {line: pool.submit(site.daemon.run_cli, *line) for line in asked}
            # They are connected, and wait: the kernel takes connections for whoever stands still.
            processes.pause(2)
            site.daemon.leave()
        site.daemon.return_(wait=False)
        done = {line: each.result(WAIT_S) for line, each in asking.items()}
    for line, said in asked.items():
        assert done[line].returncode == 0, done[line]
        assert said in done[line].stdout
        assert "the daemon went away; waiting for the next one" in done[line].stderr


CASES: dict[str, Callable[[Site], None]] = {
    case.__name__: case
    for case in (
        a_drain_waits_for_the_next_one,
        a_drain_gives_up_when_none_comes,
        a_wait_waits_for_the_next_one,
        a_stop_stops_the_next_one,
        a_question_is_asked_of_the_next_one,
    )
}


@pytest.mark.parametrize("case", CASES)
def test_what_was_asked(outcome: Callable[[str], None], case: str) -> None:
    outcome(case)
