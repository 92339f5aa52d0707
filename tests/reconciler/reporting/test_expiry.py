"""When certificates in service expire, as status and metrics tell it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from reconciler.catalog.relations import relations_of
from reconciler.materials.completing import complete
from reconciler.reporting.expiry import Expiring, Expiry
from reconciler.storage.store import Store
from schemas.entities.entity import Entity, EntityKey
from tests.harness import pki
from tests.harness.pki import Pair
from tests.reconciler.building import entity
from tests.reconciler.entities import run as apply

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


def expiring(**left: float) -> Expiring:
    return Expiring(EntityKey("certificate", "shop"), NOW + timedelta(**left))


@pytest.mark.parametrize(
    ("left", "days", "sentence"),
    [
        ({"days": 90}, 90, None),
        ({"days": 14}, 14, None),
        ({"days": 13, "hours": 23}, 13, "expires in 13 days, on 2026-05-15 11:00 UTC"),
        ({"days": 1, "hours": 1}, 1, "expires in 1 day, on 2026-05-02 13:00 UTC"),
        ({"hours": 5}, 0, "expires today, on 2026-05-01 17:00 UTC"),
        ({"hours": -1}, -1, "expired on 2026-05-01 11:00 UTC"),
        ({"days": -3}, -3, "expired on 2026-04-28 12:00 UTC"),
    ],
)
def test_what_is_said_and_when(left: dict[str, float], days: int, sentence: str | None) -> None:
    found = expiring(**left)
    assert found.days_left(NOW) == days
    wanted = None if sentence is None else f'certificate "shop": the certificate {sentence}'
    assert found.warning(NOW) == wanted


def run(store: Store, pair: Pair, kind: str, name: str) -> Entity:
    """Put an entity with this certificate into the running state."""
    files = {"certificate": "a.crt", "private_key": "a.key"}
    made = entity("cluster", name, tls=files) if kind == "cluster" else entity(kind, name, **files)
    done = complete(made, {"a.crt": pair.chain, "a.key": pair.key}.__getitem__)
    assert done.entity is not None
    store.materials.keep([done.entity], done.contents)
    apply(store, [done.entity])
    return done.entity


def test_the_first_to_expire_comes_first(tmp_path: Path) -> None:
    store = Store(tmp_path, relations_of)
    try:
        expiry = Expiry(store)
        assert expiry.all() == []
        late, soon, client = (pki.make("a.test", days=days) for days in (90, 10, 20))
        run(store, late, "certificate", "late")
        run(store, soon, "certificate", "soon")
        run(store, client, "cluster", "shop")
        found = expiry.all()
        assert [str(each.key) for each in found] == [
            'certificate "soon"',
            'cluster "shop"',
            'certificate "late"',
        ]
        assert found[0].not_after == soon.certificate.not_valid_after_utc
        run(store, pki.make("a.test", days=100), "certificate", "soon")
        assert [each.key.name for each in expiry.all()] == ["shop", "late", "soon"]
    finally:
        store.close()


def test_a_content_is_parsed_once(tmp_path: Path) -> None:
    store = Store(tmp_path, relations_of)
    try:
        expiry = Expiry(store)
        run(store, pki.make("a.test"), "certificate", "shop")
        before = expiry.all()
        for path in store.materials.directory.iterdir():
            path.write_bytes(b"")
        assert expiry.all() == before
        assert Expiry(store).all() == [], "what cannot be read has no date"
    finally:
        store.close()
