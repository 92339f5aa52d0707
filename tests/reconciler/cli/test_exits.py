"""Every exit code that `kakehi --help` names is returned by a command, and means what it says.

Those that a running proxy has to be in trouble for are answered by a daemon that says so; the
others come from the real one (tests/e2e/test_verdict.py, tests/reconciler/cli/test_live.py).
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.cli import exits
from reconciler.cli.plans.live_plan import TRIES
from tests.harness.repo import Repo
from tests.reconciler.cli.program import kakehi

WORKER = {
    "id": 0,
    "pid": 1,
    "cpu": 0,
    "generation": 3,
    "digest": "d" * 32,
    "connections": 0,
    "requests": 0,
    "commit": "",
    "state": "running",
    "restarts": 0,
}


def status(directory: Path, commit: str, **worker: Any) -> dict[str, Any]:
    source = {
        "state": "following",
        "directory": str(directory),
        "ref": "main",
        "head": commit,
        "problem": None,
        "remote": None,
        "fetched_at": None,
        "fetch_problem": None,
    }
    empty = ("transaction", "retry", "drift", "last_error")
    lists = ("drains", "certificates", "parts", "warnings")
    return {
        "commit": commit,
        "generation": 3,
        "digest": "d" * 32,
        "workers": [{**WORKER, **worker}],
        "source": source,
        "entities": {},
        "uptime_s": 1,
        **dict.fromkeys(empty),
        **{name: [] for name in lists},
    }


@contextlib.contextmanager
def answering(place: Path, answers: dict[str, Any]) -> Iterator[None]:
    """A daemon that gives these answers, by the name of the request; with "ok", as they are.

    Of a list it gives one after the other, and then the last for ever.
    """
    with socket.create_server(str(place / "control.sock"), family=socket.AF_UNIX) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection, connection.makefile("rb") as lines:
                    asked = json.loads(lines.readline())["request"]
                    found = answers[asked]
                    if isinstance(found, list):
                        found = found.pop(0) if len(found) > 1 else found[0]
                    answer = found if "ok" in found else {"ok": True, "result": found}
                    connection.sendall(json.dumps(answer).encode() + b"\n")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield
        server.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def test_help_names_the_codes_that_there_are() -> None:
    text = kakehi("--help").stdout.partition("Exit codes:")[2].partition("\n\n")[0]
    named = {int(code) for code in re.findall(r"(?:^|\s)(\d+)  [a-z]", text)}
    known = {value for name, value in vars(exits).items() if name.isupper()}
    assert named == known - {exits.INTERRUPTED}


def test_a_plan_that_a_commit_overtook_is_stale(shop: Repo, tmp_path: Path) -> None:
    commit = shop.head()
    plan = {
        "plan": None,
        "diagnostics": [],
        "base": {"commit": "f" * 40, "generation": 4},
        "wants": [],
    }
    with answering(tmp_path, {"status": status(shop.directory, commit), "plan": plan}):
        done = kakehi("plan", KAKEHI_RUNTIME_DIR=str(tmp_path))
    assert done.returncode == exits.STALE
    assert "ffffffffffff was applied while this was planned" in done.stderr


def test_a_plan_that_a_commit_overtook_is_made_anew(shop: Repo, tmp_path: Path) -> None:
    """As long as that is of any use: nobody's plan is right where commits never end."""
    commit = shop.head()
    stale = {
        "plan": None,
        "diagnostics": [],
        "base": {"commit": "f" * 40, "generation": 4},
        "wants": [],
    }
    made = {"commit": commit, "changes": [], "warnings": [], "refusal": None}
    plan = {
        "plan": made,
        "diagnostics": [],
        "base": {"commit": commit, "generation": 4},
        "wants": [],
    }
    answers = {"status": status(shop.directory, commit), "plan": [stale] * (TRIES - 1) + [plan]}
    with answering(tmp_path, answers):
        done = kakehi("plan", KAKEHI_RUNTIME_DIR=str(tmp_path))
    assert (done.returncode, done.stderr) == (exits.DONE, "")
    assert "No changes" in done.stdout


def test_a_plan_of_a_daemon_in_trouble_says_what_it_says(shop: Repo, tmp_path: Path) -> None:
    """That there is nothing to compare with is true where no daemon answers, and nowhere else."""
    refusal = {"ok": False, "error": {"code": "internal", "message": "the state is damaged"}}
    with answering(tmp_path, {"status": refusal}):
        done = kakehi("plan", KAKEHI_RUNTIME_DIR=str(tmp_path))
    assert (done.returncode, done.stderr) == (1, "kakehi plan: the state is damaged\n")


@pytest.mark.parametrize(
    ("worker", "code"),
    [
        ({}, exits.DONE),
        ({"digest": "e" * 32}, exits.DRIFT),
        ({"generation": 2}, exits.DRIFT),
    ],
)
def test_a_worker_that_runs_something_else_is_drift(
    worker: dict[str, Any], code: int, tmp_path: Path
) -> None:
    found = status(tmp_path, "a" * 40, **worker)
    with answering(tmp_path, {"status": found}):
        assert kakehi("status", KAKEHI_RUNTIME_DIR=str(tmp_path)).returncode == exits.DONE
        for more in ((), ("--json",)):
            done = kakehi("status", "--detailed-exitcode", *more, KAKEHI_RUNTIME_DIR=str(tmp_path))
            assert done.returncode == code


def test_failed_invalid_timeout_and_usage(shop: Repo, tmp_path: Path) -> None:
    nobody = {"KAKEHI_RUNTIME_DIR": str(tmp_path)}
    assert kakehi("status", **nobody).returncode == exits.FAILED
    assert kakehi("wait", "--timeout", "0s", **nobody).returncode == exits.TIMEOUT
    assert kakehi("status", "--nope").returncode == exits.USAGE
    shop.write({"bad.yaml": "listeners: []\n"})
    assert kakehi("validate", str(shop.directory)).returncode == exits.INVALID
    shop.write({"bad.yaml": "clusters: {more: {}}\n"})
    line = ("plan", str(shop.directory), "--from", "HEAD", "--detailed-exitcode")
    assert kakehi(*line).returncode == exits.CHANGES


def test_a_plan_between_commits_says_nothing_of_the_live_proxy(shop: Repo) -> None:
    line = ("plan", str(shop.directory), "--from", "HEAD", "--ref", "HEAD")
    done = kakehi(*line)
    assert (done.returncode, "live proxy" in done.stdout) == (0, False)
    assert "No changes. Both have the same configuration." in done.stdout
    shop.write({"bad.yaml": "clusters: {more: {}}\n"})
    done = kakehi("plan", str(shop.directory), "frontend", "--from", "HEAD")
    assert "No changes of frontend. The plan has 1 change of others." in done.stdout
