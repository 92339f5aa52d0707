from hashlib import blake2b

from hypothesis import given

from schemas.entities.entity import Entity, EntityKey, canonical, entity_hash
from tests.schemas.strategies import entities


def test_canonical_bytes_are_sorted_compact_and_not_escaped() -> None:
    assert canonical({"b": [1, None, True], "a": 'é"\n\x01'}) == (
        '{"a":"é\\"\\n\\u0001","b":[1,null,true]}'.encode()
    )


def test_the_hash_is_that_of_kind_name_and_value() -> None:
    content = b'cluster\0shop\0{"retries":2}'
    expected = int.from_bytes(blake2b(content, digest_size=16).digest(), "big")
    assert entity_hash(EntityKey("cluster", "shop"), {"retries": 2}) == expected


def test_a_key_reads_as_one_says_it() -> None:
    assert str(EntityKey("backend", "shop/a")) == 'backend "shop/a"'
    assert str(EntityKey("settings", "settings")) == "settings"


def _plain(value: object) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _plain(item) for key, item in value.items())
    if isinstance(value, list):
        return all(_plain(item) for item in value)
    return value is None or isinstance(value, (str, int))


@given(entities())
def test_canonical_values_are_plain_and_have_no_floats(entity: Entity) -> None:
    assert _plain(entity.value)
