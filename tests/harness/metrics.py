"""Reads the Prometheus text of the admin listener, for tests that reconcile numbers."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Callable

from prometheus_client.parser import text_string_to_metric_families

_DEADLINE_S = 15.0


def scrape(address: str) -> dict[str, float]:
    """Return each sample summed over its labels; by class too, `kakehi_responses_total.5xx`."""
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=_DEADLINE_S) as response:
        text = response.read().decode()
    sums: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            keys = [sample.name]
            if "class" in sample.labels and "worker" in sample.labels:
                keys.append(f"{sample.name}.{sample.labels['class']}")
            for key in keys:
                sums[key] = sums.get(key, 0) + sample.value
    return sums


def value(address: str, name: str, **labels: str) -> float:
    """Return the sum of a sample over those that have these labels."""
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=_DEADLINE_S) as response:
        text = response.read().decode()
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def wait_for(address: str, condition: Callable[[dict[str, float]], bool]) -> dict[str, float]:
    """Scrape until the condition holds: what has ended is counted a moment after it is seen."""
    deadline = time.monotonic() + _DEADLINE_S
    while True:
        numbers = scrape(address)
        if condition(numbers):
            return numbers
        assert time.monotonic() < deadline, f"never so: {numbers}"
        time.sleep(0.02)
