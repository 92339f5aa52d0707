"""The runtime directory, or some of it, is deleted while the daemon runs: told, and made anew."""

from __future__ import annotations

import os
import shutil
import stat
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.harness import ports, processes
from tests.harness.daemon import PROCESSES_ONLY
from tests.harness.load import OpenLoop
from tests.harness.site import Site

TOLD_WITHIN_S = 10.0
WAIT_S = 60.0


def files(site: Site, backend: str) -> dict[str, Any]:
    return {"kakehi.yaml": site.document({"main": [backend]}, {"main": "main"})}


def deleted(directory: Path) -> None:
    shutil.rmtree(directory)


def moved_away(directory: Path) -> None:
    directory.rename(directory.with_name("elsewhere"))
    directory.mkdir()


def without_control_socket(directory: Path) -> None:
    (directory / "control.sock").unlink()


def without_workers(directory: Path) -> None:
    shutil.rmtree(directory / "workers")


def without_a_worker(directory: Path) -> None:
    (directory / "workers" / "1.sock").unlink()


def without_lock(directory: Path) -> None:
    (directory / "lock").unlink()


def all_listen(site: Site) -> bool:
    there = all(
        (site.daemon.runtime_dir / "workers" / f"{number}.sock").exists() for number in (0, 1)
    )
    return there and all(
        each["state"] == "running" for each in site.daemon.ask("status")["workers"]
    )


def lost_while_running(loss: Callable[[Path], None], site: Site) -> None:
    site.start(files(site, "red"))
    pids = site.worker_pids()
    directory = site.daemon.runtime_dir
    with OpenLoop(site.address, ["main.test"], site.directory / "load", rate=100, fresh=2) as load:
        loss(directory)
        processes.wait_until(lambda: "made anew" in site.daemon.log(), "it is told", TOLD_WITHIN_S)
        processes.wait_until(site.daemon.answers, "it answers", TOLD_WITHIN_S)
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        processes.wait_until(lambda: all_listen(site), "every worker can be adopted", WAIT_S)
        assert site.worker_pids() == pids
        site.commit(files(site, "blue"))
        assert site.everywhere("main.test") == {"blue"}
        load.wait_for(5)
        load.stop()
        assert (load.failures, load.closed) == ([], [])
    assert site.daemon.ask("status")["warnings"] == []
    kills_are_mended(site)
    is_adopted(site)


def kills_are_mended(site: Site) -> None:
    pid = site.worker_pids()[0]
    os.kill(pid, 9)
    processes.wait_until(
        lambda: site.worker_pids()[0] not in (0, pid) and all_listen(site),
        "another one comes",
        WAIT_S,
    )


def is_adopted(site: Site) -> None:
    pids = site.worker_pids()
    site.daemon.leave()
    site.daemon.return_(wait=False)
    processes.wait_until(lambda: site.daemon.answers() and all_listen(site), "all are led", WAIT_S)
    assert site.worker_pids() == pids
    assert site.everywhere("main.test") == {"blue"}


def cannot_be_made_anew(site: Site) -> None:
    """Nobody can ask it then: its log and /healthz tell, once, until it can."""
    site.settings["admin"] = ports.address()
    site.start(files(site, "red"))
    pids = site.worker_pids()
    directory, url = site.daemon.runtime_dir, f"http://{site.settings['admin']}/healthz"
    deleted(directory)
    directory.touch()

    def said() -> str:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return str(answer.read().decode())

    processes.wait_until(lambda: "cannot use the directory" in said(), "it is told", TOLD_WITHIN_S)
    processes.pause(3)
    assert set(site.kept("main.test", pids=pids).values()) == {"red"}
    assert site.daemon.log().count("nobody can reach the daemon") == 1
    # It is not taken for one that has ended, and its workers for nobody's.
    for command in ("status", "stop"):
        told = site.daemon.run_cli(command)
        assert told.returncode == 1, told
        assert "a daemon runs (process" in told.stderr, told
        assert "no daemon" not in told.stderr.lower(), told
    # What a daemon does when a worker dies, or a commit comes, is nothing that it dies of.
    site.repo.commit(files(site, "blue"))
    processes.wait_until(
        lambda: set(site.kept("main.test", pids=pids).values()) == {"blue"}, "it is applied"
    )
    os.kill(pids[1], 9)
    processes.await_end(pids[1:], WAIT_S)
    processes.pause(1)
    assert "internal error" not in site.daemon.log()
    directory.unlink()
    processes.wait_until(lambda: site.daemon.answers() and all_listen(site), "all is well", WAIT_S)
    assert "cannot use" not in said()
    assert site.daemon.log().count("the runtime directory is gone") == 1
    kills_are_mended(site)


def stopped_at_once(site: Site) -> None:
    """Before it is made anew: the daemon is the one to ask, and it is asked."""
    site.start(files(site, "red"))
    pids = site.worker_pids()
    deleted(site.daemon.runtime_dir)
    told = site.daemon.run_cli("stop")
    assert told.returncode == 0, told
    assert "No daemon ran" not in told.stderr
    processes.await_end(pids, WAIT_S)
    assert site.daemon.await_end() == 0


def lost_without_a_daemon(loss: Callable[[Path], None], site: Site) -> None:
    """As by a log-out: the next daemon takes over whoever serves."""
    site.start(files(site, "red"))
    pids = site.worker_pids()
    site.daemon.leave()
    loss(site.daemon.runtime_dir)
    site.daemon.return_(wait=False)
    processes.wait_until(lambda: site.daemon.answers() and all_listen(site), "all are led", WAIT_S)
    assert site.worker_pids() == pids
    site.commit(files(site, "blue"))
    assert site.everywhere("main.test") == {"blue"}
    is_adopted(site)


def lost_in_the_sandbox(site: Site) -> None:
    """As under the unit in systemd/, which leaves processes in /proc and nothing else."""
    site.daemon.launcher = PROCESSES_ONLY
    lost_without_a_daemon(deleted, site)


def stopped_in_the_sandbox(site: Site) -> None:
    site.daemon.launcher = PROCESSES_ONLY
    stopped_without_a_daemon(site, PROCESSES_ONLY)


def stopped_by_who_may_less(site: Site) -> None:
    """As by the user of the unit: its workers may bind to low ports, and hide their files."""
    stopped_without_a_daemon(site, ("setpriv", "--bounding-set=-all", "--inh-caps=-all"))


def hidden_from_who_may_less(site: Site) -> None:
    """One that hangs binds nothing anew: it is told that it is there, and who can look at it."""
    site.start(files(site, "red"))
    first, second = site.worker_pids()
    site.daemon.leave()
    deleted(site.daemon.runtime_dir)
    less = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")
    processes.stop(first)
    hidden = f"process {first} (kakehi-w0)"
    told = site.daemon.run_cli("status", within=less)
    assert told.returncode == 1
    assert hidden in told.stderr
    assert "cannot be looked into: ask as root" in told.stderr
    assert f"(process {second})" in told.stderr
    told = site.daemon.run_cli("stop", within=less)
    assert told.returncode == 1
    assert hidden in told.stderr
    assert "1 worker went on serving and was ended" in told.stderr
    told = site.daemon.run_cli("stop", within=less)
    assert (told.returncode, hidden in told.stderr) == (1, True)
    processes.resume(first)
    told = site.daemon.run_cli("stop")
    assert told.returncode == 0, told.stderr
    processes.await_end([first, second], WAIT_S)


def stopped_without_a_daemon(site: Site, within: tuple[str, ...] = ()) -> None:
    site.start(files(site, "red"))
    pids = site.worker_pids()
    site.daemon.leave()
    deleted(site.daemon.runtime_dir)
    told = site.daemon.run_cli("stop", within=within).stderr
    assert "2 workers went on serving and were ended" in told
    processes.await_end(pids, WAIT_S)


CASES: dict[str, Callable[[Site], None]] = {
    loss.__name__: partial(lost_while_running, loss)
    for loss in (
        deleted,
        moved_away,
        without_control_socket,
        without_workers,
        without_a_worker,
        without_lock,
    )
} | {
    **{
        f"{loss.__name__}, without a daemon": partial(lost_without_a_daemon, loss)
        for loss in (deleted, moved_away, without_workers, without_a_worker)
    },
    "stopped, without a daemon": stopped_without_a_daemon,
    "stopped at once": stopped_at_once,
    "a file": cannot_be_made_anew,
}
if os.geteuid() == 0:
    CASES["deleted, in the sandbox"] = lost_in_the_sandbox
    CASES["stopped, in the sandbox"] = stopped_in_the_sandbox
    CASES["stopped, by who may less"] = stopped_by_who_may_less
    CASES["hidden from who may less"] = hidden_from_who_may_less


@pytest.mark.parametrize("case", CASES)
def test_it_is_made_anew_when_it_is(outcome: Callable[[str], None], case: str) -> None:
    outcome(case)
