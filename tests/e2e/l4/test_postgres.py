"""A real PostgreSQL behind a listener with `protocol: tcp`: commits while it is under load."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator

import pytest

from tests.e2e.l4.test_tcp import TcpSite
from tests.harness import postgres
from tests.harness.postgres import Postgres

pytestmark = pytest.mark.skipif(postgres.programs() is None, reason="PostgreSQL is not installed")
_DONE = re.compile(r"number of transactions actually processed: (\d+)\n")
_FAILED = re.compile(r"number of failed transactions: (\d+) ")


@pytest.fixture
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TcpSite]:
    made = TcpSite(tmp_path_factory.mktemp("postgres"))
    yield made
    if made.daemon.process is not None:
        made.daemon.stop()


def asked(address: str, question: str) -> str:
    """What psql answers."""
    done = subprocess.run(
        ["psql", "--no-psqlrc", "--tuples-only", "--no-align", "--command", question],
        env=postgres.environment(address),
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_transactions_go_on_over_commits(site: TcpSite) -> None:
    with Postgres() as server:
        site.begin({"primary": server.address}, cluster={"timeouts": {"tunnel": "1h"}})
        assert asked(site.address, "select 6 * 7") == "42"
        environment = postgres.environment(site.address)
        first = ["pgbench", "--initialize", "--scale=1", "--quiet"]
        subprocess.run(first, env=environment, capture_output=True, check=True, timeout=60)
        load = subprocess.Popen(
            ["pgbench", "--client=4", "--time=4", "--no-vacuum"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        # Of its own, of others, and away from and back to the same backend, under another name.
        document = site.document({"primary": server.address})
        count = 0
        while load.poll() is None:
            count += 1
            name = f"primary-{count % 2}"
            document["clusters"]["lines"]["backends"] = {name: {"address": server.address}}
            document["clusters"][f"other-{count % 3}"] = {"backends": {}}
            site.commit(document)
        out, err = load.communicate()
        assert load.returncode == 0, err
        done, failed = _DONE.search(out), _FAILED.search(out)
        assert done is not None and int(done[1]) > 20, out
        assert failed is None or int(failed[1]) == 0, out
        assert count > 3
        assert asked(site.address, "select count(*) from pgbench_accounts") == "100000"
