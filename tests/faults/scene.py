"""One change that has everything: adds, updates and removes of listener, cluster and frontend.

What the tests of crashes apply, and judge afterwards by what the proxy does.
"""

from __future__ import annotations

from typing import Any

from tests.harness import ports, processes, wire
from tests.harness.load import OpenLoop
from tests.harness.rawbackend import RawBackend, answer
from tests.harness.rawclient import Connection
from tests.harness.site import Site, refuses

KEPT_ALIVE = 4


class Scene:
    """A started site under load, and the change that is to be applied to it."""

    def __init__(self, site: Site, **environment: str) -> None:
        self.site = site
        self._gone = RawBackend(answer(wire.response(b"gone")))
        self._old_listener, self._new_listener = ports.address(), ports.address()
        site.start(self._files("red"), **environment)
        self.workers = site.identity()
        self.pids = list(self.workers)
        self.generation, _ = site.running()
        # The proxy keeps connections to the backend that is to go.
        for _ in range(KEPT_ALIVE):
            with Connection(self._old_listener) as client:
                assert client.get("gone.test").status == 200
        self.load = OpenLoop(
            site.address,
            ["steady.test", "main.test"],
            site.directory / "load",
            rate=100,
            connections=6,
            fresh=2,
        )
        self.load.wait_for(5)

    def __enter__(self) -> Scene:
        return self

    def __exit__(self, *_: object) -> None:
        self.load.stop()
        self._gone.stop()

    def _files(self, backend: str) -> dict[str, Any]:
        changed = backend == "blue"
        clusters = {"steady": ["steady"], "main": [backend]}
        hosts = {"steady": "steady", "main": "main"}
        listener = self._new_listener if changed else self._old_listener
        if changed:
            clusters["fresh"] = ["blue"]
            hosts["fresh"] = "fresh"
        else:
            clusters["gone"] = [self._gone.address]
            hosts["gone"] = "gone"
        name = "new" if changed else "old"
        document = self.site.document(
            clusters, hosts, listeners={"main": self.site.address, name: listener}
        )
        return {"kakehi.yaml": document}

    def commit(self) -> str:
        """Commit the change, without waiting for anything."""
        return self.site.repo.commit(self._files("blue"), "the change")

    def check_before(self) -> None:
        """Every worker serves as if nothing had been committed; needs no daemon."""
        assert set(self.site.kept("main.test", pids=self.pids).values()) == {"red"}
        assert set(self.site.kept("fresh.test", pids=self.pids).values()) == {"404"}
        assert set(self.site.kept("gone.test", pids=self.pids).values()) == {"gone"}
        assert not refuses(self._old_listener)

    def check_after(self, *, same_workers: bool = True, generations: int = 1) -> None:
        """The change is applied, once and whole, and nothing of before is left."""
        site = self.site
        assert site.everywhere("main.test") == {"blue"}
        assert site.everywhere("fresh.test") == {"blue"}
        assert site.everywhere("gone.test") == {"404"}
        assert site.running() == (self.generation + generations, site.committed_digest())
        assert site.daemon.ask("status")["last_error"] is None
        assert refuses(self._old_listener)
        assert set(site.fresh("main.test", address=self._new_listener)) == set(site.worker_pids())
        self._gone.wait_until(
            lambda: all(each.ended for each in self._gone.connections),
            "the connections to the removed backend are closed",
        )
        if same_workers:
            assert {pid: started for pid, (started, _) in site.identity().items()} == {
                pid: started for pid, (started, _) in self.workers.items()
            }

    def check_load(self) -> None:
        """Nobody noticed."""
        self.load.wait_for(20)
        self.load.stop()
        assert self.load.failures == []
        assert self.load.closed == []

    def check_next(self) -> None:
        """The next commit goes the usual way."""
        generation, _ = self.site.running()
        self.site.commit(self._files("red"), "the next one")
        assert self.site.everywhere("main.test") == {"red"}
        assert self.site.running() == (generation + 1, self.site.committed_digest())


def transaction(site: Site) -> dict[str, Any]:
    """The open transaction, empty when there is none."""
    opened: dict[str, Any] | None = site.daemon.ask("status")["transaction"]
    return opened or {}


def wait_for_delay(site: Site) -> None:
    """Wait until the reconciler sleeps at its fault point; it does so for a second."""
    processes.wait_until(
        lambda: processes.is_asleep(site.daemon.pid), "the reconciler is at its fault point"
    )


def check_survivor(site: Site, scene: Scene, victim: int) -> None:
    """The victim is another process now, in the same place; the other one is what it was."""
    now = site.worker_pids()
    assert [pid == before for pid, before in zip(now, scene.pids, strict=True)] == [
        number != victim for number in range(len(now))
    ]
    survivor = scene.pids[1 - victim]
    assert site.identity()[survivor][0] == scene.workers[survivor][0]
