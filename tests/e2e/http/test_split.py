"""Requests that are split over clusters: the shares, and who stays where, over both versions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import ports, rawclient, wire
from tests.harness.daemon import Kakehi
from tests.harness.h2client import H2Client
from tests.harness.rawbackend import RawBackend, answer
from tests.harness.repo import Repo

NAMES = ("new", "none", "old")


class Site:
    """Two workers, and clusters that answer with their names."""

    def __init__(self, directory: Path) -> None:
        self.address = ports.address()
        self.backends = {name: RawBackend(answer(wire.response(name.encode()))) for name in NAMES}
        self.daemon = Kakehi(Repo(directory), workers=2)
        self.daemon.repo.commit({"kakehi.yaml": self.document()})
        self.daemon.start()

    def document(self, new: int = 20) -> dict[str, Any]:
        shares: dict[str, Any] = {"split": {"old": 100 - new, "new": new, "none": 0}}
        by = {"cookie": {"cookie": "lane"}, "header": {"header": "X-User"}}
        return {
            "settings": {"workers": 2, "access_log": str(self.daemon.access_log)},
            "listeners": {
                "web": {"address": self.address, "h2c": True, "trusted_proxies": ["127.0.0.0/8"]}
            },
            "clusters": {
                name: {"backends": {"raw": {"address": backend.address}}}
                for name, backend in self.backends.items()
            },
            "frontends": {
                "drawn": {"hostname": "drawn.test", "listeners": ["web"], **shares},
                "client": {
                    "hostname": "client.test",
                    "listeners": ["web"],
                    "split_by": "client_address",
                    **shares,
                },
                **{
                    name: {
                        "hostname": f"{name}.test",
                        "listeners": ["web"],
                        "split_by": key,
                        **shares,
                    }
                    for name, key in by.items()
                },
            },
        }

    def stop(self) -> None:
        self.daemon.stop()
        for backend in self.backends.values():
            backend.stop()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("split"))
    yield made
    made.stop()


def asked(site: Site, host: str, fields: list[tuple[str, str]], version: int = 1) -> str:
    """Ask on a connection of its own, so that any worker may be asked."""
    if version == 2:
        with H2Client(site.address) as client:
            stream = client.get(host, *fields)
            client.read_until(lambda: stream in client.ended)
            return client.bodies[stream].decode()
    with rawclient.Connection(site.address) as client:
        lines = [f"{name}: {value}" for name, value in fields]
        return client.get(host, "/", *lines).body.decode()


FIELDS = {
    "cookie": lambda number: [("cookie", f"a=1; lane=u{number}")],
    "header": lambda number: [("x-user", f"u{number}")],
    "client": lambda number: [("x-forwarded-for", f"198.51.{number // 250}.{number % 250}")],
}


@pytest.mark.parametrize("by", sorted(FIELDS))
def test_a_client_stays_where_it_is(site: Site, by: str) -> None:
    first = {number: asked(site, f"{by}.test", FIELDS[by](number)) for number in range(150)}
    counts = Counter(first.values())
    assert set(counts) == {"old", "new"}
    assert 10 <= counts["new"] <= 55
    for number in range(0, 150, 5):
        for version in (1, 2):
            again = asked(site, f"{by}.test", FIELDS[by](number), version)
            assert again == first[number]


def test_without_anything_to_go_by_each_request_is_drawn(site: Site) -> None:
    for host in ("drawn.test", "cookie.test"):
        with rawclient.Connection(site.address) as client:
            counts = Counter(client.get(host).body.decode() for _ in range(300))
        assert set(counts) == {"old", "new"}
        assert 30 <= counts["new"] <= 95


def test_larger_shares_take_from_others_alone(site: Site) -> None:
    before = {number: asked(site, "header.test", FIELDS["header"](number)) for number in range(100)}
    site.daemon.commit({"kakehi.yaml": site.document(new=60)})
    try:
        for number, name in before.items():
            now = asked(site, "header.test", FIELDS["header"](number))
            assert name == "old" or now == "new"
    finally:
        site.daemon.commit({"kakehi.yaml": site.document()})


def test_plan_and_explain_tell_of_shares(site: Site) -> None:
    url = f"http://cookie.test:{ports.split(site.address)[1]}/"
    found = site.daemon.json("explain", url)
    split = found["stages"][0]
    words = "80 % to old, 20 % to new, 0 % to none; by cookie lane"
    assert (split["key"], split["words"], split["by"]) == ("split", words, None)
    assert found["message"].endswith("one of 2 clusters serves it: old, new")
    for number in range(20):
        (field,) = FIELDS["cookie"](number)
        found = site.daemon.json("explain", url, "-H", f"{field[0]}: {field[1]}")
        assert found["cluster"]["name"] == asked(site, "cookie.test", [field])


def test_a_cluster_of_a_split_is_needed(site: Site) -> None:
    document = site.document()
    del document["clusters"]["none"]
    site.daemon.repo.commit({"kakehi.yaml": document})
    refused = site.daemon.run_cli("validate", str(site.daemon.repo.directory))
    assert refused.returncode != 0
    assert 'cluster "none"' in refused.stdout + refused.stderr
    site.daemon.commit({"kakehi.yaml": site.document()})
