"""Metrics of more entities than may have series of their own: bounded, and told."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from reconciler.reporting.monitoring.metrics import KakehiCollector, OwnNumbers, registry, render
from reconciler.reporting.outcomes import Tally
from reconciler.workers.counting.counters import Counters
from reconciler.workers.counting.readings import SlotKey, Wanted
from schemas.kinds.settings import Settings
from tests.harness import ports
from tests.reconciler.live import shop
from tests.reconciler.memory import Memory

MANY = 40
ENTITIES_MAX = Settings().metrics_entities


def test_a_scrape_of_a_large_site_is_printed_in_a_second() -> None:
    memory, counters = Memory(), Counters()
    counters.attach(memory.duplicate())
    for number in range(60_000):
        kind = ("frontend", "cluster", "backend")[number % 3]
        memory.slot(number, kind, f"c{number}/b{number}", requests=number, duration_us=7)
    keys = [
        SlotKey(kind, f"c{number}/b{number}")
        for position, kind in enumerate(("frontend", "cluster", "backend"))
        for number in range(position, 3 * ENTITIES_MAX, 3)
    ]
    wanted = Wanted(keys)
    numbers = OwnNumbers(1, "c", 2, 2, 0, 0, {}, True, 0, 1.0, Tally())
    made = registry(KakehiCollector(lambda: numbers, lambda: {0: counters.read(wanted)}))
    began = time.process_time()
    text = render(made)
    took = time.process_time() - began
    assert text.count(b"kakehi_frontend_requests_total{") == ENTITIES_MAX
    print(f"{text.count(b'kakehi_')} lines in {took:.2f} s")
    assert took < 3, "a second, on a machine that is not shared"


def test_what_has_no_series_is_told(tmp_path: Path) -> None:
    admin = ports.address()

    def scrape() -> str:
        with urlopen(f"http://{admin}/metrics", timeout=20) as response:
            return str(response.read().decode())

    with shop(tmp_path, 2, admin=admin) as running:
        files: dict[str, Any] = running.files(admin=admin)
        settings = files["settings.yaml"]["settings"]
        settings["metrics_entities"] = 3
        running.daemon.commit(files)
        assert running.daemon.status()["warnings"] == []
        assert "kakehi_metrics_entities_left_out 0.0" in scrape()
        for number in range(MANY):
            web = {"listeners": ["public"], "cluster": "shop", "hostname": f"h{number}.test"}
            files["shop.yaml"]["frontends"][f"a{number:02}"] = web
        running.daemon.commit(files)
        text = scrape()
        assert f"kakehi_metrics_entities_left_out {MANY + 1 - 3:.1f}" in text
        shown = [f'kakehi_frontend_requests_total{{frontend="a0{n}"}} 0.0' for n in range(3)]
        assert [line for line in text.splitlines() if "frontend_requests_total{" in line] == shown
        [warning] = running.daemon.status()["warnings"]
        assert warning.startswith("the metrics have 3 of 41 frontends, the first by name")

        settings["metrics_entities"] = MANY + 1
        running.daemon.commit(files)
        assert "kakehi_metrics_entities_left_out 0.0" in scrape()
        assert running.daemon.status()["warnings"] == []


def test_what_is_not_counted_is_told_and_counted_when_it_may_be(tmp_path: Path) -> None:
    """Of a frontend, its cluster and their backend one finds no room; requests are served."""
    admin = ports.address()

    def counted() -> list[float]:
        """The requests of each."""
        with urlopen(f"http://{admin}/metrics", timeout=20) as response:
            lines = response.read().decode().splitlines()
        found = dict(line.rsplit(maxsplit=1) for line in lines if not line.startswith("#"))
        return [
            float(found.get(f"kakehi_{name}", 0))
            for name in (
                'frontend_requests_total{frontend="web"}',
                'cluster_requests_total{cluster="shop"}',
                'backend_requests_total{backend="one",cluster="shop"}',
                'worker_uncounted_entities{worker="0"}',
            )
        ]

    with shop(tmp_path, 1, admin=admin) as running:
        files: dict[str, Any] = running.files(admin=admin)
        settings = files["settings.yaml"]["settings"]
        settings["max_counted_entities"] = 2
        running.daemon.commit(files)
        for _ in range(2):
            assert running.get() == 200
        [warning] = running.daemon.status()["warnings"]
        assert warning.startswith("workers have refused to count entities, since they count 2")
        assert sorted(counted()) == [0, 1, 2, 2]

        settings["max_counted_entities"] = 3
        running.daemon.commit(files)
        assert running.daemon.status()["warnings"] == []
        assert running.get() == 200
        assert sorted(counted()) == [0, 1, 3, 3]
