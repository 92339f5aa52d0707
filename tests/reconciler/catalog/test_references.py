import time
from types import ModuleType

import pytest

from reconciler.catalog import references
from reconciler.catalog.references import GUESSES_MAX, Written, dangling
from reconciler.catalog.relations import cluster_of, targets
from reconciler.catalog.views import MemoryView
from reconciler.language.findings import Finding
from schemas.entities.entity import Entity, EntityKey
from tests.reconciler.building import entity, frontend


def index(*found: Entity) -> tuple[ModuleType, MemoryView]:
    return references, MemoryView(found)


def texts(findings: list[Finding]) -> list[str]:
    return [f"{found.key}: {'/'.join(found.path)}: {found.message}" for found in findings]


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
    references, entities = index(web, PUBLIC, SHOP)
    (cluster, listener) = references.dangling([web.key], entities, set(), Written())
    assert texts([cluster, listener]) == [
        'frontend "web": cluster: frontend "web": there is no cluster "shopp"',
        'frontend "web": listeners/pubic: frontend "web": there is no listener "pubic"',
    ]
    assert cluster.hint == 'did you mean "shop" (a.yaml:4)?'
    assert not list(references.dangling([web.key], entities, {*targets(web)}, Written()))


def test_a_mirror_is_referred_to_like_any_cluster() -> None:
    web = frontend("web", mirror={"cluster": "shadow"})
    references, entities = index(web, PUBLIC, SHOP)
    (missing,) = references.dangling([web.key], entities, set(), Written())
    assert texts([missing]) == [
        'frontend "web": mirror/cluster: frontend "web": there is no cluster "shadow"'
    ]
    shadow = entity("cluster", "shadow")
    references, entities = index(web, PUBLIC, SHOP, shadow)
    assert not list(references.dangling([web.key], entities, set(), Written()))
    # Not even while the frontend is wrong otherwise is it one that nobody names.
    written = Written()
    written.add(web.key, {"cluster": "shop", "listeners": 5, "mirror": {"cluster": "shadow"}})
    assert written.may_name(shadow.key)


def test_a_split_refers_to_all_of_its_clusters() -> None:
    web = entity("frontend", "web", listeners=["public"], split={"shop": 1, "shoop": 0})
    references, entities = index(web, PUBLIC, SHOP)
    (missing,) = references.dangling([web.key], entities, set(), Written())
    assert texts([missing]) == [
        'frontend "web": split/shoop: frontend "web": there is no cluster "shoop"'
    ]
    written = Written()
    written.add(web.key, {"split": {"shop": 1}, "listeners": 5, "policies": ["secure"]})
    assert written.may_name(SHOP.key)
    assert written.may_name(EntityKey("policy", "secure"))
    assert not written.may_name(EntityKey("cluster", "cart")), "it is clear what is meant"


def test_what_is_removed_leaves_its_users_dangling() -> None:
    web = frontend("web")
    references, entities = index(web, PUBLIC)
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
    references, entities = index(one, two)
    for changed in ([one.key], [two.key], [one.key, two.key]):
        found = list(references.clashes(changed, entities))
        assert [finding.key for finding in found] == ([two.key] if clash else [])


def test_a_clash_cites_the_other_and_counts_the_admin_address() -> None:
    settings = entity("settings", "settings", line=9, admin="127.0.0.1:80")
    listener = entity("listener", "public", line=2, address="0.0.0.0:80")
    references, entities = index(settings, listener)
    (found,) = references.clashes([listener.key], entities)
    assert texts([found]) == [
        (
            'settings: admin: settings: 127.0.0.1:80 is taken by listener "public" (a.yaml:2), '
            "which listens on 0.0.0.0:80"
        )
    ]


def test_clusters_that_can_serve_nothing() -> None:
    drained = entity("backend", "shop/b", address="127.0.0.1:9002", weight=0)
    references, entities = index(SHOP)
    (found,) = references.without_backends([SHOP.key], entities)
    assert found.message == 'cluster "shop" has no backends: its frontends get 503'
    references, entities = index(SHOP, drained)
    (found,) = references.without_backends([drained.key], entities)
    assert (
        found.message == 'every backend of cluster "shop" has the weight 0: its frontends get 503'
    )
    references, entities = index(SHOP, drained, BACKEND)
    assert not list(references.without_backends([SHOP.key, drained.key], entities))
    assert not list(references.without_backends([BACKEND.key], {}))


def test_what_nothing_uses() -> None:
    references, entities = index(PUBLIC, SHOP)
    found = list(references.unused([PUBLIC.key, SHOP.key], [], entities, Written()))
    assert [finding.message for finding in found] == [
        'no frontend names cluster "shop"',
        'no frontend names listener "public": every request gets 404',
    ]
    gone = frontend("web")
    assert len(list(references.unused([gone.key], [gone], entities, Written()))) == 2
    references, entities = index(PUBLIC, SHOP, gone)
    assert not list(references.unused([PUBLIC.key, SHOP.key], [gone], entities, Written()))


@pytest.mark.parametrize(
    ("backend", "listener", "is_loop"),
    [
        ("127.0.0.1:80", "127.0.0.1:80", True),
        ("10.0.0.1:80", "10.0.0.1:80", True),
        ("127.0.0.1:80", "0.0.0.0:80", True),
        ("0.0.0.0:80", "127.0.0.1:80", True),
        ("[::1]:80", "[::]:80", True),
        ("127.0.0.1:81", "127.0.0.1:80", False),
        ("127.0.0.2:80", "127.0.0.1:80", False),
        ("10.0.0.1:80", "0.0.0.0:80", False),
        ("127.0.0.1:80", "[::]:80", False),
    ],
)
def test_backends_that_are_listeners(backend: str, listener: str, is_loop: bool) -> None:
    one = entity("backend", "shop/a", address=backend)
    other = entity("listener", "public", address=listener)
    references, entities = index(one, other)
    for changed in ([one.key], [other.key], [one.key, other.key]):
        assert len(list(references.loops(changed, entities))) == is_loop
    entities.remove(one.key)
    assert not list(references.loops([other.key], entities))


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


@pytest.mark.parametrize(
    ("more", "to", "ends"),
    [
        ({"hostnames": ["a.test", "b.test"]}, {"hostname": "b.test"}, True),
        ({"hostnames": ["a.test", "b.test"]}, {"hostname": "c.test"}, False),
        ({"hostnames": ["a.test"]}, {"scheme": "http"}, True),
        ({"cookies": {"seen": {"present": False}}}, {"scheme": "http"}, True),
        # The answer makes another request of the next one.
        (
            {
                "cookies": {"seen": {"present": False}},
                "response_headers": {"set": {"Set-Cookie": "seen=1"}},
            },
            {"scheme": "http"},
            False,
        ),
    ],
)
def test_a_redirect_of_several_hostnames_or_by_a_cookie(
    more: dict[str, object], to: dict[str, object], ends: bool
) -> None:
    web = entity("frontend", "web", listeners=["public"], redirect=to, **more)
    _, view = index(web, PUBLIC)
    assert bool(list(references.endless([web.key], view))) == ends


@pytest.mark.parametrize("at", ["frontend", "listener"])
def test_a_cookie_that_a_policy_brings_ends_a_redirect(at: str) -> None:
    def found(said: object, changed: Entity) -> int:
        policy = entity("policy", "seen", response_headers={"set": {"Set-Cookie": said}})
        listed = {"policies": ["seen"]}
        public = PUBLIC
        if at == "listener":
            public = entity("listener", "public", address="127.0.0.1:80", **listed)
        web = entity(
            "frontend",
            "web",
            listeners=["public"],
            cookies={"seen": {"present": False}},
            redirect={"scheme": "http"},
            **(listed if at == "frontend" else {}),
        )
        _, view = index(web, public, policy)
        return len(list(references.endless([changed.key], view)))

    policy, web = entity("policy", "seen"), frontend("web")
    assert [found("seen=1", each) for each in (policy, web, PUBLIC)] == [0, 0, 0]
    assert [found(None, each) for each in (policy, web, PUBLIC)] == [1, 1, 1]


def redirected(**to: object) -> Entity:
    return entity("frontend", "web", listeners=["public", "secure"], hostname="a.test", redirect=to)


@pytest.mark.parametrize(
    ("to", "ends"),
    [
        ({"scheme": "https"}, "secure"),
        ({"scheme": "http", "hostname": "a.test"}, "public"),
        ({"port": 443}, "secure"),
        ({"hostname": "{hostname}"}, "public"),
        ({"hostname": "b.test"}, None),
        ({"scheme": "https", "port": 8443}, None),
        ({"port": 8080}, None),
        ({"scheme": "https", "path": {"full": "/b"}}, None),
    ],
)
def test_a_redirect_that_leads_back_to_itself(to: dict[str, object], ends: str | None) -> None:
    secure = entity("listener", "secure", address="127.0.0.1:443", protocol="https")
    web = redirected(**to)
    _, view = index(web, PUBLIC, secure)
    expected = [
        f'frontend "web": redirect: frontend "web": on listener "{name}" (a.yaml:1) the redirect '
        "leads back to it"
        for name in [ends]
        if name
    ]
    assert texts(list(references.endless([web.key], view))) == expected
    assert texts(list(references.endless([PUBLIC.key, secure.key], view))) == expected
    assert list(references.endless([SHOP.key], view)) == []
