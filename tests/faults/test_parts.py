"""A part of the daemon fails: it comes again, serving and following go on, and somebody is told."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from tests.harness import ports, processes
from tests.harness.site import Site


def fails_once(name: str, site: Site) -> None:
    """At its start, by an error that nobody expects there."""
    site.settings["admin"] = ports.address()
    site.start(files(site, "red"), KAKEHI_FAULT=f"part.{name}:raise:1")

    def parts() -> dict[str, Any]:
        return {part["name"]: part for part in site.daemon.ask("status")["parts"]}

    # Some begin when the first commit is served, and it comes again after a moment.
    processes.wait_until(
        lambda: (
            name in parts()
            and (parts()[name]["restarts"], parts()[name]["state"]) == (1, "running")
        ),
        f"{name} runs again",
    )
    found = parts()
    assert "fault injected" in found[name]["problem"]
    said = site.daemon.run_cli("status", check=True).stdout
    assert f"the part '{name}' was started again" in said
    with urllib.request.urlopen(f"http://{site.settings['admin']}/metrics", timeout=20) as answer:
        metrics = answer.read().decode()
    assert re.search(rf'^kakehi_part_restarts_total{{part="{name}"}} 1\.0$', metrics, re.MULTILINE)
    assert re.search(rf'^kakehi_part_running{{part="{name}"}} 1\.0$', metrics, re.MULTILINE)
    site.commit(files(site, "blue"))
    assert site.everywhere("main.test") == {"blue"}
    assert "Traceback" not in site.daemon.log()


def files(site: Site, backend: str) -> dict[str, object]:
    return {"kakehi.yaml": site.document({"main": [backend]}, {"main": "main"})}


NAMES = (
    "reconciling",
    "watchdog",
    "service manager",
    "tickets",
    "runtime directory",
    "auditing",
    "auditing rows",
    "auditing files",
    "liveness",
    "binding",
    "strays",
    "probing",
    "certifying",
    "issuers",
    "worker 1",
)
CASES: dict[str, Callable[[Site], None]] = {name: partial(fails_once, name) for name in NAMES}


@pytest.mark.parametrize("case", CASES)
def test_a_part_that_fails(outcome: Callable[[str], None], case: str) -> None:
    outcome(case)


def test_every_part_of_a_daemon_is_tried_here(site: Site) -> None:
    site.start(files(site, "red"))
    processes.wait_until(
        lambda: "readiness" not in names(site), "it is ready, and what said so is done"
    )
    assert names(site) == {*NAMES, "worker 0"}


def names(site: Site) -> set[str]:
    return {part["name"] for part in site.daemon.ask("status")["parts"]}
