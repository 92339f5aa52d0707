"""Backends that are for when no other one of their cluster can be asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.harness import ports, wire
from tests.harness.fixtures import Nowhere
from tests.harness.gateway import Gateway
from tests.harness.processes import wait_until
from tests.harness.rawbackend import RawBackend, answer

Backends = Callable[..., RawBackend]


def backup(address: str, **more: Any) -> dict[str, Any]:
    return {"address": address, "backup": True, **more}


def test_a_backup_gets_nothing_while_another_one_is_there(
    gateway: Gateway, backends: Backends
) -> None:
    usual, spare = backends(), backends()
    members = {"a": backup(spare.address), "b": usual.address}
    host = gateway.cluster("backup-idle", members)
    client = gateway.connect()
    assert [client.get(host).status for _ in range(10)] == [200] * 10
    assert (len(usual.requests), len(spare.requests)) == (10, 0)


@pytest.mark.parametrize("policy", ["round_robin", "random", "least_connections", "power_of_two"])
def test_backups_share_what_the_usual_one_cannot_take(
    gateway: Gateway, backends: Backends, nowhere: Nowhere, policy: str
) -> None:
    spares = [backends(), backends()]
    members = {
        "a": nowhere.refusing(),
        "b": backup(spares[0].address),
        "c": backup(spares[1].address),
    }
    host = gateway.cluster(f"backup-{policy[:5]}", members, load_balancing=policy)
    client = gateway.connect()
    assert [client.get(host).status for _ in range(30)] == [200] * 30
    counts = [len(spare.requests) for spare in spares]
    assert sum(counts) == 30
    assert min(counts) > 3


def test_the_usual_one_has_its_requests_back_when_it_is_there_again(
    gateway: Gateway, backends: Backends
) -> None:
    spare, address = backends(), ports.address()
    host = gateway.cluster("backup-back", {"a": address, "b": backup(spare.address)})
    client = gateway.connect()
    assert client.get(host).status == 200
    assert len(spare.requests) == 1
    usual = RawBackend(address=address)
    with usual:
        usual.script = answer(wire.response(b"usual"))
        wait_until(lambda: client.get(host).body == b"usual", "it has its requests back")
        before = len(spare.requests)
        assert [client.get(host).body for _ in range(10)] == [b"usual"] * 10
        assert len(spare.requests) == before


def test_a_backup_serves_while_the_usual_one_is_drained(
    gateway: Gateway, backends: Backends
) -> None:
    usual, spare = backends(), backends()
    host = gateway.cluster("backup-drain", {"a": usual.address, "b": backup(spare.address)})
    client = gateway.connect()
    assert client.get(host).status == 200
    gateway.daemon.run_cli("drain", "backup-drain/a", check=True)
    assert client.get(host).status == 200
    assert (len(usual.requests), len(spare.requests)) == (1, 1)
    told = gateway.daemon.run_cli("explain", f"http://{host}/", check=True).stdout
    assert "backup-drain/b serves it" in told
    assert "weight 100, backup" in told
    gateway.daemon.run_cli("undrain", "backup-drain/a", check=True)
    assert client.get(host).status == 200
    assert len(usual.requests) == 2


def test_a_connection_that_was_lost_needs_no_backup(gateway: Gateway, backends: Backends) -> None:
    """The backend has closed it between two requests, and is there."""
    usual, spare = backends(), backends()
    host = gateway.cluster("backup-stale", {"a": usual.address, "b": backup(spare.address)})
    client = gateway.connect()
    for _ in range(8):
        assert client.get(host).status == 200
        for connection in usual.connections:
            connection.close()
    assert len(usual.requests) == 8
    assert spare.requests == []


def test_a_commit_makes_a_backup_of_a_backend_and_back(
    gateway: Gateway, backends: Backends
) -> None:
    one, other = backends(), backends()
    client = gateway.connect()
    host = "backup-commit.test"

    def commit(**first: Any) -> None:
        members = {"a": {"address": one.address, **first}, "b": {"address": other.address}}
        frontend = {"listeners": ["main"], "hostname": host, "cluster": "backup-commit"}
        document = {
            "clusters": {"backup-commit": {"backends": members}},
            "frontends": {"backup-commit": frontend},
        }
        gateway.daemon.commit({"backup-commit.yaml": document})

    commit()
    assert [client.get(host).status for _ in range(4)] == [200] * 4
    assert (len(one.requests), len(other.requests)) == (2, 2)
    commit(backup=True)
    assert [client.get(host).status for _ in range(4)] == [200] * 4
    assert (len(one.requests), len(other.requests)) == (2, 6)
    commit(backup=False)
    assert [client.get(host).status for _ in range(4)] == [200] * 4
    assert (len(one.requests), len(other.requests)) == (4, 8)
