"""The daemon is killed at each call by which one apply writes, syncs, renames or sends.

Whichever it is: what lies on the disk is the generation of before or the new one, whole; workers go
on serving; the next daemon has the commit applied, once. Half of a write or of a message counts as
a call of its own. A quarter of the calls in each run, all of them in `make test-full`.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.storage.store import Store
from tests.harness import pki
from tests.harness.killer import Killer, build
from tests.harness.site import Site

_STEP = 1 if os.environ.get("KAKEHI_TEST_LONG") else 4


class Applying:
    """A site that goes from one commit to the next, each with another certificate."""

    def __init__(self, site: Site, killer: Killer) -> None:
        self.site = site
        self.killer = killer
        self._turn = 0

    @property
    def color(self) -> str:
        """What `main.test` is served by when the newest commit runs."""
        return ("red", "blue")[self._turn % 2]

    def next(self) -> dict[str, Any]:
        """An update, an addition or a removal, and files for the workers."""
        self._turn += 1
        labels = ["main", "extra"] if self._turn % 2 else ["main"]
        document = self.site.document({"main": [self.color]}, dict.fromkeys(labels, "main"))
        document["certificates"] = {"kept": {"certificate": "kept.pem", "private_key": "kept.key"}}
        pair = pki.make("kept.test")
        return {"kakehi.yaml": document, "kept.pem": pair.chain, "kept.key": pair.key}

    def count(self) -> int:
        """How many calls one apply has."""
        self.killer.count()
        self.site.commit(self.next())
        return self.killer.counted()

    def kill_at(self, call: int, *, by_half: bool) -> bool:
        """One apply that ends at a call; False when it was over before."""
        site = self.site
        before, workers = site.running(), site.identity()
        self.killer.kill_at(call, by_half=by_half)
        if not site.daemon.ends_before(site.repo.commit(self.next())):
            self.killer.counted()
            return False
        assert site.daemon.await_end() == -signal.SIGKILL
        held = on_disk(site)
        site.daemon.return_(**self.killer.environment)
        after = site.running()
        what = f"{self.killer.name}, call {call}{', by half' if by_half else ''}: {before} {after}"
        assert after[0] == before[0] + 1, what
        assert held in (before, after), f"{what} {held}"
        assert site.everywhere("main.test") == {self.color}, what
        assert site.identity() == workers, what
        return True


def on_disk(site: Site) -> tuple[int, str]:
    """The state that the directory has, as nobody has opened it yet."""
    copy = site.directory / "copy"
    shutil.copytree(site.daemon.state_dir, copy)
    store = Store(copy)
    try:
        return store.running.generation, store.running.state.digest
    finally:
        store.close()
        shutil.rmtree(copy)


@pytest.fixture
def applying(tmp_path: Path) -> Iterator[Applying]:
    killer = Killer(build(tmp_path), tmp_path)
    with Site(tmp_path) as site:
        made = Applying(site, killer)
        site.start(made.next(), **killer.environment)
        yield made


@pytest.mark.parametrize("by_half", [False, True], ids=["before", "by half"])
def test_a_kill_at_any_call_leaves_one_generation(applying: Applying, by_half: bool) -> None:
    applying.count()
    calls = applying.count()
    assert calls > 20, "an apply writes, syncs, renames and sends"
    killed = [applying.kill_at(call, by_half=by_half) for call in range(1 + by_half, calls, _STEP)]
    assert sum(killed) > len(killed) // 2
