import time

import pytest

from reconciler.catalog import references
from reconciler.catalog.references import Written, dangling
from reconciler.catalog.relations import cluster_of, targets
from reconciler.catalog.views import MemoryView
from reconciler.language.suggest import GUESSES_MAX
from schemas.entities.entity import EntityKey
from schemas.messages.frames import LISTENERS_MAX
from tests.reconciler.building import entity, frontend, texts

PUBLIC = entity("listener", "public", address="127.0.0.1:80")
SHOP = entity("cluster", "shop", line=4)
BACKEND = entity("backend", "shop/a", address="127.0.0.1:9001")


def test_what_an_entity_refers_to() -> None:
    assert targets(frontend("web", listeners=["b", "a"])) == (
        EntityKey("cluster", "shop"),
        EntityKey("listener", "a"),
        EntityKey("listener", "b"),
    )
    assert targets(SHOP) == ()
    assert cluster_of(BACKEND.key) == cluster_of(SHOP.key) == "shop"


def test_dangling_names() -> None:
    web = frontend("web", cluster="shopp", listeners=["pubic", "public"])
    entities = MemoryView([web, PUBLIC, SHOP])
    (cluster, listener) = references.dangling([web.key], entities, set(), Written())
    assert texts([cluster, listener]) == [
        'frontend "web": cluster: frontend "web": there is no cluster "shopp"',
        'frontend "web": listeners/pubic: frontend "web": there is no listener "pubic"',
    ]
    assert cluster.hint == 'did you mean "shop" (a.yaml:4)?'
    assert not list(references.dangling([web.key], entities, {*targets(web)}, Written()))


def test_a_mirror_is_referred_to_like_any_cluster() -> None:
    web = frontend("web", mirror={"cluster": "shadow"})
    entities = MemoryView([web, PUBLIC, SHOP])
    (missing,) = references.dangling([web.key], entities, set(), Written())
    assert texts([missing]) == [
        'frontend "web": mirror/cluster: frontend "web": there is no cluster "shadow"'
    ]
    shadow = entity("cluster", "shadow")
    entities = MemoryView([web, PUBLIC, SHOP, shadow])
    assert not list(references.dangling([web.key], entities, set(), Written()))
    # Not even while the frontend is wrong otherwise is it one that nobody names.
    written = Written()
    written.add(web.key, {"cluster": "shop", "listeners": 5, "mirror": {"cluster": "shadow"}})
    assert written.may_name(shadow.key)


def test_a_split_refers_to_all_of_its_clusters() -> None:
    web = entity("frontend", "web", listeners=["public"], split={"shop": 1, "shoop": 0})
    entities = MemoryView([web, PUBLIC, SHOP])
    (missing,) = references.dangling([web.key], entities, set(), Written())
    assert texts([missing]) == [
        'frontend "web": split/shoop/[key]: frontend "web": there is no cluster "shoop"'
    ]
    written = Written()
    written.add(web.key, {"split": {"shop": 1}, "listeners": 5, "policies": ["secure"]})
    assert written.may_name(SHOP.key)
    assert written.may_name(EntityKey("policy", "secure"))
    assert not written.may_name(EntityKey("cluster", "cart")), "it is clear what is meant"


def test_what_is_removed_leaves_its_users_dangling() -> None:
    web = frontend("web")
    entities = MemoryView([web, PUBLIC])
    assert len(list(references.dangling([SHOP.key], entities, set(), Written()))) == 1
    assert not list(references.dangling([PUBLIC.key], entities, set(), Written()))


@pytest.mark.parametrize(
    ("address", "other", "clash"),
    [
        ("127.0.0.1:80", "127.0.0.1:80", True),
        ("127.0.0.1:80", "127.0.0.2:80", False),
        ("127.0.0.1:80", "127.0.0.1:81", False),
        ("0.0.0.0:80", "127.0.0.1:80", True),
        ("[::]:80", "[::1]:80", True),
        ("[::]:80", "0.0.0.0:80", False),
        ("[::]:80", "127.0.0.1:80", False),
        ("[::1]:80", "127.0.0.1:80", False),
    ],
)
def test_addresses(address: str, other: str, clash: bool) -> None:
    one = entity("listener", "one", line=1, address=address)
    two = entity("listener", "two", line=2, address=other)
    entities = MemoryView([one, two])
    for changed in ([one.key], [two.key], [one.key, two.key]):
        found = list(references.clashes(changed, entities))
        assert [finding.key for finding in found] == ([two.key] if clash else [])


@pytest.mark.parametrize("extra", [0, 1, 350])
def test_more_listeners_than_a_worker_can_have(extra: int) -> None:
    """The one that is one too many is the first behind the last that fits, as it is written."""
    count = LISTENERS_MAX + extra
    made = [
        entity("listener", f"l{at}", line=at, address=f"127.0.0.1:{at}")
        for at in range(1, count + 1)
    ]
    entities = MemoryView(made)
    for changed in ([made[0].key], [each.key for each in made]):
        found = list(references.too_many(changed, entities))
        assert [each.key.name for each in found] == ([f"l{LISTENERS_MAX + 1}"] if extra else [])
        assert all(f"{count} listeners are more than the" in each.message for each in found)
    assert not list(references.too_many([SHOP.key], entities))


def test_a_clash_cites_the_other_and_counts_the_admin_address() -> None:
    settings = entity("settings", "settings", line=9, admin="127.0.0.1:80")
    listener = entity("listener", "public", line=2, address="0.0.0.0:80")
    entities = MemoryView([settings, listener])
    (found,) = references.clashes([listener.key], entities)
    assert texts([found]) == [
        (
            'settings: admin: settings: 127.0.0.1:80 is taken by listener "public" (a.yaml:2), '
            "which listens on 0.0.0.0:80"
        )
    ]


def test_clusters_that_no_client_waits_for() -> None:
    aside = "no client notices, since it has no share and is at most mirrored to"
    other = entity("cluster", "other")
    for leads, means in (
        ({"cluster": "other", "mirror": {"cluster": "shop"}}, aside),
        ({"split": {"other": 1, "shop": 0}}, aside),
        ({"split": {"other": 1, "shop": 1}}, "its frontends get 503"),
        ({"cluster": "shop"}, "its frontends get 503"),
    ):
        entities = MemoryView([SHOP, other, entity("frontend", "f", listeners=["web"], **leads)])
        (found,) = references.without_backends([SHOP.key], entities)
        assert found.message == f'cluster "shop" has no backends: {means}'


def test_clusters_that_fall_back_are_served_by_others() -> None:
    spare = entity("cluster", "spare", fallback={"cluster": "shop"})
    shop = entity("cluster", "shop", fallback={"cluster": "spare"})
    other = entity("backend", "spare/a", address="127.0.0.1:9003")
    entities = MemoryView([shop, spare, other])
    (found,) = references.without_backends([shop.key], entities)
    assert found.message == ('cluster "shop" has no backends: cluster "spare" serves its requests')
    assert not list(references.unused([spare.key], [], entities, Written()))
    # Its own fallback is not asked.
    entities = MemoryView([shop, spare])
    (found, _) = references.without_backends([shop.key, spare.key], entities)
    assert found.message.endswith("its frontends get 503")
    closed = entity("cluster", "shop", fallback={"respond": {"close": True}})
    (found,) = references.without_backends([closed.key], MemoryView([closed]))
    assert found.message.endswith("the connections of its requests are closed")


def test_clusters_that_can_serve_nothing() -> None:
    drained = entity("backend", "shop/b", address="127.0.0.1:9002", weight=0)
    entities = MemoryView([SHOP])
    (found,) = references.without_backends([SHOP.key], entities)
    assert found.message == 'cluster "shop" has no backends: its frontends get 503'
    entities = MemoryView([SHOP, drained])
    (found,) = references.without_backends([drained.key], entities)
    assert (
        found.message == 'every backend of cluster "shop" has the weight 0: its frontends get 503'
    )
    entities = MemoryView([SHOP, drained, BACKEND])
    assert not list(references.without_backends([SHOP.key, drained.key], entities))
    assert not list(references.without_backends([BACKEND.key], {}))


def test_what_nothing_uses() -> None:
    entities = MemoryView([PUBLIC, SHOP])
    found = list(references.unused([PUBLIC.key, SHOP.key], [], entities, Written()))
    assert [finding.message for finding in found] == [
        'no frontend names cluster "shop"',
        'no frontend names listener "public": every request gets 404',
    ]
    gone = frontend("web")
    assert len(list(references.unused([gone.key], [gone], entities, Written()))) == 2
    entities = MemoryView([PUBLIC, SHOP, gone])
    assert not list(references.unused([PUBLIC.key, SHOP.key], [gone], entities, Written()))


def test_thousands_of_dangling_names_among_similar_ones_take_no_time() -> None:
    clusters = [entity("cluster", f"service-{number:04}") for number in range(1500)]
    wrong = [
        entity("frontend", f"f{number}", listeners=["web"], cluster=f"service-x{number:03}")
        for number in range(300)
    ]
    view = MemoryView([*clusters, *wrong, entity("listener", "web", address="127.0.0.1:1")])
    began = time.process_time()
    found = list(dangling([each.key for each in wrong], view, set(), Written()))
    assert time.process_time() - began < 3, "a tenth of that on a machine that is not shared"
    assert len(found) == 300
    guessed = [each for each in found if each.hint and each.hint.startswith("did you mean")]
    assert len(guessed) == GUESSES_MAX
    # The same wrong name is told with the same words however often it is written.
    same = [
        entity("frontend", f"g{number}", listeners=["web"], cluster="service-0x01")
        for number in range(100)
    ]
    for each in same:
        view.put(each)
    again = list(dangling([each.key for each in same], view, set(), Written()))
    assert len({each.hint for each in again}) == 1
