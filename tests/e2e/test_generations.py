"""No mixed generations: a request is served wholly by one, and a generation is on every worker."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness.load import OpenLoop
from tests.harness.site import Site

MOVES = 40
HOSTS = ("left.test", "right.test")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site(tmp_path, ["red", "blue"]) as made:
        yield made


def test_two_frontends_that_move_together_are_never_apart(site: Site, tmp_path: Path) -> None:
    def files(cluster: str) -> dict[str, Any]:
        clusters = {"red": ["red"], "blue": ["blue"]}
        return {"kakehi.yaml": site.document(clusters, {"left": cluster, "right": cluster})}

    site.start(files("red"))
    cluster_of = {site.running()[0]: "red"}
    with OpenLoop(
        site.address, HOSTS, tmp_path / "load", rate=600, connections=12, fresh=4
    ) as load:
        for number in range(MOVES):
            name = ("blue", "red")[number % 2]
            site.commit(files(name))
            generation, digest = site.running()
            assert digest == site.committed_digest()
            assert generation not in cluster_of
            cluster_of[generation] = name
            load.wait_for(10)
        load.stop()

    assert load.failures == []
    assert load.closed == []
    for sample in load.samples:
        assert sample.body == cluster_of[int(sample.generation)], sample

    count = len(load.samples)
    entries = site.daemon.wait_for_access(lambda entry: entry["host"] in HOSTS, count)
    named: dict[tuple[int, str], set[str]] = defaultdict(set)
    for entry in entries:
        generation = entry["generation"]
        assert entry["status"] == 200
        assert entry["backend"] == f"{cluster_of[generation]}/b0"
        assert entry["backend_address"] == site.backends.address[cluster_of[generation]]
        named[generation, entry["frontend"]].add(entry["cluster"])
    for (generation, _), clusters in named.items():
        assert clusters == {cluster_of[generation]}
    # Both frontends were under load in almost every generation, or this would prove nothing.
    both = [g for g in cluster_of if (g, "left") in named and (g, "right") in named]
    assert len(both) > MOVES // 2, f"both frontends were seen in {len(both)} generations only"


def test_every_frontend_moves_at_once_however_many_files_they_stand_in(site: Site) -> None:
    hosts = [f"team-{number}" for number in range(20)]

    def files(cluster: str) -> dict[str, Any]:
        whole = site.document({"red": ["red"], "blue": ["blue"]}, dict.fromkeys(hosts, cluster))
        frontends = whole.pop("frontends")
        parts = {f"{host}.yaml": {"frontends": {host: frontends[host]}} for host in hosts}
        return {"kakehi.yaml": whole, **parts}

    site.start(files("red"))
    generation, _ = site.running()
    site.commit(files("blue"))
    assert site.running() == (generation + 1, site.committed_digest())
    for host in hosts:
        assert set(site.kept(f"{host}.test").values()) == {"blue"}
    [newest] = site.history()
    assert newest["change_count"] == len(hosts)
