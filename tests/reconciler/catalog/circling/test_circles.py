import pytest

from reconciler.catalog.circling import circles
from reconciler.catalog.views import MemoryView
from schemas.entities.entity import Entity
from tests.reconciler.building import entity, frontend, texts

PUBLIC = entity("listener", "public", address="127.0.0.1:80")
SHOP = entity("cluster", "shop", line=4)


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
    entities = MemoryView([one, other])
    for changed in ([one.key], [other.key], [one.key, other.key]):
        assert len(list(circles.possible(changed, entities))) == is_loop
    entities.remove(one.key)
    assert not list(circles.possible([other.key], entities))


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
    view = MemoryView([web, PUBLIC])
    assert bool(list(circles.redirects([web.key], view))) == ends


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
        view = MemoryView([web, public, policy])
        return len(list(circles.redirects([changed.key], view)))

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
    view = MemoryView([web, PUBLIC, secure])
    expected = [
        f'frontend "web": redirect: frontend "web": on listener "{name}" (a.yaml:1) the redirect '
        "leads back to it"
        for name in [ends]
        if name
    ]
    assert texts(list(circles.redirects([web.key], view))) == expected
    assert texts(list(circles.redirects([PUBLIC.key, secure.key], view))) == expected
    assert list(circles.redirects([SHOP.key], view)) == []
