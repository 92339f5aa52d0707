"""Who takes requests over, in the engine's own order; what has no backend left; what is renamed."""

from typing import Any

import pytest

from reconciler.catalog.catalog import load_directory
from reconciler.catalog.views import MemoryView
from reconciler.planning.consequences import consequences
from reconciler.planning.differ import diff_entities
from reconciler.reporting.explaining.ranking import EngineRouter
from schemas.changes.plan import Consequence
from schemas.changes.state import State
from schemas.entities.entity import EntityKey

BASE = """\
listeners:
  web: {address: "127.0.0.1:8080"}
  other: {address: "127.0.0.1:8081"}
  safe: {address: "127.0.0.1:8443", protocol: https}
clusters:
  shop:
    backends:
      shop-1: {address: "127.0.0.1:9001"}
      shop-2: {address: "127.0.0.1:9002"}
  cart: {backends: {cart-1: {address: "127.0.0.1:9003"}}}
frontends:
"""


def state_of(frontends: str, base: str = BASE) -> State:
    found, diagnostics = load_directory([("a.yaml", (base + frontends).encode())])
    assert found is not None, diagnostics
    return found


def meant(before: State, after: State, drained: tuple[str, ...] = ()) -> dict[str, Consequence]:
    changes = diff_entities({key: after.get(key) for key in {*before, *after}}, before)
    views = [MemoryView(state[key] for key in state) for state in (before, after)]
    found = consequences(changes, views[0], views[1], EngineRouter(), drained)
    return {f"{key.kind}/{key.name}": each for key, each in found.items()}


ALL = "  all: {listeners: [web], cluster: shop}\n"
WILD_T = """\
  wide: {listeners: [web], cluster: shop, hostname: '*.test', path: {prefix: /t}}
"""
API = "  api: {listeners: [web], cluster: cart, path: {prefix: /api}}\n"


@pytest.mark.parametrize(
    ("others", "gone", "heirs"),
    [
        (ALL, API, ("all",)),
        (API, ALL, (None,)),
        (
            ALL + "  regex: {listeners: [web], cluster: shop, path: {regex: '/a.*'}}\n",
            "  x: {listeners: [web], cluster: cart, path: {exact: /b}}\n",
            ("all",),
        ),
        (
            ALL + "  wild: {listeners: [web], cluster: shop, hostname: '*.example.com'}\n",
            "  x: {listeners: [web], cluster: cart, hostname: a.example.com}\n",
            ("wild",),
        ),
        (
            ALL
            + "  get: {listeners: [web], cluster: shop, methods: [GET], path: {prefix: /api}}\n",
            "  x: {listeners: [web], cluster: cart, path: {prefix: /api}, methods: [POST]}\n",
            ("all",),
        ),
        (ALL, "  x: {listeners: [web, other], cluster: cart, path: {prefix: /x}}\n", ("all", None)),
        (
            ALL + "  js: {listeners: [web], cluster: shop, path: {suffix: .js}}\n",
            "  x: {listeners: [web], cluster: cart, path: {suffix: .min.js}}\n",
            ("js",),
        ),
        (
            ALL + "  beta: {listeners: [web], cluster: shop, cookies: {beta: '1'}}\n",
            "  x: {listeners: [web], cluster: cart, cookies: {beta: '1', a: {present: false}}}\n",
            ("beta",),
        ),
        (
            ALL + "  us: {listeners: [web], cluster: shop, client_addresses: [10.0.0.0/8]}\n",
            (
                "  x: {listeners: [web], cluster: cart, client_addresses: [10.1.0.0/16, '::1'],"
                " methods: [GET]}\n"
            ),
            ("all", "us"),
        ),
        (
            ALL + "  b: {listeners: [web], cluster: shop, hostname: b.test}\n",
            "  x: {listeners: [web], cluster: cart, hostnames: [a.test, b.test], methods: [GET]}\n",
            ("all", "b"),
        ),
        (
            ALL + "  gold: {listeners: [web], cluster: shop, headers: {x-tier: gold}}\n",
            "  x: {listeners: [web], cluster: cart, path: {prefix: /x}}\n",
            ("all", "gold"),
        ),
        (
            (
                "  post: {listeners: [web], cluster: shop, methods: [POST]}\n"
                "  get: {listeners: [web], cluster: shop, methods: [GET]}\n"
            ),
            "  x: {listeners: [web], cluster: cart, path: {prefix: /x}}\n",
            ("get", "post", None),
        ),
        (
            WILD_T + ALL,
            "  x: {listeners: [web], cluster: cart, hostname: '*.b.test'}\n",
            ("all", "wide"),
        ),
        (
            "  other: {listeners: [web], cluster: shop, hostname: x.test}\n",
            "  x: {listeners: [web], cluster: cart, path: {regex: '/item/[0-9]+'}}\n",
            (None,),
        ),
        (ALL, "  x: {listeners: [web], cluster: cart, path: {regex: '/item/[0-9]+'}}\n", ("all",)),
        (
            ALL,
            "  x: {listeners: [web], cluster: cart, headers: {x-a: {regex: '[0-9]+'}}}\n",
            ("all",),
        ),
        (ALL, "  x: {listeners: [web], cluster: cart, query: {v: {regex: '[0-9]+'}}}\n", ("all",)),
        (ALL, "  x: {listeners: [web], cluster: cart, cookies: {v: {regex: '.+'}}}\n", ("all",)),
        (
            ALL + "  php: {listeners: [web], cluster: shop, path: {suffix: .php}}\n",
            "  x: {listeners: [web], cluster: cart, path: {prefix: /x}}\n",
            ("all", "php"),
        ),
        (
            "  de: {listeners: [safe], cluster: shop, hostname: '*.de'}\n",
            "  x: {listeners: [safe], cluster: cart, hostname: x.de, passthrough: true}\n",
            ("de",),
        ),
    ],
)
def test_who_inherits(others: str, gone: str, heirs: tuple[str | None, ...]) -> None:
    name = gone.strip().partition(":")[0]
    with_it, without = state_of(others + gone), state_of(others)
    assert meant(with_it, without)[f"frontend/{name}"].heirs == heirs
    assert meant(without, with_it)[f"frontend/{name}"].takes_from == heirs


def test_a_match_that_moves_leaves_one_and_takes_from_another() -> None:
    moved = API.replace("/api", "/shop")
    found = meant(state_of(ALL + API), state_of(ALL + moved))["frontend/api"]
    assert (found.heirs, found.takes_from) == (("all",), ("all",))
    other_cluster = API.replace("cart", "shop")
    assert "frontend/api" not in meant(state_of(ALL + API), state_of(ALL + other_cluster))


NARROW = "  x: {listeners: [web], cluster: cart, path: {exact: /api/v1}}\n"
WIDE = "  x: {listeners: [web], cluster: cart, path: {prefix: /api/v1}}\n"
LISTED = WIDE.replace("cart,", "cart, methods: [GET, POST],")


@pytest.mark.parametrize(
    ("others", "wide", "narrow", "between"),
    [
        (API, WIDE, NARROW, ("api",)),
        ("", WIDE, NARROW, (None,)),
        (API, WIDE, WIDE.replace("cart,", "cart, methods: [GET],"), ("api",)),
        (API, WIDE, LISTED, ("api",)),
        (API, LISTED, WIDE.replace("cart,", "cart, methods: [GET],"), ("api",)),
        (API, LISTED, WIDE.replace("cart,", "cart, methods: [POST],"), ("api",)),
        (API, WIDE.replace("[web]", "[web, other]"), WIDE, (None,)),
        (ALL, WIDE, WIDE.replace("cart,", "cart, hostname: '*.test',"), ("all",)),
        (ALL, WIDE, WIDE.replace("cart,", "cart, headers: {x-a: b},"), ("all",)),
        (API, WIDE, WIDE.replace("prefix: /api/v1", "regex: '/api/v1(/[0-9]+)?'"), ("api",)),
        (
            API,
            WIDE.replace("prefix: /api/v1", "regex: '/api/[0-9]+'"),
            WIDE.replace("prefix: /api/v1", "regex: '/api/[0-5]+'"),
            ("api",),
        ),
        (ALL, WIDE, WIDE.replace("cart,", "cart, cookies: {c: {present: false}},"), ("all",)),
        (
            ALL,
            WIDE,
            WIDE.replace("cart,", "cart, cookies: {c: {exact: '1', not: true}},"),
            ("all",),
        ),
        (
            ALL,
            WIDE.replace("cart,", "cart, client_addresses: [10.1.0.0/24, 10.2.0.0/24],"),
            WIDE.replace("cart,", "cart, client_addresses: [10.1.0.0/24],"),
            ("all",),
        ),
    ],
)
def test_what_a_narrower_match_gives_away_a_wider_one_takes(
    others: str, wide: str, narrow: str, between: tuple[str | None, ...]
) -> None:
    """The frontend itself keeps some of its requests, of which nothing is said."""
    before, after = state_of(others + wide), state_of(others + narrow)
    given = meant(before, after)["frontend/x"]
    assert (given.heirs, given.takes_from) == (between, None)
    taken = meant(after, before)["frontend/x"]
    assert (taken.heirs, taken.takes_from) == (None, between)


def test_who_takes_a_hostname_that_leaves_a_list() -> None:
    """However many others stay: those that leave are asked for first."""
    several = "  x: {listeners: [web], cluster: cart, hostnames: [%s]}\n"
    names = [f"h{number:02}.test" for number in range(40)]
    before = state_of(ALL + several % ", ".join(names))
    after = state_of(ALL + several % ", ".join(names[:-1]))
    assert meant(before, after)["frontend/x"].heirs == ("all",)
    taken = meant(after, before)["frontend/x"]
    assert (taken.heirs, taken.takes_from) == (None, ("all",))


def test_who_takes_what_lies_below_a_path() -> None:
    v1 = "  v1: {listeners: [web], cluster: shop, path: {exact: /api/v1}}\n"
    found = meant(state_of(API + v1 + WIDE), state_of(API + v1))["frontend/x"]
    # `v1` had its path before.
    assert found.heirs == ("api",)


def test_a_drain_does_not_go_along_with_a_rename() -> None:
    before, after = state_of(ALL), state_of(ALL, BASE.replace("shop-2:", "shop-3:"))
    found = meant(before, after, ("shop/shop-2",))
    assert found["backend/shop/shop-3"].ends_drain
    assert not found["backend/shop/shop-2"].ends_drain
    assert not meant(before, after)["backend/shop/shop-3"].ends_drain
    assert not found["backend/shop/shop-3"].drained
    assert meant(before, after, ["shop/shop-3"])["backend/shop/shop-3"].drained
    both = ("shop/shop-2", "shop/shop-3")
    assert not meant(before, after, both)["backend/shop/shop-3"].ends_drain


def test_a_cluster_names_its_frontends() -> None:
    before = state_of(ALL + API)
    after = state_of(ALL + API, BASE.replace("  shop:\n", "  shop:\n    retries: 5\n"))
    assert meant(before, after)["cluster/shop"].frontends == ("all",)


def test_all_frontends_of_a_cluster_are_counted() -> None:
    names = [f"n{number:03}" for number in range(250)]
    lines = "".join(
        f"  {name}: {{listeners: [web], hostname: {name}.test, cluster: shop}}\n" for name in names
    )
    before = state_of(lines)
    after = state_of(lines, BASE.replace("  shop:\n", "  shop:\n    retries: 5\n"))
    found = meant(before, after)["cluster/shop"]
    assert (list(found.frontends), found.more_frontends) == (names[:100], 150)


@pytest.mark.parametrize(
    ("old", "new", "drained", "leaves"),
    [
        ('      shop-2: {address: "127.0.0.1:9002"}\n', "", (), False),
        ('      shop-2: {address: "127.0.0.1:9002"}\n', "", ("shop/shop-1",), True),
        ('9001"}', '9001", weight: 0}', ("shop/shop-2",), True),
        ('9001"}', '9001", weight: 1}', ("shop/shop-2",), False),
    ],
)
def test_a_cluster_without_a_backend_is_marked(
    old: str, new: str, drained: tuple[str, ...], leaves: bool
) -> None:
    assert old in BASE
    found = meant(state_of(ALL), state_of(ALL, BASE.replace(old, new)), drained)
    backends = [each for name, each in found.items() if name.startswith("backend/")]
    assert any(each.leaves_no_backend for each in backends) == leaves


@pytest.mark.parametrize(
    ("leads", "leaves"),
    [
        ("cluster: shop, mirror: {cluster: cart}", False),
        ("split: {shop: 1, cart: 0}", False),
        ("split: {shop: 99, cart: 1}", True),
    ],
)
def test_nobody_notices_what_is_mirrored_to(leads: str, leaves: bool) -> None:
    frontends = f"  all: {{listeners: [web], {leads}}}\n"
    before, after = (
        state_of(frontends, BASE.replace('9003"', f'9003", weight: {weight}')) for weight in (1, 0)
    )
    found = meant(before, after).get("backend/cart/cart-1", Consequence())
    assert found.leaves_no_backend == leaves


GREEN = (
    BASE.replace("frontends:\n", "")
    + """\
  green: {backends: {green-1: {address: "127.0.0.1:9004"}}}
policies:
  asked: {forward_auth: {cluster: green}}
frontends:
"""
)
BLUE = "  all: {listeners: [web], cluster: shop}\n"
OWN = "  own: {listeners: [web], hostname: a.test, cluster: green}\n"
WIDE_OWN = OWN.replace("a.test", "'*.test'")
WIDE_GREEN = WIDE_OWN.replace("own", "wide")
T_TEST = "  t: {listeners: [web], hostname: t.test, cluster: shop}\n"


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (BLUE, BLUE.replace("shop", "green"), "frontend/all"),
        (BLUE, BLUE.replace("cluster: shop", "split: {shop: 9, green: 1}"), "frontend/all"),
        (
            BLUE.replace("cluster: shop", "split: {shop: 9, green: 0}"),
            BLUE.replace("cluster: shop", "split: {shop: 9, green: 1}"),
            "frontend/all",
        ),
        (BLUE, BLUE.replace("shop", "shop, forward_auth: {cluster: green}"), "frontend/all"),
        (BLUE, BLUE.replace("shop", "shop, policies: [asked]"), "frontend/all"),
        (BLUE, BLUE + OWN, "frontend/own"),
        # Others lead there as before; it takes requests of one that does not.
        (BLUE + T_TEST + OWN, BLUE + T_TEST + WIDE_OWN, "frontend/own"),
        (T_TEST + WIDE_OWN, WIDE_OWN, "frontend/t"),
        # Nobody waits for an answer of it, has had any, or gets another one.
        (BLUE, BLUE.replace("shop", "shop, mirror: {cluster: green}"), None),
        (BLUE, BLUE.replace("cluster: shop", "split: {shop: 9, green: 0}"), None),
        (OWN, OWN.replace("green", "green, timeouts: {request: 3s}"), None),
        (T_TEST + OWN, OWN, None),
        (WIDE_GREEN + OWN, WIDE_GREEN, None),
        (WIDE_GREEN, WIDE_GREEN + OWN, None),
    ],
)
def test_whoever_leads_to_a_cluster_without_a_backend_is_marked(
    old: str, new: str, told: str | None
) -> None:
    before, after = state_of(old, GREEN), state_of(new, GREEN)
    drained = meant(before, after, ("green/green-1",))
    marked = [name for name, each in drained.items() if each.leads_to_no_backend]
    assert marked == ([told] if told else [])
    assert all(drained[name].leads_to_no_backend == ("green",) for name in marked)
    assert not any(each.leads_to_no_backend for each in meant(before, after).values())


def test_a_policy_or_a_listener_that_asks_a_cluster_without_a_backend_is_marked() -> None:
    told = GREEN.replace("green}}", "cart}}")
    named, drained = BLUE.replace("shop", "shop, policies: [asked]"), ("green/green-1",)
    before, after = state_of(named, told), state_of(named, GREEN)
    assert meant(before, after, drained)["policy/asked"].leads_to_no_backend == ("green",)
    listening = GREEN.replace('8080"}', '8080", policies: [asked]}')
    found = meant(state_of(BLUE, GREEN), state_of(BLUE, listening), drained)
    assert found["listener/web"].leads_to_no_backend == ("green",)


def test_what_has_another_name_is_renamed() -> None:
    renamed = BASE.replace("  cart:", "  basket:").replace("shop-2:", "shop-b:")
    found = meant(state_of(ALL), state_of(ALL.replace("all:", "every:"), renamed))
    pairs = {name: each.renamed for name, each in found.items() if each.renamed}
    expected: dict[str, Any] = {
        "backend/cart/cart-1": EntityKey("backend", "basket/cart-1"),
        "backend/basket/cart-1": EntityKey("backend", "cart/cart-1"),
        "backend/shop/shop-2": EntityKey("backend", "shop/shop-b"),
        "backend/shop/shop-b": EntityKey("backend", "shop/shop-2"),
        "cluster/cart": EntityKey("cluster", "basket"),
        "cluster/basket": EntityKey("cluster", "cart"),
        "frontend/all": EntityKey("frontend", "every"),
        "frontend/every": EntityKey("frontend", "all"),
    }
    assert pairs == expected
    # Nobody takes anything over from a frontend that stays under another name.
    assert found["frontend/all"].heirs is None


def clusters_renamed(before: str, after: str, frontends: tuple[str, str] = ("", "")) -> set[str]:
    """The clusters that are told to be renamed, of those of two bases."""
    start, _ = BASE.split("clusters:\n")
    old, new = (
        state_of(
            f"  all: {{listeners: [web], respond: {{status: 200}}}}\n{leads}", f"{start}{base}"
        )
        for base, leads in zip((before, after), frontends, strict=True)
    )
    found = meant(old, new)
    return {name for name, each in found.items() if each.renamed and name.startswith("cluster/")}


def clusters(**backends: str) -> str:
    lines = [
        f"  {name.replace('_', '-')}: {{backends: {{{text}}}}}\n" if text else f"  {name}: {{}}\n"
        for name, text in backends.items()
    ]
    return f"clusters:\n{''.join(lines)}frontends:\n"


ONE, TWO, THREE = (f'b{number}: {{address: "10.0.0.{number}:80"}}' for number in (1, 2, 3))
LEADS = "  pay: {{listeners: [web], hostname: pay.test, cluster: {}}}\n"


@pytest.mark.parametrize(
    ("before", "after", "leads", "renamed"),
    [
        # Most clusters have no value of their own: it is their backends that say what they are.
        (clusters(legacy=ONE), clusters(payments=f"{TWO}, {THREE}"), None, set()),
        (clusters(legacy=ONE), clusters(payments=TWO), ("legacy", "payments"), set()),
        (clusters(one=ONE), clusters(uno=ONE.replace("b1", "x1")), None, {"one", "uno"}),
        # One machine more or less, and what is told of it otherwise.
        (clusters(one=f"{ONE}, {TWO}"), clusters(uno=f"{ONE}, {THREE}"), None, {"one", "uno"}),
        (
            clusters(one=ONE, two=TWO),
            clusters(uno=ONE, due=TWO),
            None,
            {"one", "two", "uno", "due"},
        ),
        (clusters(one=ONE, two=ONE), clusters(uno=ONE, due=ONE), None, set()),
        (clusters(one=f"{ONE}, {TWO}"), clusters(uno=ONE, due=TWO), None, set()),
        # Without backends it is those who lead to it.
        (clusters(one=""), clusters(uno=""), None, set()),
        (clusters(one=""), clusters(uno=""), ("one", "uno"), {"one", "uno"}),
    ],
)
def test_a_cluster_is_renamed_where_its_backends_go_along(
    before: str, after: str, leads: tuple[str, str] | None, renamed: set[str]
) -> None:
    frontends = ("", "") if leads is None else (LEADS.format(leads[0]), LEADS.format(leads[1]))
    assert clusters_renamed(before, after, frontends) == {f"cluster/{name}" for name in renamed}


POLICIES = BASE.replace(
    "frontends:\n",
    "policies:\n  p: {hsts: {max_age_days: 1}}\n  q: {hsts: {max_age_days: 1}}\nfrontends:\n",
).replace('"127.0.0.1:8081"', '"127.0.0.1:8081", policies: [p]')
NAMING = (
    "  all: {listeners: [web], cluster: shop, policies: [p]}\n"
    "  api: {listeners: [web], cluster: cart, path: {prefix: /api}, policies: [q]}\n"
    "  there: {listeners: [other], cluster: shop}\n"
)


@pytest.mark.parametrize(
    ("old", "new", "key", "frontends"),
    [
        ("p: {hsts: {max_age_days: 1}}", "p: {hsts: null}", "policy/p", ("all", "there")),
        ("q: {hsts: {max_age_days: 1}}", "q: {hsts: null}", "policy/q", ("api",)),
        ("policies: [p]}", "policies: [q]}", "listener/other", ("there",)),
        ("127.0.0.1:8081", "127.0.0.1:8082", "listener/other", None),
    ],
)
def test_a_policy_names_the_frontends_for_which_it_counts(
    old: str, new: str, key: str, frontends: tuple[str, ...] | None
) -> None:
    found = meant(state_of(NAMING, POLICIES), state_of(NAMING, POLICIES.replace(old, new)))
    assert found.get(key, Consequence()).frontends == (frontends or ())


URL, OTHER_URL = "https://id.test/one", "https://id.test/other"


def tokens(url: str, more: str = "") -> str:
    return f'jwt: {{issuer: i, audiences: [a], keys: "{url}"{more}}}'


def guarded(policy: str, frontend: str = "", listener: str = "") -> State:
    """Two frontends, of which one names the policy; what else one or the other says."""
    base = BASE.replace('8080"}', f'8080", {listener}}}')
    return state_of(
        f"  one: {{listeners: [web], cluster: shop, path: {{prefix: /one}}, policies: [api]}}\n"
        f"  two: {{listeners: [web], cluster: shop, {frontend}}}\n"
        f"policies:\n  api: {{{policy}}}\n  spare: {{{tokens(URL)}}}\n",
        base,
    )


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        (("",), (tokens(URL),), {"policy/api": (URL,)}),
        # Less than the requests of somebody else, or nothing new.
        ((tokens(URL),), (tokens(URL, ", leeway: 1s"),), {}),
        ((tokens(URL),), ("",), {}),
        ((tokens(URL),), (tokens(OTHER_URL),), {"policy/api": (OTHER_URL,)}),
        (("",), ("", tokens(URL)), {"frontend/two": (URL,)}),
        ((tokens(URL),), (tokens(URL), "policies: [api]"), {"frontend/two": (URL,)}),
        (("",), ("", "", "policies: [spare]"), {"listener/web": (URL,)}),
        (
            ("", "", "policies: [spare]"),
            ("", tokens(OTHER_URL), "policies: [spare]"),
            {"frontend/two": (OTHER_URL,)},
        ),
    ],
)
def test_who_needs_keys_that_have_not_been_fetched(
    before: tuple[str, ...], after: tuple[str, ...], found: dict[str, tuple[str, ...]]
) -> None:
    told = meant(guarded(*before), guarded(*after))
    assert {name: each.without_keys for name, each in told.items() if each.without_keys} == found


def test_where_nobody_fetches_what_is_named_already_is_taken_for_there() -> None:
    was, will_be = guarded(""), guarded(tokens(URL), tokens(OTHER_URL))
    changes = diff_entities({key: will_be.get(key) for key in {*was, *will_be}}, was)
    views = [MemoryView(state[key] for key in state) for state in (was, will_be)]
    found = consequences(changes, views[0], views[1], EngineRouter(), is_here=False)
    told = {str(key): each.without_keys for key, each in found.items() if each.without_keys}
    assert told == {'frontend "two"': (OTHER_URL,)}
