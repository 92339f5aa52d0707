"""A plan is a question: whatever is asked while a commit is under way changes nothing of it."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.harness import control
from tests.harness.daemon import stopped
from tests.reconciler.live import Shop, eventually, shop

# So many that the daemon compares them in a thread, and needs longer than the commit beside it.
_CLUSTERS, _DANGLING, _THREAD_BYTES = 1500, 10, 300_000


def _slow_to_check() -> str:
    """A file whose references take long: each one that dangles gets a suggestion."""
    clusters = {f"a-cluster-with-a-long-name-{number:06}": {} for number in range(_CLUSTERS)}
    frontends = {
        f"f{number}": {
            "listeners": ["public"],
            "hostname": f"h{number}.test",
            "cluster": f"b-clutser-with-long-name-{number:06}",
        }
        for number in range(_DANGLING)
    }
    text = json.dumps({"clusters": clusters, "frontends": frontends}, indent=1)
    return text + "\n#" + "." * _THREAD_BYTES + "\n"


def _plan_beside(running: Shop, files: dict[str, str]) -> tuple[threading.Thread, list[Any]]:
    answers: list[Any] = []

    def ask() -> None:
        answers.append(control.ask(running.daemon.runtime_dir, "plan", commit="HEAD", files=files))

    asking = threading.Thread(target=ask)
    asking.start()
    return asking, answers


def _in_prepare(running: Shop) -> bool:
    transaction = control.ask(running.daemon.runtime_dir, "status")["transaction"]
    return transaction is not None and transaction["phase"] == "preparing"


@pytest.mark.parametrize("head_start_s", [0.0, 0.4, 1.2])
def test_a_plan_beside_a_commit_puts_nothing_back(tmp_path: Path, head_start_s: float) -> None:
    with shop(tmp_path) as running:
        other = json.dumps(running.files(1)["shop.yaml"] | {"clusters": {"shop": {}}})
        with stopped(running.daemon.worker_pids()[0]):
            head = running.repo.commit(running.files(1))
            eventually(lambda: _in_prepare(running))
            asking, answers = _plan_beside(
                running, {"shop.yaml": other, "b.yaml": _slow_to_check()}
            )
            time.sleep(0.2 + head_start_s)
        running.daemon.wait(head)
        assert running.served_by() == 1
        asking.join()
        assert answers[0]["plan"] is None, "what it asks for has errors"
        # The way back is a change like any other: it must be seen, applied, and served.
        running.commit(0)
        assert running.served_by() == 0
        running.commit(1)
        assert running.served_by() == 1
