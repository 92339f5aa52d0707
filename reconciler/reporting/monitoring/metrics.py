"""The metrics: what workers counted in shared memory and what the reconciler did, for Prometheus.

Everything is named `kakehi_*`. A worker's numbers carry its number as a label, an entity's numbers
its name, summed over the workers; of each kind as many entities have series as may have. The
engine's names come from the memory's own header, so a counter that it gains appears here by itself.
Called by `reconciler.reporting.monitoring.measuring` when somebody asks; nothing is collected
otherwise. The module is loaded then: prometheus-client brings an HTTP server and client along.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import field
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector

from reconciler.reporting import tls_faults
from reconciler.reporting.outcomes import Tally
from reconciler.workers.counting.readings import (
    GAUGES,
    HistogramReading,
    Reading,
    SlotKey,
    is_gauge,
)
from schemas.messages.probing import BUCKETS_US, Sums
from schemas.record import record

_STATES = ("drained", tls_faults.FIELD)
"""Fields of an entity that say what is so, and have no sum over the workers."""

_STATUS_CLASS = re.compile(r"^responses_(\dxx)(?:_total)?$")
_STATUS = re.compile(r"^responses_(\d{3})$")


@record
class HealthNumbers:
    """What the prober has told."""

    checked: int
    unusable: int
    sums: Sums
    restarts: int
    healthy: dict[str, bool]
    """By name of a backend that is checked: of as many as have series."""


@record
class OwnNumbers:
    """The reconciler's numbers at one moment."""

    generation: int
    commit: str
    workers: int
    workers_in_service: int
    workers_silent: int
    workers_former: int
    restarts: dict[int, int]
    following: bool
    drifts: int
    uptime_s: float
    tally: Tally
    expiry_days: dict[tuple[str, str], float] = field(default_factory=dict)
    """By kind and name of an entity with a certificate."""
    order_failures: dict[str, int] = field(default_factory=dict)
    """By name of a certificate that is ordered: attempts since the last one that went well."""
    files_silent: int = 0
    """How many files outside of the repository do not answer."""
    key_failures: dict[str, int] = field(default_factory=dict)
    """By URL of a set of keys that is fetched: the same."""
    log_dropped: int = 0
    parts: dict[str, tuple[str, int]] = field(default_factory=dict)
    """By name of a part of the daemon: its state in a word, and how often it was restarted."""
    health: HealthNumbers | None = None
    """None where nothing is checked."""
    expression_bytes: int = 0
    """What all expressions take of a worker when they are compiled."""
    entities_left_out: int = 0
    """How many entities have no series of their own, because there are too many."""


class KakehiCollector(Collector):
    """Turns readings into metric families."""

    def __init__(
        self, numbers: Callable[[], OwnNumbers], readings: Callable[[], dict[int, Reading]]
    ) -> None:
        self._numbers = numbers
        self._readings = readings

    def collect(self) -> Iterator[Metric]:
        """Called by prometheus-client at each scrape."""
        yield from _reconciler(self._numbers())
        readings = self._readings()
        yield from _workers(readings)
        yield from _histograms(readings)
        yield from _entities(readings)


def registry(collector: KakehiCollector) -> CollectorRegistry:
    """A registry of its own, without the client library's process metrics."""
    made = CollectorRegistry(auto_describe=False)
    made.register(collector)
    return made


def render(made: CollectorRegistry) -> bytes:
    """The text exposition format."""
    return generate_latest(made)


def _reconciler(numbers: OwnNumbers) -> Iterator[Metric]:
    yield from _commits(numbers)
    yield from _in_service(numbers)
    yield GaugeMetricFamily(
        "kakehi_source_following",
        "1 while the followed branch can be read and fetched, 0 while it cannot.",
        int(numbers.following),
    )
    yield GaugeMetricFamily("kakehi_uptime_seconds", "Age of the daemon.", numbers.uptime_s)
    yield from _expiry(numbers.expiry_days)
    failures = GaugeMetricFamily(
        "kakehi_certificate_order_failures",
        "Failed attempts to order or renew a certificate, since one went well.",
        labels=["certificate"],
    )
    yield _of_each(failures, numbers.order_failures)
    yield GaugeMetricFamily(
        "kakehi_files_silent",
        "Files outside of the repository that do not answer: their file system hangs.",
        numbers.files_silent,
    )
    keys = GaugeMetricFamily(
        "kakehi_issuer_key_failures",
        "Failed attempts to fetch the keys of an issuer, since one went well.",
        labels=["url"],
    )
    yield _of_each(keys, numbers.key_failures)
    yield from _parts(numbers.parts)
    if numbers.health is not None:
        yield from _health(numbers.health)
    yield GaugeMetricFamily(
        "kakehi_expression_bytes",
        "What all expressions take of a worker when compiled (settings.max_expression_bytes).",
        numbers.expression_bytes,
    )
    yield GaugeMetricFamily(
        "kakehi_metrics_entities_left_out",
        "Entities without series of their own (settings.metrics_entities).",
        numbers.entities_left_out,
    )
    yield CounterMetricFamily(
        "kakehi_log_dropped",
        "Lines of the daemon's log that were dropped because nobody read stderr.",
        value=numbers.log_dropped,
    )


def _of_each(
    family: CounterMetricFamily | GaugeMetricFamily, values: Mapping[Any, float]
) -> Metric:
    """A family with one label, and what it is for each value of that."""
    for label, value in values.items():
        family.add_metric([str(label)], value)
    return family


def _health(found: HealthNumbers) -> Iterator[Metric]:
    yield GaugeMetricFamily("kakehi_backends_checked", "Backends that are checked.", found.checked)
    yield GaugeMetricFamily(
        "kakehi_backends_unhealthy",
        "Of these, those that get no requests since checks say so.",
        found.unusable,
    )
    yield CounterMetricFamily(
        "kakehi_prober_restarts", "How often the prober was replaced.", value=found.restarts
    )
    checks = CounterMetricFamily(
        "kakehi_health_checks", "Checks by result, since the prober began.", labels=["result"]
    )
    checks.add_metric(["good"], found.sums.good)
    checks.add_metric(["bad"], found.sums.bad)
    yield checks
    took = HistogramMetricFamily("kakehi_health_check_seconds", "How long checks took.")
    if found.sums.buckets:
        reading = HistogramReading(BUCKETS_US, tuple(found.sums.buckets), found.sums.took_us)
        took.add_metric([], _buckets(reading), found.sums.took_us / 1e6)
    yield took
    healthy = GaugeMetricFamily(
        "kakehi_backend_healthy",
        "1 while a backend that is checked gets requests, 0 while checks say that it does not.",
        labels=["cluster", "backend"],
    )
    for name, is_healthy in found.healthy.items():
        cluster, _, backend = name.partition("/")
        healthy.add_metric([cluster, backend], int(is_healthy))
    yield healthy


def _commits(numbers: OwnNumbers) -> Iterator[Metric]:
    tally = numbers.tally
    yield GaugeMetricFamily("kakehi_generation", "Committed generation.", numbers.generation)
    info = GaugeMetricFamily("kakehi_commit_info", "The applied commit.", labels=["commit"])
    info.add_metric([numbers.commit], 1)
    yield info
    commits = CounterMetricFamily("kakehi_commits", "Commits by outcome.", labels=["outcome"])
    yield _of_each(commits, tally.commits)
    seconds = SummaryMetricFamily("kakehi_commit_seconds", "From noticing a commit to done.")
    seconds.add_metric([], tally.commits["applied"], tally.seconds_sum)
    yield seconds
    yield GaugeMetricFamily(
        "kakehi_last_commit_seconds", "The same of the last one.", tally.seconds_last
    )


def _in_service(numbers: OwnNumbers) -> Iterator[Metric]:
    yield GaugeMetricFamily("kakehi_workers", "Workers wanted.", numbers.workers)
    yield GaugeMetricFamily(
        "kakehi_workers_in_service",
        "Workers that hold the committed generation.",
        numbers.workers_in_service,
    )
    yield GaugeMetricFamily(
        "kakehi_workers_silent",
        "Workers in service that do not answer the daemon.",
        numbers.workers_silent,
    )
    yield GaugeMetricFamily(
        "kakehi_workers_former",
        "Workers that serve what no worker in service holds, until those hold a commit.",
        numbers.workers_former,
    )
    restarts = CounterMetricFamily(
        "kakehi_worker_restarts", "How often a worker was replaced.", labels=["worker"]
    )
    yield _of_each(restarts, numbers.restarts)
    yield CounterMetricFamily(
        "kakehi_drifts",
        "Workers that did not hold what was committed, and were replaced.",
        value=numbers.drifts,
    )


def _parts(parts: dict[str, tuple[str, int]]) -> Iterator[Metric]:
    running = GaugeMetricFamily(
        "kakehi_part_running",
        "1 while a part of the daemon does its work, 0 while it hangs or waits for its restart.",
        labels=["part"],
    )
    restarts = CounterMetricFamily(
        "kakehi_part_restarts",
        "How often a part of the daemon failed and was started again.",
        labels=["part"],
    )
    for name, (state, count) in parts.items():
        running.add_metric([name], int(state == "running"))
        restarts.add_metric([name], count)
    yield running
    yield restarts


def _expiry(days: dict[tuple[str, str], float]) -> Iterator[Metric]:
    families = {
        kind: GaugeMetricFamily(f"kakehi_{metric}_expiry_days", text, labels=[kind])
        for kind, metric, text in (
            ("certificate", "certificate", "Days until a certificate expires; negative since."),
            ("cluster", "cluster_certificate", "The same of what is shown to backends."),
        )
    }
    for (kind, name), left in days.items():
        families[kind].add_metric([name], left)
    yield from families.values()


def _workers(readings: dict[int, Reading]) -> Iterator[Metric]:
    families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
    for worker, reading in readings.items():
        for name, value in reading.counters.items():
            status = _STATUS_CLASS.match(name)
            if status:
                family = _family(families, "kakehi_responses", ["worker", "class"], gauge=False)
                family.add_metric([str(worker), status[1]], value)
            elif is_gauge(name):
                metric = f"kakehi_worker_{name.removesuffix('_now')}"
                _family(families, metric, ["worker"], gauge=True).add_metric([str(worker)], value)
            else:
                metric = f"kakehi_{name.removesuffix('_total')}"
                _family(families, metric, ["worker"], gauge=False).add_metric([str(worker)], value)
    yield from families.values()


def _histograms(readings: dict[int, Reading]) -> Iterator[Metric]:
    families: dict[str, HistogramMetricFamily] = {}
    for worker, reading in readings.items():
        for name, found in reading.histograms.items():
            metric = f"kakehi_{name}_seconds"
            if metric not in families:
                text = f"{name.replace('_', ' ').capitalize()}."
                families[metric] = HistogramMetricFamily(metric, text, labels=["worker"])
            families[metric].add_metric([str(worker)], _buckets(found), found.sum_us / 1e6)
    yield from families.values()


def _buckets(found: HistogramReading) -> list[tuple[str, float]]:
    """Cumulative, as the format wants them."""
    total = 0
    buckets: list[tuple[str, float]] = []
    bounds = [*(f"{bound / 1e6:g}" for bound in found.bounds_us), "+Inf"]
    for bound, count in zip(bounds, found.buckets, strict=True):
        total += count
        buckets.append((bound, total))
    return buckets


def _entities(readings: dict[int, Reading]) -> Iterator[Metric]:
    families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
    for key, fields in _summed(reading.slots for reading in readings.values()).items():
        names, values = _labels(key)
        for name, value in fields.items():
            if name == tls_faults.FIELD:
                continue
            labels, told, metric = names, values, f"kakehi_{key.kind}_{name}"
            if status := _STATUS_CLASS.match(name):
                labels, told = [*names, "class"], [*values, status[1]]
                metric = f"kakehi_{key.kind}_responses"
            elif status := _STATUS.match(name):
                labels, told = [*names, "status"], [*values, status[1]]
                metric = f"kakehi_{key.kind}_responses_by_status"
            held: float = value
            if name.endswith("_us"):
                metric, held = f"{metric.removesuffix('_us')}_seconds", value / 1e6
            family = _family(families, metric, labels, gauge=name in GAUGES)
            family.add_metric(told, held)
    for key, number in _tls_faults(readings.values()):
        names, values = _labels(key)
        family = _family(families, "kakehi_backend_tls_fault", [*names, "reason"], gauge=True)
        family.add_metric([*values, number], 1)
    yield from families.values()


def _summed(readings: Iterable[dict[SlotKey, dict[str, int]]]) -> dict[SlotKey, dict[str, int]]:
    """The numbers of each entity over all workers."""
    total: dict[SlotKey, dict[str, int]] = {}
    for slots in readings:
        for key, fields in slots.items():
            so_far = total.get(key)
            if so_far is None:
                total[key] = dict(fields)
                continue
            for name, value in fields.items():
                before = so_far.get(name, 0)
                so_far[name] = max(before, value) if name in _STATES else before + value
    return total


def _tls_faults(readings: Iterable[Reading]) -> list[tuple[SlotKey, str]]:
    """The backends that no handshake of a worker succeeds with, with the reasons."""
    found = {
        (key, reason)
        for reading in readings
        for key, fields in reading.slots.items()
        if key.kind == "backend"
        and (reason := tls_faults.word(fields.get(tls_faults.FIELD, 0))) is not None
    }
    return sorted(found)


def _labels(key: SlotKey) -> tuple[list[str], list[str]]:
    if key.kind != "backend":
        return [key.kind], [key.name]
    cluster, _, backend = key.name.partition("/")
    return ["cluster", "backend"], [cluster, backend]


def _family(
    families: dict[str, CounterMetricFamily | GaugeMetricFamily],
    metric: str,
    labels: list[str],
    *,
    gauge: bool,
) -> CounterMetricFamily | GaugeMetricFamily:
    found = families.get(metric)
    if found is None:
        text = f"{metric.removeprefix('kakehi_').replace('_', ' ').capitalize()}."
        kind = GaugeMetricFamily if gauge else CounterMetricFamily
        found = families[metric] = kind(metric, text, labels=labels)
    return found
