"""Descriptors run out: a commit that wants more is refused, and whoever asks is answered (T43)."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from reconciler.workers.listening.descriptors import PER_LISTENER
from tests.harness import ports, processes
from tests.harness.rawclient import Connection
from tests.harness.site import Site

LISTENERS = 60
RUN_OUT = "file descriptors have run out"


def files(site: Site, backend: str, listeners: int = 0) -> dict[str, Any]:
    document = site.document({"main": [backend]}, {"main": "main"})
    more = {f"more-{number}": {"address": ports.address()} for number in range(listeners)}
    return {"kakehi.yaml": document, "more.yaml": {"listeners": more}}


def used(site: Site) -> int:
    return len(os.listdir(f"/proc/{site.daemon.pid}/fd"))


def let_run_out(pid: int) -> None:
    """A limit under which a process can open nothing more, once it has closed what it was at."""
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    for _ in range(5):
        taken = set(map(int, os.listdir(f"/proc/{pid}/fd")))
        lowest = next(number for number in range(len(taken) + 1) if number not in taken)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (lowest, hard))
        processes.pause(0.05)


def lift_limit(pid: int) -> None:
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (hard, hard))


def runs_out(free: int, site: Site) -> None:
    """With so many descriptors left, of which a daemon keeps some for itself."""
    site.settings["admin"] = ports.address()
    site.start(files(site, "red"))
    for number in range(3):
        site.commit(files(site, "red" if number % 2 else "blue"))
    site.commit(files(site, "red"))
    before = used(site)
    _, hard = resource.prlimit(site.daemon.pid, resource.RLIMIT_NOFILE)
    limit = max(map(int, os.listdir(f"/proc/{site.daemon.pid}/fd"))) + 1 + free
    resource.prlimit(site.daemon.pid, resource.RLIMIT_NOFILE, (limit, hard))
    generation, _ = site.running()
    site.repo.write(files(site, "blue", LISTENERS))
    planned = site.daemon.run_cli("plan")
    assert (planned.returncode, "too many open files" in planned.stderr) == (6, True), planned
    for _ in range(3):
        refused = site.repo.commit(files(site, "blue", LISTENERS))
        # It is tried again, and waited for.
        error = site.daemon.refusal(refused)
        assert "too many open files" in error["message"], error
        assert "more.yaml" in error["message"]
        assert site.running()[0] == generation
        assert site.everywhere("main.test") == {"red"}
    assert used(site) <= before + 8, "what was opened in vain is closed"
    # The one that takes it back is seen, and so is whatever comes then.
    site.wait(site.repo.commit(files(site, "blue")))
    assert site.everywhere("main.test") == {"blue"}
    assert "internal error" not in site.daemon.log()
    lift_limit(site.daemon.pid)
    site.repo.write(files(site, "red", LISTENERS))
    assert site.daemon.run_cli("plan").returncode == 0
    site.wait(site.repo.commit(files(site, "red", LISTENERS)))
    assert site.everywhere("main.test") == {"red"}
    assert len(site.worker_pids()) == 2


def just_enough(site: Site) -> None:
    """A plan counts as the commit does, but for what others have open just then."""
    site.start(files(site, "red"))
    for backend in ("blue", "red"):
        site.commit(files(site, backend))
    pid, wanted = site.daemon.pid, files(site, "blue", 10)
    site.repo.write(wanted)
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    limit = used(site) + 64 + 10

    def planned() -> int:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, hard))
        return site.daemon.run_cli("plan").returncode

    while planned() != 0:
        limit += 1
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit - 4, hard))
    sha = site.repo.commit(wanted)
    site.daemon.refusal(sha)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, hard))
    site.wait(sha)


def a_worker_runs_out(site: Site) -> None:
    """What its connections leave it: a plan says so, and the commit goes through when they do."""
    site.start(files(site, "red"))
    pid = site.worker_pids()[0]
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    open_now = len(os.listdir(f"/proc/{pid}/fd"))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (open_now + 2 * PER_LISTENER - 1, hard))
    wanted = files(site, "blue", 2)
    site.repo.write(wanted)
    planned = site.daemon.run_cli("plan")
    assert (planned.returncode, "has no descriptors left for" in planned.stderr) == (6, True)
    sha = site.repo.commit(wanted)
    assert "worker 0 has no descriptors" in site.daemon.refusal(sha)["message"]
    # As many as are counted are enough.
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (open_now + 2 * PER_LISTENER, hard))
    assert site.daemon.run_cli("plan").returncode == 0
    site.wait(sha)
    lift_limit(pid)
    assert site.everywhere("main.test") == {"blue"}


def a_worker_dies(site: Site) -> None:
    """Its successor comes as soon as there are some; until then the log tells the reason."""
    site.start(files(site, "red"))
    pid = site.worker_pids()[0]
    let_run_out(site.daemon.pid)
    os.kill(pid, signal.SIGKILL)
    log = site.daemon.log
    processes.wait_until(lambda: "oo many open files" in log(), "it is told", 20)
    processes.pause(4)
    assert "internal error while supervising" not in log()
    lift_limit(site.daemon.pid)
    processes.wait_until(lambda: site.worker_pids()[0] not in (0, pid), "another one comes", 40)
    site.commit(files(site, "blue"))
    assert site.everywhere("main.test") == {"blue"}


def http(address: str, path: str) -> tuple[int, bytes]:
    with Connection(address) as client:
        response = client.get("admin", path)
        return response.status, response.body


def somebody_asks(site: Site) -> None:
    """All questions are answered, again and again, and status tells what is the matter."""
    admin = site.settings["admin"] = ports.address()
    site.start(files(site, "red"))
    let_run_out(site.daemon.pid)
    url = f"http://main.test:{ports.split(site.address)[1]}/"
    for _ in range(3):
        status = site.daemon.ask("status")
        told = [each for each in status["warnings"] if RUN_OUT in each]
        assert len(told) == 1, status["warnings"]
        assert site.daemon.ask("explain", url=url)["cluster"]["name"] == "main"
        assert len(site.history(10)) == 1
        assert site.daemon.ask("show")["entities"]
        assert site.daemon.ask("plan")["plan"]["changes"] == []
        assert site.daemon.outcome(site.repo.head()) == "applied"
        code, body = http(admin, "/healthz")
        assert code == 200
        assert b"2 of 2 workers in service" in body
        code, body = http(admin, "/metrics")
        assert code == 200
        assert b"kakehi_generation 1" in body
    for command in (["status"], ["explain", url]):
        done = site.daemon.run_cli(*command)
        assert done.returncode == 0, done.stderr
    assert "internal error" not in site.daemon.log()
    # Many at a time: each has an answer, if only that there are too many.
    with ThreadPoolExecutor(40) as threads:
        asked = [threads.submit(site.daemon.ask, "status") for _ in range(80)]
        assert {each.result()["generation"] for each in asked} == {1}
    lift_limit(site.daemon.pid)
    processes.wait_until(
        lambda: not any(RUN_OUT in each for each in site.daemon.ask("status")["warnings"]),
        "it is told no longer",
    )
    site.commit(files(site, "blue"))
    assert site.everywhere("main.test") == {"blue"}


def a_worker_is_adopted(site: Site) -> None:
    """A worker whose descriptors are all taken is no less one that the next daemon finds."""
    site.start(files(site, "red"))
    pids = site.worker_pids()
    for pid in pids:
        let_run_out(pid)
    spent = [processes.cpu_seconds(pid) for pid in pids]
    site.daemon.leave(signal.SIGKILL)
    site.daemon.return_()
    assert site.worker_pids() == pids
    site.commit(files(site, "blue"))
    assert site.worker_pids() == pids
    for pid in pids:
        lift_limit(pid)
    assert site.everywhere("main.test") == {"blue"}
    for pid, before in zip(pids, spent, strict=True):
        assert processes.cpu_seconds(pid) - before < 2, "it does not spin"


def a_part_begins(site: Site) -> None:
    """What a part could not open is told as what it is, and the part is started again."""
    site.repo.commit(files(site, "red"))
    site.daemon.start(wait=False)
    processes.wait_until(lambda: "kakehi runs" in site.daemon.log(), "the daemon runs")
    let_run_out(site.daemon.pid)
    processes.wait_until(
        lambda: any(RUN_OUT in each for each in site.daemon.ask("status")["warnings"]),
        "it is told",
    )
    processes.pause(3)
    assert "internal error" not in site.daemon.log()
    status = site.daemon.ask("status")
    assert not any("internal error" in str(each["problem"]) for each in status["parts"])
    lift_limit(site.daemon.pid)
    site.wait(site.repo.head())
    assert site.everywhere("main.test") == {"red"}


CASES: dict[str, Callable[[Site], None]] = {
    "few": partial(runs_out, 90),
    "hardly any": partial(runs_out, 20),
    "none as a worker dies": a_worker_dies,
    "too few in a worker": a_worker_runs_out,
    "just enough": just_enough,
    "none as somebody asks": somebody_asks,
    "none as a part begins": a_part_begins,
    "none in a worker that is adopted": a_worker_is_adopted,
}


@pytest.mark.parametrize("case", CASES)
def test_descriptors_that_are(outcome: Callable[[str], None], case: str) -> None:
    outcome(case)
