"""What holds by policies, who has the last word, and what is wrong with lists of them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.catalog import policies
from reconciler.catalog.policies import Edit, Told, asked_first, levels_of, merged
from reconciler.catalog.views import MemoryView
from schemas.entities.diagnostic import Diagnostic
from schemas.entities.entity import Entity, EntityKey
from schemas.policies.hsts import Hsts
from tests.property import merging
from tests.reconciler.building import entity, frontend
from tests.reconciler.catalog.configuration import Catalog

TEXTS = st.sampled_from(["a", "b", None])
NAMES = ["X-A", "x-b", "X-C"]
HEADERS = st.lists(st.sampled_from(NAMES), unique=True).flatmap(
    lambda names: st.fixed_dictionaries(
        {name: st.tuples(st.sampled_from(["set", "add", "remove"]), TEXTS) for name in names}
    )
)


def _edits(words: dict[str, tuple[str, str | None]]) -> dict[str, Any]:
    found: dict[str, Any] = {"set": {}, "add": {}, "remove": []}
    for name, (verb, text) in words.items():
        if verb == "remove":
            found["remove"].append(name.upper())
        else:
            found[verb][name] = text
    return found


SAYS = st.fixed_dictionaries(
    {"response_headers": HEADERS.map(_edits)},
    optional={"hsts": st.sampled_from(["inherit", None, {"max_age_days": 1}, {"max_age_days": 2}])},
)


def view_of(own: dict[str, Any], near: list[Any], far: list[Any]) -> tuple[MemoryView, Entity]:
    named = {f"n{at}": raw for at, raw in enumerate(near)}
    beyond = {f"f{at}": raw for at, raw in enumerate(far)}
    web = frontend("web", policies=list(named), **own)
    public = entity("listener", "public", address="127.0.0.1:80", policies=list(beyond))
    said = [entity("policy", name, **raw) for name, raw in {**named, **beyond}.items()]
    return MemoryView([web, public, *said]), web


@given(own=SAYS, near=st.lists(SAYS, max_size=3), far=st.lists(SAYS, max_size=2))
def test_the_nearest_word_counts_as_in_the_model(
    own: dict[str, Any], near: list[Any], far: list[Any]
) -> None:
    view, web = view_of(own, near, far)
    found = list(policies.conflicts([web.key], view))
    try:
        expected = merging.edits("response_headers", own, near)
        merging.hsts(own, near)
    except merging.ContradictionError:
        assert {each.severity for each in found} == {"error"}
        return
    assert not found
    listener = EntityKey("listener", "public")
    assert bool(list(policies.conflicts([listener], view))) == merging.is_contradictory(far)
    if merging.is_contradictory(far):
        return
    expected = merging.edits("response_headers", own, near, far)
    words = merged(levels_of(web, "public", view))
    done = {
        leaf.name: (word.said.verb, "".join(word.said.texts))
        for leaf, word in words.items()
        if isinstance(word.said, Edit)
    }
    assert done == expected
    days = [word.said.max_age_days for word in words.values() if isinstance(word.said, Hsts)]
    assert days == [each for each in [merging.hsts(own, near, far)] if each is not None]


TOKENS = {"issuer": "i", "audiences": [], "keys": "keys.json"}
CLAIMS = st.dictionaries(st.sampled_from(NAMES[:2]), st.sampled_from(["sub", "email"]))
IDENTIFIES = st.one_of(
    st.just({}),
    CLAIMS.map(lambda headers: {"jwt": {**TOKENS, "headers": headers}}),
    st.builds(
        lambda cluster, names: {"forward_auth": {"cluster": cluster, "copy_headers": names}},
        st.sampled_from(["gate", "sso"]),
        st.lists(st.sampled_from(["x-a", "X-B"]), unique=True),
    ),
)
EDITED = st.sampled_from([{}, {"request_headers": {"set": {"X-a": "ours"}, "remove": ["x-b"]}}])


@given(
    own=IDENTIFIES,
    edited=EDITED,
    near=st.lists(IDENTIFIES, max_size=3),
    far=st.lists(IDENTIFIES, max_size=2),
)
def test_one_says_who_asks_and_it_is_the_nearest(
    own: dict[str, Any], edited: dict[str, Any], near: list[Any], far: list[Any]
) -> None:
    view, web = view_of({**own, **edited}, near, far)
    found = list(policies.conflicts([web.key], view))
    try:
        merging.identities({**own, **edited}, near)
    except merging.ContradictionError:
        assert {each.severity for each in found} == {"error"}
        return
    assert not found
    try:
        merging.identities({}, far)
    except merging.ContradictionError:
        assert list(policies.conflicts([EntityKey("listener", "public")], view))
        return
    words = merged(levels_of(web, "public", view))
    said = {
        leaf.name: (word.said.key, word.said.of[0])
        for leaf, word in words.items()
        if isinstance(word.said, Told)
    }
    assert said == merging.identities({**own, **edited}, near, far)


GATE, SSO = {"cluster": "gate"}, {"cluster": "sso", "timeout": "1s"}


def test_whoever_is_named_is_asked_the_outermost_first_and_nobody_twice() -> None:
    said: list[tuple[Any, ...]] = [
        ({}, [], [], []),
        ({"forward_auth": SSO}, [], [], ["web"]),
        ({"forward_auth": SSO}, [{"forward_auth": GATE}], [], ["n0", "web"]),
        ({"forward_auth": SSO}, [], [{"forward_auth": GATE}], ["f0", "web"]),
        ({}, [{"forward_auth": SSO}], [{"forward_auth": SSO}], ["n0"]),
        ({}, [{"forward_auth": SSO}, {"forward_auth": GATE}], [], ["n1", "n0"]),
        ({"forward_auth": SSO}, [{"forward_auth": GATE}], [{"forward_auth": GATE}], ["n0", "web"]),
    ]
    for own, near, far, expected in said:
        view, web = view_of(own, near, far)
        assert not list(policies.conflicts([web.key], view))
        words = merged(levels_of(web, "public", view))
        assert [by.key.name for _, by in asked_first(words)] == expected


SHOWN = {"subjects": ["CN=a"]}
# What a listener's policy says, what a frontend or its policy says, and what is left of the former.
OVERRIDDEN: list[tuple[dict[str, Any], dict[str, Any], set[str]]] = [
    ({"allow": ["10.0.0.0/8"], "deny": ["::1"]}, {"allow": ["10.1.0.0/16"]}, {"deny"}),
    ({"deny": ["10.0.0.0/8"]}, {"allow": ["10.1.0.0/16"]}, {"deny"}),
    (
        {"rate_limit": [{"requests": 1}, {"requests": 2, "name": "b"}]},
        {"rate_limit": {"requests": 9}},
        set(),
    ),
    ({"rate_limit": {"requests": 1}}, {"concurrency": {"requests": 1}}, {"rate_limit"}),
    ({"concurrency": {"requests": 1}}, {"concurrency": {"requests": 2}}, set()),
    ({"limits": {"body_bytes": "1B"}}, {"limits": {"body_bytes": "2B"}}, set()),
    ({"forward_auth": GATE}, {"forward_auth": SSO}, set()),
    (
        {"forward_auth": GATE, "client_certificate": "required"},
        {"client_certificate": SHOWN},
        set(),
    ),
    ({"client_certificate": SHOWN}, {"deny": ["::1"]}, {"client_certificate"}),
]


@pytest.mark.parametrize(("far", "near", "expected"), OVERRIDDEN)
@pytest.mark.parametrize("where", ["own", "policy"])
def test_a_listener_lets_others_have_the_word(
    far: dict[str, Any], near: dict[str, Any], expected: set[str], where: str
) -> None:
    for lets in (True, False):
        own, named = (near, []) if where == "own" else ({}, [near])
        view, web = view_of(own, named, [{**far, "overridable": lets}])
        words = merged(levels_of(web, "public", view))
        left = {
            leaf.key.partition(".")[0] for leaf, word in words.items() if word.by.key.name == "f0"
        }
        assert left == (expected if lets else far.keys())
        assert {leaf.key.partition(".")[0] for leaf, word in words.items()} == left | near.keys()


def test_a_listeners_own_page_goes_before_those_of_its_policies() -> None:
    page = {"error_pages": {"503": {"body": "p"}, "404": {"body": "p"}}}
    public = entity(
        "listener",
        "public",
        address="127.0.0.1:80",
        policies=["p"],
        error_pages={"503": {"body": "l"}},
    )
    web = frontend("web")
    view = MemoryView([web, public, entity("policy", "p", **page)])
    words = merged(levels_of(web, "public", view))
    assert {leaf.name: word.by.key.kind for leaf, word in words.items()} == {
        "503": "listener",
        "404": "policy",
    }


BASE = """\
listeners:
  public: {address: "127.0.0.1:80"}
clusters:
  shop: {backends: {a: {address: "127.0.0.1:9001"}}}
policies:
  deny: {response_headers: {set: {X-Frame-Options: DENY}}}
  same: {response_headers: {set: {x-frame-options: SAMEORIGIN}}}
"""
WEB = "frontends:\n  web: {listeners: [public], cluster: shop, policies: [deny%s]%s}\n"
OTHER = "  shop: {listeners: [public], cluster: shop, path: {prefix: /b}, policies: [same]}\n"


def staged(web: str) -> list[Diagnostic]:
    files = {"a.yaml": BASE.encode(), "b.yaml": (web + OTHER).encode()}
    return list(Catalog().stage(files).diagnostics)


def test_two_that_differ_are_an_error_that_names_both_places() -> None:
    [found] = staged(WEB % (", same", ""))
    assert found.severity == "error"
    assert (found.file, found.line) == ("b.yaml", 2)
    assert found.message == (
        'frontend "web": policy "deny" (a.yaml:6) and policy "same" (a.yaml:7) say different '
        "things about response_headers.x-frame-options"
    )
    assert "whose word goes first" in (found.hint or "")
    assert not staged(WEB % ("", ""))
    decided = ", response_headers: {set: {X-Frame-Options: null}}"
    assert not staged(WEB % (", same", decided)), "the frontend decides"


def test_a_policy_that_nobody_names_is_a_warning() -> None:
    [found] = staged("frontends:\n")
    assert found.severity == "warning"
    assert (found.file, found.line) == ("a.yaml", 6)
    assert found.message == 'no frontend and no listener names policy "deny"'


@pytest.mark.parametrize("changed", ["deny", "same"])
def test_a_change_of_a_policy_is_looked_at_with_its_users(changed: str) -> None:
    catalog = Catalog()
    agreeing = BASE.replace("SAMEORIGIN", "DENY")
    files = {"a.yaml": agreeing.encode(), "b.yaml": (WEB % (", same", "") + OTHER).encode()}
    catalog.accept(catalog.stage(files))
    line = f"  {changed}: {{response_headers: {{set: "
    after = agreeing.replace(f"{line}{{", f"{line}{{X-More: x, ").replace("DENY", "NONE", 1)
    found = catalog.stage({"a.yaml": after.encode()}).diagnostics
    assert [each.file for each in found] == ["b.yaml"], "its file has not changed"


def test_a_name_that_is_not_there() -> None:
    found = staged(WEB % (", sane", ""))
    [error] = [each for each in found if each.severity == "error"]
    assert error.message == 'frontend "web": there is no policy "sane"'
    assert error.hint == 'did you mean "same" (a.yaml:7)?'


def test_a_match_by_what_others_are_asked_for_is_told_when_either_changes() -> None:
    catalog = Catalog()
    asking = BASE.replace("{response_headers: {set: {X-Frame-Options: DENY}}}", "%s")
    before = asking % "{forward_auth: {cluster: shop}}"
    web = WEB % ("", ", headers: {x-user: admin}")
    files = {"a.yaml": before.encode(), "b.yaml": (web + OTHER).encode()}
    staged = catalog.stage(files)
    assert not staged.diagnostics
    catalog.accept(staged)
    after = asking % "{forward_auth: {cluster: shop, copy_headers: [X-User]}}"
    [found] = catalog.stage({"a.yaml": after.encode()}).diagnostics
    assert (found.severity, found.file) == ("warning", "b.yaml")
    assert "as the client says it" in found.message
