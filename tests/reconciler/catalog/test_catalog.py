from collections.abc import Mapping

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from reconciler.catalog import changed_files
from reconciler.catalog.catalog import Candidate, load_directory
from reconciler.catalog.changed_files import FINDINGS_MAX
from reconciler.language.document import DIAGNOSTICS_MAX
from reconciler.planning.differ import diff_entities
from schemas.changes.state import State
from schemas.entities.entity import NOWHERE, SETTINGS_KEY, Entity, EntityKey, Mark
from tests.reconciler.building import SHOP
from tests.reconciler.catalog.configuration import Catalog
from tests.schemas.strategies import BACKENDS, DOCUMENTS, NAMES, file_of

WEB = EntityKey("frontend", "web")
CLUSTER = EntityKey("cluster", "shop")
BACKEND = EntityKey("backend", "shop/a")


def accepted(files: Mapping[str, bytes]) -> Catalog:
    catalog = Catalog()
    catalog.accept(ok(catalog.stage(files)))
    return catalog


def ok(candidate: Candidate) -> Candidate:
    assert candidate.ok, [found.render() for found in candidate.diagnostics]
    return candidate


def texts(candidate: Candidate) -> list[str]:
    return [f"{found.where}: {found.message}" for found in candidate.diagnostics]


def contents(catalog: Catalog) -> dict[EntityKey, Entity]:
    return {entity.key: entity for entity in catalog.entities()}


def test_the_settings_exist_even_in_an_empty_directory() -> None:
    candidate = ok(Catalog().stage({}))
    (entity,) = candidate.desired.values()
    assert entity is not None
    assert (entity.key, entity.provenance) == (SETTINGS_KEY, NOWHERE)
    catalog = accepted({})
    assert ok(catalog.stage({})).desired == {}


def test_settings_that_are_removed_go_back_to_the_defaults() -> None:
    catalog = accepted({"a.yaml": b"settings: {workers: 3}"})
    candidate = ok(catalog.stage({"a.yaml": b""}))
    (entity,) = candidate.desired.values()
    assert entity is not None
    assert (entity.value, entity.provenance) == ({}, NOWHERE)
    catalog.accept(candidate)
    spelled_out = ok(catalog.stage({"b.yaml": b"settings: {workers: auto}"}))
    assert spelled_out.desired == {}
    catalog.accept(spelled_out)
    assert contents(catalog)[SETTINGS_KEY].provenance.file == "b.yaml"
    gone = ok(catalog.stage({"b.yaml": None}))
    assert gone.desired == {}
    catalog.accept(gone)
    assert contents(catalog)[SETTINGS_KEY].provenance == NOWHERE


def test_only_what_changed_is_desired() -> None:
    catalog = accepted({"a.yaml": SHOP})
    candidate = ok(catalog.stage({"a.yaml": SHOP.replace(b"9001", b"9009")}))
    assert list(candidate.desired) == [BACKEND]
    assert ok(catalog.stage({"a.yaml": SHOP})).desired == {}
    respelled = SHOP.replace(b"listeners: [public]", b'listeners: ["public", public] # same')
    assert ok(catalog.stage({"a.yaml": respelled})).desired == {}


def test_a_removed_cluster_takes_its_backends_along() -> None:
    catalog = accepted({"a.yaml": SHOP})
    kept = SHOP.split(b"clusters")[0]
    candidate = ok(catalog.stage({"a.yaml": kept}))
    assert candidate.desired == {
        CLUSTER: None,
        BACKEND: None,
        EntityKey("backend", "shop/b"): None,
        WEB: None,
    }


def test_places_follow_the_files_without_a_change() -> None:
    catalog = accepted({"a.yaml": SHOP})
    for files in ({"a.yaml": b"# one line more\n" + SHOP}, {"a.yaml": None, "b/c.yaml": SHOP}):
        candidate = ok(catalog.stage(files))
        assert candidate.desired == {}
        catalog.accept(candidate)
    entity = contents(catalog)[WEB]
    assert (entity.provenance.file, entity.provenance.line) == ("b/c.yaml", 9)


def test_a_dropped_candidate_leaves_the_catalog_as_it_was() -> None:
    catalog = accepted({"a.yaml": SHOP})
    before = contents(catalog)
    for files in ({"a.yaml": b"frontends: {x: 1}"}, {"b.yaml": SHOP}, {"a.yaml": None}):
        catalog.stage(files)
        assert contents(catalog) == before
    assert ok(catalog.stage({"a.yaml": SHOP})).desired == {}


def test_a_name_in_two_files_is_refused_at_the_later_one() -> None:
    twice = 'listener "public" is defined twice: first at a.yaml:2'
    cluster = 'cluster "shop" is defined twice: first at a.yaml:4'
    web = 'frontend "web" is defined twice: first at a.yaml:9'
    expected = [f"b.yaml:2:3: {twice}", f"b.yaml:4:3: {cluster}", f"b.yaml:9:3: {web}"]
    assert texts(Catalog().stage({"a.yaml": SHOP, "b.yaml": SHOP})) == expected
    assert texts(accepted({"a.yaml": SHOP}).stage({"b.yaml": SHOP})) == expected


def test_the_settings_are_given_once() -> None:
    text = b"settings: {workers: 1}"
    (message,) = texts(Catalog().stage({"a.yaml": text, "b.yaml": text}))
    assert message == "b.yaml:1:1: the settings are defined twice: first at a.yaml:1"


def test_a_cluster_in_two_files_is_one_error_and_not_one_per_backend() -> None:
    other = b'clusters: {shop: {backends: {a: {address: "127.0.0.1:1"}}}}'
    assert len(texts(accepted({"a.yaml": SHOP}).stage({"b.yaml": other}))) == 1


def test_what_is_removed_while_it_is_used_is_shown_at_its_user() -> None:
    listener, clusters, frontends = (
        SHOP.split(b"clusters")[0],
        b"clusters" + SHOP.split(b"clusters")[1].split(b"frontends")[0],
        b"frontends" + SHOP.split(b"frontends")[1],
    )
    catalog = accepted({"l.yaml": listener, "c.yaml": clusters, "f.yaml": frontends})
    candidate = catalog.stage({"c.yaml": None})
    assert texts(candidate) == ['f.yaml:2:3: frontend "web": there is no cluster "shop"']
    assert texts(catalog.stage({"l.yaml": b""})) == [
        'f.yaml:2:3: frontend "web": there is no listener "public"'
    ]


def test_a_reference_is_shown_where_it_is_written() -> None:
    (found,) = Catalog().stage({"a.yaml": SHOP.replace(b"[public]", b"[pubic]")}).diagnostics[-1:]
    assert (found.line, found.column, found.width) == (11, 17, 5)
    assert found.hint == 'did you mean "public" (a.yaml:2)?'
    assert found.source_line == "    listeners: [pubic]"


def test_an_unreadable_file_hides_no_names_and_makes_none_missing() -> None:
    cut = SHOP.split(b"frontends")
    files = {"a.yaml": cut[0] + b"x: [", "b.yaml": b"frontends" + cut[1]}
    (message,) = texts(Catalog().stage(files))
    assert message.startswith("a.yaml:8:4: expected")
    catalog = accepted({"a.yaml": cut[0], "b.yaml": b"frontends" + cut[1]})
    assert len(texts(catalog.stage({"a.yaml": b"x: [", "c.yaml": cut[0]}))) == 1


def test_an_invalid_entity_is_not_also_missing() -> None:
    candidate = Catalog().stage(
        {"a.yaml": SHOP.replace(b"  shop:\n", b"  shop:\n    retries: x\n")}
    )
    (message,) = texts(candidate)
    assert "expected a whole number" in message


def test_warnings_do_not_stand_in_the_way() -> None:
    candidate = ok(
        Catalog().stage({"a.yaml": SHOP + b"settings:\n", "b.yaml": b"clusters: {x: {}}"})
    )
    assert [found.message for found in candidate.warnings] == [
        'cluster "x" has no backends: its frontends get 503',
        'no frontend names cluster "x"',
    ]


def test_only_what_a_change_touches_is_warned_about() -> None:
    catalog = accepted({"a.yaml": SHOP, "b.yaml": b"clusters: {x: {}}"})
    assert ok(catalog.stage({"a.yaml": SHOP.replace(b"9001", b"9009")})).diagnostics == ()


def test_findings_are_bounded() -> None:
    many = "".join(f"  c{number}: {{}}\n" for number in range(FINDINGS_MAX + 10))
    candidate = ok(Catalog().stage({"a.yaml": f"clusters:\n{many}".encode()}))
    assert len(candidate.diagnostics) == FINDINGS_MAX + 1
    assert candidate.diagnostics[-1].message == "there is more, which is not shown"


def test_a_restored_catalog_is_as_good_as_a_parsed_one() -> None:
    files = {"a.yaml": SHOP, "b.yaml": b"settings: {workers: 2}"}
    parsed, restored = accepted(files), Catalog()
    for entity in parsed.entities():
        restored.view.put(entity)
    # Of what was read back from elsewhere nobody knows how it was written.
    for path, found in parsed.view.files.items():
        restored.view.files[path] = dict.fromkeys(found, Mark(b"", 0, 0))
    changed: dict[str, bytes | None] = {
        "a.yaml": SHOP.replace(b"9001", b"9009"),
        "b.yaml": None,
        "c.yaml": SHOP,
    }
    stages: list[dict[str, bytes | None]] = [
        {"a.yaml": SHOP},
        *({path: data} for path, data in changed.items()),
        changed,
    ]
    for one in stages:
        assert restored.stage(one).desired == parsed.stage(one).desired
        assert restored.stage(one).diagnostics == parsed.stage(one).diagnostics


def test_the_cost_follows_the_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts, not seconds: one changed line in 1,000 frontends is one file read, one validated."""
    head = SHOP.split(b"frontends")[0]
    names = range(1000)
    bodies = [
        f"  f{number}: {{cluster: shop, listeners: [public], hostname: h{number}.com}}\n"
        for number in names
    ]
    one_file = {"a.yaml": head + ("frontends:\n" + "".join(bodies)).encode()}
    many_files = {"a.yaml": head} | {
        f"{number}.yaml": f"frontends:\n{bodies[number]}".encode() for number in names
    }
    for files, path in ((one_file, "a.yaml"), (many_files, "500.yaml")):
        catalog = accepted(files)
        calls: dict[str, int] = {}
        for name in ("read_document", "validate"):
            _count(monkeypatch, name, calls)
        changed = files[path].replace(b"h500.com", b"changed.com")
        candidate = ok(catalog.stage({path: changed}))
        assert list(candidate.desired) == [EntityKey("frontend", "f500")]
        assert calls == {"read_document": 1, "validate": 1}
        monkeypatch.undo()


def _count(monkeypatch: pytest.MonkeyPatch, name: str, calls: dict[str, int]) -> None:
    original = getattr(changed_files, name)

    def counted(*arguments: object) -> object:
        calls[name] = calls.get(name, 0) + 1
        return original(*arguments)

    monkeypatch.setattr(changed_files, name, counted)


# Documents that fit together more often than not, so that histories get somewhere.
_NAMES = ["a", "b", "shop"]
BASE = file_of(
    {
        "listeners": {
            name: {"address": f"127.0.0.1:{8000 + number}"} for number, name in enumerate(_NAMES)
        }
    }
)
FITTING = st.fixed_dictionaries(
    {},
    optional={
        "frontends": st.dictionaries(
            st.sampled_from(["f1", "f2", "f3"]),
            st.fixed_dictionaries(
                {
                    "cluster": st.sampled_from(_NAMES),
                    "listeners": st.lists(st.sampled_from(_NAMES), min_size=1),
                    "hostname": st.integers(0, 50).map("h{}.com".format),
                }
            ),
            max_size=2,
        ),
        "clusters": st.dictionaries(
            st.sampled_from(_NAMES),
            st.fixed_dictionaries({"backends": st.dictionaries(NAMES, BACKENDS, max_size=2)}),
        ),
        "settings": st.fixed_dictionaries({"workers": st.integers(1, 3)}),
    },
)
STEPS = st.lists(
    st.dictionaries(
        st.sampled_from(["a.yaml", "b.yaml", "team/c.yaml"]),
        st.one_of(
            st.none(),
            FITTING.map(file_of),
            FITTING.map(file_of).map(b"# moved\n".__add__),
            st.one_of(DOCUMENTS.map(file_of), st.sampled_from([b"[", b"x: 1"])),
        ),
        min_size=1,
        max_size=2,
    ),
    max_size=8,
)


@settings(max_examples=200)
@given(STEPS)
def test_any_history_ends_where_loading_the_last_tree_ends(
    steps: list[dict[str, bytes | None]],
) -> None:
    """The central property: staging the differences is loading the whole."""
    catalog, state, tree = Catalog(), State(), dict[str, bytes]()
    pending: dict[str, bytes | None] = {"base.yaml": BASE}
    for step in ({}, *steps):
        pending |= step
        target = {path: data for path, data in (tree | pending).items() if data is not None}
        oracle, _ = load_directory(target.items())
        candidate = catalog.stage(pending)
        assert candidate.ok == (oracle is not None)
        event("accepted" if candidate.ok else "refused")
        if oracle is None:
            # Refused: the next commit is held against the last one that was applied.
            continue
        catalog.accept(candidate)
        state.apply(diff_entities(candidate.desired, state))
        tree, pending = target, {}
        assert state == oracle
        assert state.digest == oracle.digest
        assert {key: found.provenance for key, found in contents(catalog).items()} == {
            key: oracle[key].provenance for key in oracle
        }


LISTENERS = b"listeners: {web: {address: '127.0.0.1:8080'}, spare: {address: '127.0.0.1:8081'}}\n"
CLUSTERS = b"clusters: {shop: {backends: {a: {address: '127.0.0.1:9001'}}}, empty: {}}\n"


def found(**files: bytes) -> list[str]:
    """Return what is said about files of these names, without hints."""
    candidate = Catalog().stage({f"{name}.yaml": text for name, text in files.items()})
    return [f"{each.severity}: {each.message}" for each in candidate.diagnostics]


def test_an_invalid_entity_has_its_references_checked() -> None:
    web = b"frontends: {web: {listeners: [wbe, web, Web], cluster: shopp, path: /api}}"
    tls = b"listeners: {tls: {address: 1, tls: {default_certificate: none}}}"
    said = found(a=LISTENERS, b=CLUSTERS, c=web, d=tls)
    for expected in (
        'error: frontend "web": there is no listener "wbe"',
        'error: frontend "web": there is no cluster "shopp"',
        'error: listener "tls": there is no certificate "none"',
    ):
        assert expected in said
    assert len([each for each in said if "there is no" in each]) == 3


def test_warnings_stand_beside_errors_that_cannot_be_their_cause() -> None:
    empty = 'warning: cluster "empty" has no backends: its frontends get 503'
    unused = 'warning: no frontend names cluster "empty"'
    spare = 'warning: no frontend names listener "spare": every request gets 404'
    web = b"frontends: {web: {listeners: [web], cluster: shop, path: /api}}"
    said = found(a=LISTENERS, b=CLUSTERS, c=web)
    assert [each for each in said if each.startswith("warning")] == [spare, empty, unused]
    # It may be what was meant.
    said = found(a=LISTENERS, b=CLUSTERS, c=web.replace(b"[web]", b"[spar]"))
    assert [each for each in said if each.startswith("warning")] == [empty, unused]
    said = found(a=LISTENERS, b=CLUSTERS, c=web.replace(b"cluster", b"clutser"))
    assert [each for each in said if each.startswith("warning")] == [spare, empty]
    for broken in (
        b"frontends: [a]",
        b"frontend: {}",
        b"frontends: {web: [",
        b"frontends: {W: {}}",
    ):
        said = found(a=LISTENERS, b=CLUSTERS, c=broken)
        assert [each for each in said if each.startswith("warning")] == [empty]
    # Its backends may be what is wrong.
    wrong = CLUSTERS.replace(b"empty: {}", b"empty: {backends: {a: {address: x}}}")
    said = found(a=LISTENERS, b=wrong, c=web)
    assert [each for each in said if each.startswith("warning")] == [spare, unused]


def test_repetitions_are_warned_of_and_never_make_a_file_invalid() -> None:
    frontends = "".join(
        f"  f{number}: {{listeners: [web, web], hostname: h{number}, cluster: shop}}\n"
        for number in range(3 * DIAGNOSTICS_MAX)
    )
    files = {
        "a.yaml": LISTENERS,
        "b.yaml": CLUSTERS,
        "c.yaml": f"frontends:\n{frontends}".encode(),
    }
    candidate = ok(Catalog().stage(files))
    kinds = [key.kind for key, entity in candidate.desired.items() if entity is not None]
    assert kinds.count("frontend") == 3 * DIAGNOSTICS_MAX
    twice = [each for each in candidate.warnings if "is there twice" in each.message]
    assert len(twice) == DIAGNOSTICS_MAX
