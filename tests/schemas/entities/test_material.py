import pytest
from pydantic_core import PydanticCustomError

from schemas.entities.entity import NOWHERE, Entity, EntityKey, Json
from schemas.entities.material import PATH_CHARS_MAX, Material, materials_of, parse_path, value_at

FILE: dict[str, Json] = {"path": "tls/a.pem", "sha256": "aa"}


def entity(kind: str, value: dict[str, Json]) -> Entity:
    return Entity(EntityKey(kind, "shop"), value, NOWHERE)


def test_the_files_of_a_certificate_and_of_a_cluster() -> None:
    found = entity("certificate", {"certificate": FILE, "private_key": FILE, "hostnames": []})
    assert list(materials_of(found)) == [
        Material(("certificate",), "tls/a.pem", "aa"),
        Material(("private_key",), "tls/a.pem", "aa"),
    ]
    cluster = entity("cluster", {"tls": {"ca": FILE, "certificate": None, "private_key": None}})
    assert list(materials_of(cluster)) == [Material(("tls", "ca"), "tls/a.pem", "aa")]


def test_entities_without_files() -> None:
    assert list(materials_of(entity("cluster", {"tls": None}))) == []
    assert list(materials_of(entity("backend", {"address": "127.0.0.1:1"}))) == []


def test_a_path_that_leads_nowhere() -> None:
    assert value_at({"a": {"b": 1}}, ("a", "b")) == 1
    assert value_at({"a": None}, ("a", "b")) is None
    assert value_at({}, ("a",)) is None


@pytest.mark.parametrize("path", ["a.pem", "tls/a.pem", "/etc/a.pem", "tls/a..pem", "ü.pem"])
def test_paths(path: str) -> None:
    assert parse_path(path) == path


@pytest.mark.parametrize(
    "path",
    [
        *("", "../a.pem", "a/../b.pem", "./a.pem", "a//b.pem", "a/", ".git/config", "a/.b.pem"),
        *("a\0b", "a" * (PATH_CHARS_MAX + 1), 7, None, ["a.pem"]),
    ],
)
def test_what_is_no_path(path: object) -> None:
    with pytest.raises(PydanticCustomError):
        parse_path(path)
