"""A commit is traffic, and its revert is the traffic of before: the example shop, end to end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import ports
from tests.harness.site import Site

EXAMPLE = Path(__file__).resolve().parents[2] / "config.example"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """config.example as it is, but for the addresses, which belong to this machine."""
    with Site(tmp_path_factory.mktemp("site"), ["shop-1", "shop-2", "shop-3", "shop-4"]) as site:
        addresses = {
            "127.0.0.1:8080": site.address,
            "127.0.0.1:9901": ports.address(),
            **{f"127.0.0.1:900{n}": site.backends.address[f"shop-{n}"] for n in (1, 2, 3)},
        }
        files = {}
        for path in sorted(EXAMPLE.rglob("*.yaml")):
            text = path.read_text()
            for ours, theirs in addresses.items():
                text = text.replace(ours, theirs)
            files[str(path.relative_to(EXAMPLE))] = text
        site.start(files)
        yield site


def test_a_changed_backend_serves_the_very_next_request_and_revert_takes_it_back(
    shop: Site,
) -> None:
    checkout = shop.repo.directory / "services" / "checkout.yaml"
    before = checkout.read_text()
    old, new = shop.backends.address["shop-1"], shop.backends.address["shop-4"]
    assert old in before
    workers = shop.identity()
    first = shop.daemon.generation
    assert len(workers) == 2
    assert shop.everywhere("any.test", "/checkout") == {"shop-1"}

    for turn in range(5):
        changed = shop.repo.commit({"services/checkout.yaml": before.replace(old, new)})
        shop.wait_by_command(changed)
        assert shop.everywhere("any.test", "/checkout") == {"shop-4"}
        assert shop.daemon.status()["commit"] == changed

        reverted = shop.repo.revert()
        shop.wait_by_command(reverted)
        assert shop.everywhere("any.test", "/checkout") == {"shop-1"}
        assert checkout.read_text() == before
        assert shop.running() == (first + 2 * (turn + 1), shop.committed_digest())

    assert shop.identity() == workers
    # What the commits did not touch answers as before.
    assert shop.everywhere("any.test", "/") <= {"shop-1", "shop-2"}


def test_the_digest_of_a_reverted_commit_is_the_one_of_before(shop: Site) -> None:
    checkout = (shop.repo.directory / "services" / "checkout.yaml").read_text()
    _, before = shop.running()
    shop.commit({"services/checkout.yaml": checkout.replace("90s", "80s")})
    _, changed = shop.running()
    shop.wait_by_command(shop.repo.revert())
    assert shop.running()[1] == before != changed


def test_only_what_is_committed_counts(shop: Site) -> None:
    checkout = (shop.repo.directory / "services" / "checkout.yaml").read_text()
    generation = shop.running()
    edited = checkout.replace(shop.backends.address["shop-1"], shop.backends.address["shop-4"])
    shop.repo.write({"services/checkout.yaml": edited})
    shop.repo.git("add", "--all")
    # An empty commit on top of the uncommitted edit: it is looked at, and changes nothing.
    tree = shop.repo.git("rev-parse", "HEAD^{tree}")
    empty = shop.repo.git("commit-tree", tree, "-p", "HEAD", "-m", "nothing")
    shop.repo.git("update-ref", "refs/heads/main", empty)
    shop.wait_by_command(empty)
    assert shop.running() == generation
    assert shop.everywhere("any.test", "/checkout") == {"shop-1"}
    plan = shop.daemon.json("plan", str(shop.repo.directory))
    assert [(each["action"], each["name"]) for each in plan["changes"]] == [
        ("update", "checkout/shop-1")
    ]


def test_waiting_for_a_rollback_does_not_end_at_what_is_rolled_back(shop: Site) -> None:
    """The commit that is reset to is an ancestor of what still runs."""
    checkout = (shop.repo.directory / "services" / "checkout.yaml").read_text()
    old, new = shop.backends.address["shop-1"], shop.backends.address["shop-4"]
    before = shop.repo.head()
    for _ in range(5):
        sha = shop.repo.commit({"services/checkout.yaml": checkout.replace(old, new)})
        shop.wait_by_command(sha)
        shop.repo.git("reset", "--quiet", "--hard", before)
        shop.wait_by_command(before)
        assert shop.everywhere("any.test", "/checkout") == {"shop-1"}
        assert shop.daemon.status()["commit"] == before
