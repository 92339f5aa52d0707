from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from reconciler.reporting.monitoring.metrics import KakehiCollector, OwnNumbers, registry, render
from reconciler.reporting.outcomes import Tally
from reconciler.reporting.tls_faults import word
from reconciler.workers.counting.counters import Counters
from reconciler.workers.counting.readings import Reading
from tests.reconciler.memory import Memory


def numbers(tally: Tally) -> OwnNumbers:
    return OwnNumbers(
        generation=12,
        commit="c" * 40,
        workers=2,
        workers_in_service=1,
        workers_silent=1,
        workers_former=2,
        restarts={0: 0, 1: 3},
        following=False,
        drifts=2,
        uptime_s=5.5,
        tally=tally,
        expiry_days={("certificate", "web"): 12.5, ("cluster", "shop"): -1.0},
        order_failures={"web": 3},
        files_silent=4,
        expression_bytes=1777,
        entities_left_out=7,
    )


def samples(readings: dict[int, Reading], tally: Tally | None = None) -> dict[str, float]:
    """Every sample by its full text, read back by the client library's own parser."""
    collector = KakehiCollector(lambda: numbers(tally or Tally()), lambda: readings)
    text = render(registry(collector)).decode()
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{key}={value}" for key, value in sample.labels.items())
            found[f"{sample.name}{{{labels}}}"] = sample.value
    return found


def test_the_reconcilers_own_numbers() -> None:
    tally = Tally(seconds_sum=1.5, seconds_last=0.25)
    tally.commits.update(applied=3, refused=2)
    found = samples({}, tally)
    assert found["kakehi_generation{}"] == 12
    assert found[f"kakehi_commit_info{{commit={'c' * 40}}}"] == 1
    assert found["kakehi_commits_total{outcome=refused}"] == 2
    assert found["kakehi_commit_seconds_sum{}"] == 1.5
    assert found["kakehi_commit_seconds_count{}"] == 3
    assert found["kakehi_workers{}"] == 2
    assert found["kakehi_workers_in_service{}"] == 1
    assert found["kakehi_workers_silent{}"] == 1
    assert found["kakehi_workers_former{}"] == 2
    assert found["kakehi_worker_restarts_total{worker=1}"] == 3
    assert found["kakehi_drifts_total{}"] == 2
    assert found["kakehi_source_following{}"] == 0
    assert found["kakehi_certificate_expiry_days{certificate=web}"] == 12.5
    assert found["kakehi_cluster_certificate_expiry_days{cluster=shop}"] == -1
    assert found["kakehi_certificate_order_failures{certificate=web}"] == 3
    assert found["kakehi_files_silent{}"] == 4
    assert found["kakehi_expression_bytes{}"] == 1777
    assert found["kakehi_metrics_entities_left_out{}"] == 7


def test_the_workers_numbers() -> None:
    memory, counters = Memory(), Counters()
    counters.attach(memory.duplicate())
    memory.count(requests_total=7, connections_now=2)
    memory.measure(3, 2, 1, sum_us=2_000_000)
    memory.slot(0, "frontend", "web", requests=5, responses_2xx=4, duration_us=1_500_000)
    memory.slot(1, "backend", "shop/a", active=3, bytes_in=10, reuses=2)
    # What a frontend has none of counts another thing of it.
    memory.slot(2, "frontend", "api", reuses=6)
    found = samples({0: counters.read(), 1: Reading({}, {}, {})})
    by_status = "kakehi_frontend_responses_by_status_total"
    assert found[f"{by_status}{{frontend=api,status=429}}"] == 6
    assert found[f"{by_status}{{frontend=web,status=429}}"] == 0
    assert not [name for name in found if name.startswith("kakehi_frontend_reuses")]
    assert found["kakehi_backend_reuses_total{backend=a,cluster=shop}"] == 2
    assert found["kakehi_requests_total{worker=0}"] == 7
    assert found["kakehi_worker_connections{worker=0}"] == 2
    assert found["kakehi_request_duration_seconds_bucket{le=1e-05,worker=0}"] == 3
    assert found["kakehi_request_duration_seconds_bucket{le=2e-05,worker=0}"] == 5
    assert found["kakehi_request_duration_seconds_bucket{le=+Inf,worker=0}"] == 6
    assert found["kakehi_request_duration_seconds_sum{worker=0}"] == 2.0
    assert found["kakehi_frontend_requests_total{frontend=web}"] == 5
    assert found["kakehi_frontend_responses_total{class=2xx,frontend=web}"] == 4
    assert found["kakehi_frontend_duration_seconds_total{frontend=web}"] == 1.5
    assert found["kakehi_backend_active{backend=a,cluster=shop}"] == 3
    assert found["kakehi_backend_bytes_in_total{backend=a,cluster=shop}"] == 10


def test_an_entity_has_one_series_whatever_the_number_of_workers() -> None:
    memories, every = [Memory(), Memory(), Memory()], {}
    for number, memory in enumerate(memories):
        counters = Counters()
        counters.attach(memory.duplicate())
        memory.slot(number, "frontend", "web", requests=5, active=1)
        memory.slot(9, "backend", "shop/a", drained=1, tls_fault=(0, 3, 3)[number], connections=2)
        every[number] = counters.read()
    found = samples(every)
    assert found["kakehi_frontend_requests_total{frontend=web}"] == 15
    assert found["kakehi_frontend_active{frontend=web}"] == 3
    assert found["kakehi_backend_connections{backend=a,cluster=shop}"] == 6
    assert found["kakehi_backend_drained{backend=a,cluster=shop}"] == 1, "it is so or it is not"
    faults = [name for name in found if "tls_fault" in name]
    assert faults == [f"kakehi_backend_tls_fault{{backend=a,cluster=shop,reason={word(3)}}}"]
    assert not any("worker=" in name for name in found if "frontend" in name or "backend" in name)


def test_every_name_is_ours() -> None:
    assert all(name.startswith("kakehi_") for name in samples({}))
