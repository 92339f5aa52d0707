"""The daemon is killed at a call by which one apply writes, syncs, renames or sends.

Whichever it is: what lies on the disk is the generation of before or the new one, whole; workers go
on serving; the next daemon has the commit applied, once. The tests are in modules of their own,
`test_kill_*`, since a module is what runs beside others.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from reconciler.loop.large.loading import FILES_MAX
from reconciler.storage.store import Store
from tests.harness import pki
from tests.harness.killer import Killer, build
from tests.harness.site import Site

LONG = bool(os.environ.get("KAKEHI_TEST_LONG"))


class Applying:
    """A site that goes from one commit to the next, each with another certificate."""

    def __init__(self, site: Site, killer: Killer, *, large: bool = False) -> None:
        self.site = site
        self.killer = killer
        self._turn = 0
        self.files = self.next_large if large else self.next

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

    def next_large(self) -> dict[str, Any]:
        """The same, and so much that it is loaded by processes and copied as rows."""
        port = 2000 + self._turn % 7
        backends = {"b": {"address": f"127.0.0.1:{port}"}}
        names = (f"c{number:04}" for number in range(FILES_MAX + 100))
        many = {f"{name}.yaml": {"clusters": {name: {"backends": backends}}} for name in names}
        return {**self.next(), **many}

    def count(self) -> int:
        """How many calls one apply has."""
        self.killer.count()
        self.site.commit(self.files())
        return self.killer.counted()

    def kill_at(self, call: int, *, by_half: bool) -> bool:
        """One apply that ends at a call; False when it was over before."""
        site = self.site
        before, workers = site.running(), site.identity()
        self.killer.kill_at(call, by_half=by_half)
        if not site.daemon.ends_before(site.repo.commit(self.files())):
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


@contextlib.contextmanager
def applying(directory: Path, *, large: bool = False) -> Iterator[Applying]:
    killer = Killer(build(directory), directory)
    with Site(directory) as site:
        made = Applying(site, killer, large=large)
        site.start(made.files(), **killer.environment)
        yield made


def kill_at_calls(directory: Path, *, by_half: bool) -> None:
    """A quarter of the calls in each run, all of them in `make test-full`."""
    with applying(directory) as one:
        one.count()
        calls = one.count()
        assert calls > 20, "an apply writes, syncs, renames and sends"
        places = range(1 + by_half, calls, 1 if LONG else 4)
        killed = [one.kill_at(call, by_half=by_half) for call in places]
        assert sum(killed) > len(killed) // 2
