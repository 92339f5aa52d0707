from hypothesis import given

from schemas.entities.entity import KINDS, Entity
from schemas.kinds.registry import (
    MODELS,
    SECTIONS,
    defaults,
    field_at,
    fields_at,
    measured_fields,
    readable,
    written,
)
from tests.schemas.strategies import entities


def test_every_kind_has_a_model_and_a_place() -> None:
    assert set(MODELS) == set(KINDS)
    assert set(SECTIONS.values()) | {"backend"} == set(KINDS)


def test_durations_and_sizes_are_found_by_path() -> None:
    assert measured_fields("cluster")["timeouts", "connect"].unit == "duration"
    assert measured_fields("listener")["limits", "body_bytes"].unit == "size"
    assert measured_fields("settings")["drain_timeout",].unit == "duration"
    assert measured_fields("backend") == {}


def test_defaults_are_plain_and_leave_out_what_is_required() -> None:
    assert defaults("backend") == {"backup": False, "weight": 100}
    assert defaults("settings") == MODELS["settings"]().in_full()


def test_fields_are_found_through_entries_and_indexes() -> None:
    assert set(fields_at("frontend", ("query", "a"))) == {"exact", "not", "present", "regex"}
    assert set(fields_at("listener", ("error_pages", "503"))) == {"body", "content_type"}
    assert "cluster" in fields_at("frontend", ())
    field = field_at("listener", ("timeouts", "keep_alive"))
    assert field is not None
    assert field.default == 60_000
    assert field_at("listener", ("nothing",)) is None
    assert field_at("listener", ()) is None


def test_a_value_is_written_as_in_yaml() -> None:
    assert written("cluster", ("timeouts", "connect"), 3000) == "3s"
    assert written("cluster", ("timeouts",), {"connect": 90_000}) == {"connect": "90s"}
    assert written("listener", ("limits", "body_bytes"), None) is None
    assert written("cluster", ("retries",), 2) == 2


@given(entities())
def test_what_is_written_is_read_as_the_same_value(entity: Entity) -> None:
    """A value in its YAML form is a fixed point of the language, with defaults and without."""
    for value in (entity.value, readable(entity)):
        text = written(entity.key.kind, (), value)
        assert MODELS[entity.key.kind].model_validate(text).value() == entity.value
