import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given

from reconciler.planning.differ import comparable, diff_entities
from schemas.changes.change import Change, FieldChange
from schemas.changes.state import State
from schemas.entities.entity import Entity, EntityKey, Json
from tests.reconciler.building import entity, frontend
from tests.schemas.strategies import ENTITY_MAPS

ROOT = Path(__file__).resolve().parents[3]


def one(before: Entity | None, after: Entity | None) -> Change:
    key = (before or after or frontend("none")).key
    (change,) = diff_entities({key: after}, State([before] if before else []))
    return change


def test_equal_entities_are_no_change() -> None:
    running = State([frontend("web", line=1)])
    assert diff_entities({frontend("web").key: frontend("web", line=99)}, running) == ()
    assert diff_entities({frontend("gone").key: None}, running) == ()
    assert diff_entities({}, running) == ()


def test_fields_of_an_update() -> None:
    before = entity("cluster", "shop", retries=1)
    after = entity("cluster", "shop", retries=2, timeouts={"connect": "5s"})
    change = one(before, after)
    assert (change.action, change.before, change.after) == ("update", before, after)
    assert change.fields == (
        FieldChange("retries", 1, 2),
        FieldChange("timeouts.connect", 3000, 5000),
    )


def test_lists_are_compared_as_a_whole() -> None:
    change = one(frontend("web", listeners=["a", "b"]), frontend("web", listeners=["b", "c"]))
    assert change.fields == (FieldChange("listeners", ["a", "b"], ["b", "c"]),)


def test_limits_of_a_list_are_compared_by_their_names() -> None:
    slow = {"requests": 9, "per": "1m", "name": "slow"}
    before = entity("policy", "p", rate_limit=[{"requests": 5}, slow])
    after = entity("policy", "p", rate_limit=[{**slow, "status": 503}, {"requests": 6}])
    assert one(before, after).fields == (
        FieldChange("rate_limit.client_address.requests", 5, 6),
        FieldChange("rate_limit.slow.status", 429, 503),
    )
    single = one(entity("policy", "p", rate_limit={"requests": 5}), before)
    [added] = single.fields
    assert (added.path, added.missing) == ("rate_limit.slow", "from")
    told = single.to_json()["fields"]
    assert isinstance(told, dict)
    assert told["rate_limit.slow"]["to"]["per"] == "1m"  # type: ignore[index, call-overload]
    named = one(None, before)
    assert [field.path for field in named.fields] == [
        "rate_limit.client_address",
        "rate_limit.slow",
    ] or {field.path.split(".")[1] for field in named.fields} == {"client_address", "slow"}


def test_limits_in_another_order_are_told_as_such() -> None:
    day, hour = {"requests": 5, "per": "24h", "name": "day"}, {"requests": 1, "name": "hour"}
    before = entity("policy", "p", rate_limit=[day, hour])
    (told,) = one(before, entity("policy", "p", rate_limit=[hour, day])).fields
    assert told.path == "rate_limit"
    assert (names(told.before), names(told.after)) == (["day", "hour"], ["hour", "day"])


def names(limits: Json) -> list[Json]:
    assert isinstance(limits, list)
    return [each["name"] for each in limits if isinstance(each, dict)]


def test_what_appears_and_disappears_within_a_map() -> None:
    before = frontend("web", path={"prefix": "/a"}, headers={"x-a": "1", "x-b": "1"})
    after = frontend("web", path={"exact": "/a"}, headers={"x-b": "2", "__private": "3"})
    assert one(before, after).fields == (
        FieldChange("headers.__private", None, {"exact": "3"}, missing="from"),
        FieldChange("headers.x-a", {"exact": "1"}, None, missing="to"),
        FieldChange("headers.x-b.exact", "1", "2"),
        FieldChange("path.exact", None, "/a", missing="from"),
        FieldChange("path.prefix", "/a", None, missing="to"),
    )


def test_credentials_are_hidden_in_every_way_to_change_them() -> None:
    before = frontend("web", headers={"authorization": "Bearer s3cr3t", "x-tier": "gold"})
    bare = frontend("web", headers={"x-tier": "gold"})
    other = frontend("web", headers={"authorization": {"regex": "s3cr3t.*"}, "x-tier": "gold"})
    changes = [one(None, before), one(before, None), one(bare, before), one(before, other)]
    texts = [json.dumps(change.to_json()) for change in changes]
    assert all("(secret)" in text and "s3cr3t" not in text for text in texts), texts
    assert '"gold"' in texts[0]
    assert [field.path for field in changes[3].fields] == [
        "headers.authorization.exact",
        "headers.authorization.regex",
    ]


def test_null_and_a_value() -> None:
    before = entity("settings", "settings")
    after = entity("settings", "settings", admin="127.0.0.1:1", workers=2)
    assert one(before, after).fields == (
        FieldChange("admin", None, "127.0.0.1:1"),
        FieldChange("workers", "auto", 2),
    )


def test_what_is_added_or_removed_lists_what_was_written() -> None:
    shop = entity("cluster", "shop", retries=0, timeouts={"connect": "1s", "tunnel": "1h"})
    added, removed = one(None, shop), one(shop, None)
    assert (added.action, removed.action) == ("add", "remove")
    assert added.fields == (
        FieldChange("retries", None, 0),
        FieldChange("timeouts.connect", None, 1000),
    )
    assert removed.fields == (
        FieldChange("retries", 0, None),
        FieldChange("timeouts.connect", 1000, None),
    )
    web = one(None, frontend("web", headers={"x-a": "1"}))
    assert FieldChange("headers.x-a.exact", None, "1") in web.fields


@pytest.mark.parametrize("name", ["numpy", "pandas", "polars"])
def test_what_the_environment_has_besides_is_not_loaded(tmp_path: Path, name: str) -> None:
    """deepdiff would: 0.15 s and 12 MB of each daemon, for values that are never compared."""
    (tmp_path / f"{name}.py").write_text("raise SystemExit(f'{__name__} is loaded')\n")
    script = (
        "from reconciler.planning import differ; differ.load()\n"
        f"import sys; assert 'deepdiff' in sys.modules and {name!r} not in sys.modules\n"
    )
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@given(ENTITY_MAPS, ENTITY_MAPS)
def test_applying_the_difference_leads_there(
    before: dict[EntityKey, Entity], after: dict[EntityKey, Entity]
) -> None:
    state = State(before.values())
    desired = after | dict.fromkeys(before.keys() - after.keys())
    changes = diff_entities(desired, state)
    state.apply(changes)
    assert state == State(after.values())
    assert diff_entities(desired, state) == ()
    assert [change.key for change in changes] == sorted(change.key for change in changes)


@given(ENTITY_MAPS, ENTITY_MAPS)
def test_the_fields_of_an_update_are_exactly_what_differs(
    before: dict[EntityKey, Entity], after: dict[EntityKey, Entity]
) -> None:
    for change in diff_entities(after, State(before.values())):
        if change.before is None or change.after is None:
            continue
        assert change.fields
        # Limits are told apart by their names where there are several.
        before_in_full, after_in_full = comparable(change.before, change.after)
        value: Json = before_in_full
        for field in change.fields:
            assert (field.before, field.missing == "from") != (field.after, field.missing == "to")
            value = _put(value, field.path.split("."), field, after_in_full)
        assert value == after_in_full


def test_an_entry_that_is_null_is_not_one_that_is_taken_out() -> None:
    """The one takes the header away, the other leaves it to policies."""
    written = frontend("web", response_headers={"set": {"x": "own", "z": "z"}})
    gone = frontend("web", response_headers={"set": {"z": "z"}})
    null = frontend("web", response_headers={"set": {"x": None, "z": "z"}})
    path = "response_headers.set.x"
    assert one(written, gone).fields == (FieldChange(path, "own", None, missing="to"),)
    assert one(written, null).fields == (FieldChange(path, "own", None),)
    assert one(gone, null).fields == (FieldChange(path, None, None, missing="from"),)
    assert one(null, gone).fields == (FieldChange(path, None, None, missing="to"),)
    sides = [one(written, each).to_json()["fields"] for each in (gone, null)]
    assert sides == [
        {path: {"from": "own", "to": None, "missing": "to"}},
        {path: {"from": "own", "to": None}},
    ]


def _put(value: Json, path: list[str], change: FieldChange, wanted: Json) -> Json:
    if not path:
        return change.after
    fields = dict(value) if isinstance(value, dict) else {}
    known = fields.keys() | (wanted.keys() if isinstance(wanted, dict) else set())
    for length in range(len(path), 0, -1):
        # A name in a path may have dots of its own.
        name = ".".join(path[:length])
        if name in known or length == 1:
            within = wanted.get(name) if isinstance(wanted, dict) else None
            inner = _put(fields.pop(name, None), path[length:], change, within)
            is_gone = change.missing == "to" and not path[length:]
            return fields if is_gone else {**fields, name: inner}
    return fields
