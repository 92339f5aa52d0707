"""A commit that fails at whatever stage changes nothing, says why, and is overcome (D03)."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest

from reconciler.workers.watching import liveness
from tests.harness import ports, processes
from tests.harness.load import OpenLoop
from tests.harness.site import Site, refuses

REFUSED = 6


@dataclass
class Trial:
    """One way to fail: what is committed, and what must be said of it."""

    files: dict[str, Any]
    stage: str
    message: str
    file: str
    line: int
    holding: ExitStack = field(default_factory=ExitStack)


Make = Callable[[Site], Trial]
TRIALS: dict[str, Make] = {}


def trial(make: Make) -> Make:
    TRIALS[make.__name__] = make
    return make


# Before any worker is asked


@trial
def yaml_syntax(_: Site) -> Trial:
    text = "clusters:\n  fine: {}\n  broken: {backends: {\n"
    return Trial({"extra.yaml": text}, "validation", "", "extra.yaml", 3)


@trial
def unknown_key(_: Site) -> Trial:
    text = "clusters:\n  fine:\n    retreis: 2\n"
    return Trial({"extra.yaml": text}, "validation", "retreis", "extra.yaml", 3)


@trial
def wrong_type(_: Site) -> Trial:
    text = "clusters:\n  fine:\n    retries: often\n"
    return Trial({"extra.yaml": text}, "validation", "often", "extra.yaml", 3)


@trial
def duplicate_name(_: Site) -> Trial:
    text = "\n\nclusters:\n  main: {}\n"
    files = {"extra.yaml": text}
    return Trial(files, "validation", r"main.*kakehi\.yaml:|kakehi\.yaml:.*main", "", 0)


@trial
def dangling_reference(_: Site) -> Trial:
    text = "frontends:\n  lost:\n    listeners: [main]\n    cluster: mian\n"
    return Trial({"extra.yaml": text}, "validation", "mian", "extra.yaml", 4)


@trial
def a_reference_that_the_removal_of_its_target_breaks(site: Site) -> Trial:
    whole = site.document({"main": ["red"]}, {"www": "gone"})
    return Trial({"kakehi.yaml": whole}, "validation", "gone", "kakehi.yaml", 0)


@trial
def listener_address_clash(site: Site) -> Trial:
    text = f"listeners:\n  second: {{address: '{site.address}'}}\n"
    return Trial({"extra.yaml": text}, "validation", site.address, "", 0)


# What only the machine can say


@trial
def port_of_another_process(_: Site) -> Trial:
    return _bound_elsewhere(reuse=False)


@trial
def port_that_another_process_would_share(_: Site) -> Trial:
    return _bound_elsewhere(reuse=True)


def _bound_elsewhere(*, reuse: bool) -> Trial:
    """One listener that could be opened, and one whose port is taken."""
    free, holding = ports.address(), ExitStack()
    taken = ports.of(holding.enter_context(ports.listening(shared=reuse)))
    text = f"listeners:\n  a-free: {{address: '{free}'}}\n  taken: {{address: '{taken}'}}\n"
    found = Trial({"extra.yaml": text}, "prepare", f"{taken}.*in use", "extra.yaml", 3, holding)
    holding.callback(lambda: _assert_closed(free))
    return found


def _assert_closed(address: str) -> None:
    assert refuses(address), f"{address} of a refused commit is open"


@trial
def admin_port_of_another_process(site: Site) -> Trial:
    holding = ExitStack()
    taken = ports.of(holding.enter_context(ports.listening()))
    whole = site.document({"main": ["red"]}, {"www": "main"})
    whole["settings"] = {**site.settings, "admin": taken}
    return Trial({"kakehi.yaml": whole}, "prepare", taken, "kakehi.yaml", 2, holding)


# What only a worker can say


@trial
def access_log_that_no_worker_can_open(site: Site) -> Trial:
    return _access_log(site, f"{site.directory}/missing/access.log")


@trial
def access_log_that_the_first_worker_cannot_open(site: Site) -> Trial:
    return _access_log(site, _only_openable_by(site.worker_pids()[1]))


@trial
def access_log_that_the_second_worker_cannot_open(site: Site) -> Trial:
    return _access_log(site, _only_openable_by(site.worker_pids()[0]))


def _only_openable_by(pid: int) -> str:
    """A path that exists in one process alone: the name of its main thread, under `self`."""
    return f"/proc/self/task/{pid}/comm"


def _access_log(site: Site, path: str) -> Trial:
    whole = site.document({"main": ["red"]}, {"www": "main"})
    whole["settings"] = {**site.settings, "access_log": path}
    return Trial({"kakehi.yaml": whole}, "prepare", re.escape(path), "kakehi.yaml", 2)


@trial
def regex_that_only_the_engine_finds_too_large(_: Site) -> Trial:
    pattern = "(" + "[a-z0-9]{500}" * 2 + "){500}"
    text = (
        "frontends:\n  big:\n    listeners: [main]\n    hostname: big.test\n"
        f"    path: {{regex: '/{pattern}'}}\n    cluster: main\n"
    )
    return Trial({"extra.yaml": text}, "validation", "", "extra.yaml", 0)


# The tests


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Site(tmp_path_factory.mktemp("refusals"), ["red", "blue"]) as made:
        made.start(good(made, "red"))
        yield made


def good(site: Site, backend: str) -> dict[str, Any]:
    return {"kakehi.yaml": site.document({"main": [backend]}, {"www": "main"})}


@pytest.fixture(scope="module")
def load(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenLoop]:
    directory = tmp_path_factory.mktemp("load")
    with OpenLoop(site.address, ["www.test"], directory, rate=100, connections=4, fresh=1) as made:
        yield made


class Asleep:
    """The control sides of workers, which only the question whether they live may wake."""

    def __init__(self, workers: Iterable[int]) -> None:
        self._began = time.monotonic()
        self._before = {pid: processes.wake_ups(pid, pid) for pid in workers}

    def check(self) -> None:
        questions = int((time.monotonic() - self._began) / liveness.ASK_EVERY) + 1
        for pid, before in self._before.items():
            # One to hear it, and one when the engine has had its turn; a change takes more.
            assert processes.wake_ups(pid, pid) - before <= 2 * questions


@pytest.mark.parametrize("name", TRIALS)
def test_a_refused_commit_changes_nothing_and_the_next_good_one_applies(
    site: Site, load: OpenLoop, name: str
) -> None:
    before = site.running()
    workers = site.identity()
    bodies = site.everywhere("www.test")
    asleep = Asleep(workers)
    trial = TRIALS[name](site)
    with trial.holding:
        bad = site.repo.commit(trial.files, f"bad: {name}")
        # What is tried again by itself is waited for to the end.
        timeout = "3s" if any(each in name for each in ("port", "access_log")) else "40s"
        done = site.daemon.run_cli("wait", "--commit", bad, "--timeout", timeout)

        assert done.returncode == REFUSED, done
        check_named(site, trial, bad, done.stderr)
        assert site.running() == before
        assert site.identity() == workers
        assert site.everywhere("www.test") == bodies
        if trial.stage == "validation":
            # No worker was even asked: its control side slept through it (F1).
            asleep.check()

        body = "blue" if bodies == {"red"} else "red"
        mended = {path: None for path in trial.files if path != "kakehi.yaml"}
        sha = site.commit({**mended, **good(site, body)}, f"good after {name}")
    load.wait_for(10)
    assert load.failures == []
    assert load.closed == []
    assert site.everywhere("www.test") == {body}
    assert site.running() == (before[0] + 1, site.committed_digest())
    assert site.identity() == workers
    status = site.daemon.ask("status")
    assert (status["commit"], status["last_error"]) == (sha, None)


def check_named(site: Site, trial: Trial, bad: str, said: str) -> None:
    """status, history and wait all name the commit, the place and the reason."""
    error = site.daemon.ask("status")["last_error"]
    assert error["commit"] == bad
    assert re.search(trial.message, error["message"]), error
    [entry] = site.history()
    assert (entry["commit"], entry["outcome"]) == (bad, "refused")
    assert entry["message"] == error["message"]
    for told in (error, entry):
        if trial.stage:
            assert told["stage"] == trial.stage
        assert told["file"], told
        assert told["line"], told
        if trial.file:
            assert told["file"] == trial.file
        if trial.line:
            assert told["line"] == trial.line
        assert f"{told['file']}:{told['line']}" in told["message"]
    assert bad[:12] in said
    assert error["message"] in said
    text = site.daemon.run_cli("status", check=True).stdout
    assert error["message"] in text
    assert bad[:12] in text
    history = site.daemon.run_cli("history", "-n", "1", check=True).stdout
    assert error["message"].splitlines()[0] in history
    assert bad[:12] in history


def test_all_errors_of_a_commit_are_told_at_once(site: Site) -> None:
    texts = {
        "one.yaml": "clusters:\n  one: {retreis: 1}\n",
        "two.yaml": "frontends:\n  two: {listeners: [nowhere], cluster: nothing}\n",
    }
    bad = site.repo.commit(texts, "bad twice")
    assert site.daemon.run_cli("wait", "--commit", bad).returncode == REFUSED
    error = site.daemon.ask("status")["last_error"]
    places = {(each["file"], each["line"]) for each in error["diagnostics"]}
    assert {("one.yaml", 2), ("two.yaml", 2)} <= places
    told = " ".join(each["message"] for each in error["diagnostics"])
    for word in ("retreis", "nowhere", "nothing"):
        assert word in told
    site.commit({"one.yaml": None, "two.yaml": None}, "both gone")
    assert site.daemon.ask("status")["last_error"] is None


def test_a_refused_commit_is_not_tried_again_until_the_branch_moves(site: Site) -> None:
    bad = site.repo.commit({"extra.yaml": "clusters: 7\n"}, "bad")
    assert site.daemon.outcome(bad) == "refused"
    asleep = Asleep(site.worker_pids())
    # Each of these makes the reconciler look again, as its poll does.
    for _ in range(5):
        assert site.daemon.outcome(bad) == "refused"
    entries = site.history(50)
    assert [entry["commit"] for entry in entries].count(bad) == 1
    asleep.check()
    # What follows is compared with what runs, so the refused file simply comes again.
    still_bad = site.repo.commit({"kakehi.yaml": good(site, "blue")["kakehi.yaml"]}, "still bad")
    assert site.daemon.outcome(still_bad) == "refused"
    site.commit({"extra.yaml": None}, "mended")
    assert site.everywhere("www.test") == {"blue"}
