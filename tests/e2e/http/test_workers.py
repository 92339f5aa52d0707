"""What is per worker, with two of them: pools, balancing, and what clients must not notice."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.harness.gateway import Gateway, Lane

WORKERS = 2


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    gateway = Gateway(tmp_path_factory.mktemp("pair"), workers=WORKERS)
    gateway.start()
    yield gateway
    gateway.stop()


@pytest.fixture
def pair_lane(pair: Gateway) -> Iterator[Lane]:
    taken = pair.lanes.popleft()
    yield taken
    pair.lanes.append(taken)
    pair.end_test([taken])


def test_each_worker_has_one_pool_for_all_clients(pair_lane: Lane) -> None:
    for number in range(60):
        assert pair_lane.get(f"/{number}").body == b"ok"
    assert len(pair_lane.backend.requests) == 60
    # The kernel spreads the connections: 60 of them on one worker would be a chance of 2**-59.
    assert len(pair_lane.backend.connections) == WORKERS


def test_every_worker_serves_every_listener(pair: Gateway, pair_lane: Lane) -> None:
    for listener in ("main", "trusting", "narrow", "hurried"):
        for _ in range(12):
            with pair_lane.connect(listener) as client:
                assert client.get(pair_lane.host).status == 200
    assert len(pair_lane.backend.connections) == WORKERS


def test_request_ids_of_two_workers_never_meet(pair_lane: Lane) -> None:
    for _ in range(40):
        pair_lane.get()
    ids = {request.get("x-request-id") for request in pair_lane.backend.requests}
    assert len(ids) == 40


def test_a_commit_reaches_every_worker_before_wait_returns(pair: Gateway, pair_lane: Lane) -> None:
    for number in range(5):
        host = pair.cluster(f"everywhere-{number}", {"raw": pair_lane.backend.address})
        for _ in range(12):
            assert pair.connect().get(host).status == 200
