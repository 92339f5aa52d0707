"""The fixtures of the fault tests.

Most of a fault is waiting: for a process to start, a deadline to pass. So the cases of a module run
side by side, each on a site of its own, and each has its own test that tells what became of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.harness.site import Site

NAMES = ("steady", "red", "blue")
SIDE_BY_SIDE = 3
DEADLINE_S = 200


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site(tmp_path, NAMES) as made:
        yield made


@pytest.fixture(scope="module")
def outcome(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], None]]:
    """Runs those of the module's CASES that are asked for; gives what raises a case's failure.

    Where a module says that its cases BEGIN_ANYWHERE, one goes on where another has ended well.
    """
    cases: dict[str, Callable[[Site], None]] = request.module.CASES
    wanted = [
        item.callspec.params["case"]
        for item in request.session.items
        if isinstance(item, pytest.Function)
        and item.module is request.module
        and "case" in getattr(getattr(item, "callspec", None), "params", {})
    ]

    goes_on = getattr(request.module, "BEGIN_ANYWHERE", False)
    free: list[Site] = []

    def run(case: str, directory: Path) -> None:
        with ExitStack() as stack:
            site = stack.enter_context(free.pop() if free else Site(directory, NAMES))
            cases[case](site)
            if goes_on:
                stack.pop_all()
                free.append(site)

    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        running = {
            case: pool.submit(run, case, tmp_path_factory.mktemp("case"))
            for case in cases
            if case in wanted
        }
        yield lambda case: running[case].result(DEADLINE_S)
    with ExitStack() as stack:
        for site in free:
            stack.enter_context(site)
