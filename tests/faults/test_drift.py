"""F21: a worker's table is altered in place, behind everybody's back."""

from __future__ import annotations

import os
import re
from pathlib import Path

from tests.harness import processes
from tests.harness.load import OpenLoop
from tests.harness.site import Site

# The audit's round, and a slow machine.
FOUND_WITHIN_S = 30.0
MARK = "altered-in-place.test"


def overwrite(pid: int, old: bytes, new: bytes) -> int:
    """Replace bytes wherever they lie in a process' writable memory, as a flipped bit would."""
    assert len(old) == len(new)
    places = 0
    with open(f"/proc/{pid}/mem", "r+b", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            found = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw", line)
            if found is None or "/memfd:" in line or "[v" in line:
                continue
            start, end = (int(each, 16) for each in found.groups())
            try:
                memory.seek(start)
                content = memory.read(end - start)
            except OSError:
                continue
            for match in re.finditer(re.escape(old), content):
                memory.seek(start + match.start())
                memory.write(new)
                places += 1
    return places


def test_a_worker_that_was_altered_in_place_is_found_and_replaced(site: Site) -> None:
    frontends = {"steady": "main", "marked": "main"}
    document = site.document({"main": ["steady"]}, frontends)
    document["frontends"]["marked"]["hostname"] = MARK
    site.start({"kakehi.yaml": document})
    victim, other = site.worker_pids()
    generation, digest = site.running()
    with OpenLoop(
        site.address, ["steady.test"], site.directory / "load", rate=50, connections=2, fresh=0
    ) as load:
        load.wait_for(5)
        assert overwrite(victim, MARK.encode(), b"b" + MARK.encode()[1:]) > 0
        processes.wait_until(
            lambda: site.daemon.ask("status")["drift"], "the drift is found", FOUND_WITHIN_S
        )
        processes.wait_until(
            lambda: len(set(site.worker_pids()) - {victim, 0}) == 2, "a successor serves"
        )
    found = site.daemon.ask("status")["drift"]
    assert (found["worker"], found["generation"]) == (0, generation)
    assert "frontend/marked" in found["differing"]
    assert other in site.worker_pids(), "the other one is as it was"
    # The successor holds what was committed, and nothing has changed for anybody.
    processes.wait_until(lambda: site.running() == (generation, digest), "all hold the same")
    assert site.everywhere(MARK) == {"steady"}
    said = site.daemon.run_cli("status", check=True).stdout
    assert "frontend/marked" in said
    assert "does not hold what was committed" in site.daemon.log()
    assert os.path.exists(f"/proc/{other}")


def test_a_worker_that_is_as_it_should_be_is_left_alone(site: Site) -> None:
    site.start({"kakehi.yaml": site.document({"main": ["steady"]}, {"steady": "main"})})
    pids = site.worker_pids()
    processes.wait_until(lambda: site.daemon.ask("status")["uptime_s"] >= 12, "a round is over")
    assert site.worker_pids() == pids
    assert site.daemon.ask("status")["drift"] is None
