"""F22, T44, D14: the wall clock jumps. Deadlines are monotonic: nothing comes too early or late."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from tests.faults.scene import transaction
from tests.harness import processes
from tests.harness.load import OpenLoop
from tests.harness.rawclient import Connection
from tests.harness.site import Site

MONTH = "+31d"
BACK = "-31d"
# A process keeps the time that it has read for so long. Counted in whole seconds: nearly one more.
KEPT_S = 1
NOTICED_S = 2 * KEPT_S + 0.5


def library() -> str:
    [found] = Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")
    return str(found)


def test_a_clock_that_jumps_aborts_nothing_and_ends_nothing(site: Site) -> None:
    clock = site.directory / "clock"
    clock.write_text("+0")

    def files(backend: str) -> dict[str, Any]:
        return {"kakehi.yaml": site.document({"main": [backend]}, {"main": "main"})}

    site.start(
        files("red"),
        LD_PRELOAD=library(),
        FAKETIME_TIMESTAMP_FILE=str(clock),
        FAKETIME_CACHE_DURATION=str(KEPT_S),
        FAKETIME_DONT_FAKE_MONOTONIC="1",
    )
    pids = site.worker_pids()
    generation, _ = site.running()
    with (
        Connection(site.address) as kept,
        OpenLoop(
            site.address, ["main.test"], site.directory / "load", rate=50, connections=2, fresh=0
        ) as load,
    ):
        assert kept.get("main.test").body == b"red"
        load.wait_for(5)
        for number, (jump, backend) in enumerate(((MONTH, "blue"), (BACK, "red")), 1):
            # The jump comes in the middle of the transaction: one worker has not prepared yet.
            processes.stop(pids[1])
            sha = site.repo.commit(files(backend), f"jump {jump}")
            processes.wait_until(
                lambda: transaction(site).get("waiting_for") == [1], "it alone has not prepared"
            )
            clock.write_text(jump)
            time.sleep(NOTICED_S)
            os.kill(pids[1], signal.SIGCONT)
            site.wait(sha)
            assert site.running() == (generation + number, site.committed_digest())
            assert kept.get("main.test").body == backend.encode()
        samples = load.stop()
    assert [each for each in samples if each.status != 200] == []
    assert site.worker_pids() == pids
    assert [worker["restarts"] for worker in site.daemon.ask("status")["workers"]] == [0, 0]
    entries = site.daemon.ask("history", limit=10)["entries"]
    months = {entry["at"][:7] for entry in entries}
    assert len(months) == 3, f"the clock has not jumped: {months}"
