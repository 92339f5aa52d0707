"""The reconciler dies at a named point of a transaction; F8, F9 and F10 of the failure table.

Before the commit record the transaction has not happened, behind it it has; in both cases the next
daemon makes it happen once, on the workers that never stopped serving.
"""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from tests.faults.scene import Scene
from tests.harness.site import Site

# The first start of a site is a transaction too, on two workers: these counts are behind it.
SECOND, FIRST_SEND, LAST_SEND = 2, 3, 4

BEFORE_THE_COMMIT_POINT = [
    ("journal.begin", SECOND),
    ("prepare.sent", FIRST_SEND),
    ("journal.commit", SECOND),
]
BEHIND_THE_COMMIT_POINT = [
    ("commit.sent", FIRST_SEND),
    ("commit.sent", LAST_SEND),
    ("release.sent", FIRST_SEND),
    ("journal.done", SECOND),
]


@pytest.mark.parametrize(("point", "count"), BEFORE_THE_COMMIT_POINT + BEHIND_THE_COMMIT_POINT)
def test_a_crash_at_any_point_loses_nothing_and_nobody_notices(
    site: Site, tmp_path: Path, point: str, count: int
) -> None:
    with Scene(site, tmp_path, KAKEHI_FAULT=f"{point}:crash:{count}") as scene:
        scene.commit()
        assert site.daemon.await_end() == -signal.SIGKILL
        scene.load.wait_for(20)
        if (point, count) in BEFORE_THE_COMMIT_POINT:
            scene.check_before()
        site.daemon.return_()
        scene.check_after()
        scene.check_load()
        scene.check_next()


def test_a_crash_while_it_takes_a_refused_commit_back(site: Site, tmp_path: Path) -> None:
    with Scene(site, tmp_path, KAKEHI_FAULT="abort.sent:crash:1") as scene:
        whole = site.document({"steady": ["steady"]}, {"steady": "steady"})
        whole["settings"] = {**site.settings, "access_log": f"{tmp_path}/missing/access.log"}
        bad = site.repo.commit({"kakehi.yaml": whole}, "bad")
        assert site.daemon.await_end() == -signal.SIGKILL
        scene.check_before()
        site.daemon.return_(wait=False)
        assert site.daemon.outcome(bad) == "refused"
        assert site.running()[0] == scene.generation
        scene.check_before()
        scene.commit()
        site.wait("HEAD")
        scene.check_after()
        scene.check_load()


@pytest.mark.parametrize("point", ["snapshot.rename", "journal.restart"])
def test_a_crash_while_the_state_is_compacted(site: Site, tmp_path: Path, point: str) -> None:
    """The journal outgrows its snapshot by error pages, which are what an entity can be full of."""
    page = {"body": "<p>" + "x" * 60_000 + "</p>"}

    def full(count: int) -> dict[str, Any]:
        pages = {str(status): page for status in range(400, 400 + count)}
        listener = {"address": site.address, "error_pages": pages}
        whole = site.document({"main": ["red"]}, {"main": "main"})
        return {"kakehi.yaml": {**whole, "listeners": {"main": listener}}}

    site.start(full(1), KAKEHI_FAULT=f"{point}:crash:1")
    workers = site.identity()
    crashed = any(site.daemon.ends_before(site.repo.commit(full(n))) for n in range(50, 60))
    assert crashed, "the journal was never compacted"
    site.daemon.await_end()
    assert set(site.kept("main.test", pids=list(workers)).values()) == {"red"}
    site.daemon.return_()
    assert site.running()[1] == site.committed_digest()
    assert site.identity() == workers
    site.commit({"kakehi.yaml": site.document({"main": ["blue"]}, {"main": "main"})})
    assert site.everywhere("main.test") == {"blue"}
    # And from what is on the disk alone.
    site.daemon.kill()
    site.daemon.await_end()
    site.daemon.return_()
    assert site.running()[1] == site.committed_digest()
    assert site.everywhere("main.test") == {"blue"}
