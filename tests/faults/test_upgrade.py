"""F24: all is restarted as another version, and finds a state in the form of the last one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from reconciler.storage.store import Store
from schemas.entity import Entity
from tests.harness import processes
from tests.harness.site import Site
from tests.reconciler.entities import leave

NEW_KEYS = ("passthrough", "proxy_protocol")


def of_before(entity: Entity) -> Entity:
    return replace(entity, value={k: v for k, v in entity.value.items() if k not in NEW_KEYS})


def test_a_state_of_another_version_serves_without_the_repository(site: Site) -> None:
    document: Any = site.document({"main": ["red"]}, {"main": "main"})
    site.start({"kakehi.yaml": document})
    generation, digest = site.running()
    assert site.daemon.interrupt() == 0
    site.daemon.await_end()

    store = Store(site.daemon.state_dir)
    old = [of_before(entity) for entity in store.running.state.values()]
    commit, tree = store.running.commit, store.running.tree
    store.close()
    assert commit is not None
    assert tree is not None
    assert leave(site.daemon.state_dir, old, "another", commit, tree) != digest
    generation += 1

    away = site.repo.directory.with_name("away")
    site.repo.directory.rename(away)
    try:
        site.daemon.return_(wait=False)
        processes.wait_until(
            lambda: {each["state"] for each in site.daemon.ask("status")["workers"]} == {"running"},
            "workers of the new version serve",
        )
        assert site.everywhere("main.test") == {"red"}, "as before"
        assert site.running() == (generation + 1, digest)
        assert "another version wrote the state" in site.daemon.log()
    finally:
        away.rename(site.repo.directory)
    # And it goes on from there.
    document["frontends"]["main"]["hostname"] = "moved.test"
    site.commit({"kakehi.yaml": document})
    assert site.everywhere("moved.test") == {"red"}
    assert site.running()[0] == generation + 2
