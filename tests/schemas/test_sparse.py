"""Canonical values: what differs from its default, and nothing else."""

from __future__ import annotations

from typing import Annotated, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from reconciler.language.document import read_document
from reconciler.language.raw import raw_entities
from reconciler.language.validator import validate
from schemas.base import Model
from schemas.changes.state import State
from schemas.describing.jsonschema import language
from schemas.entities.entity import NOWHERE, Entity, EntityKey, canonical_text, entity_hash
from schemas.kinds.cluster import Cluster, ClusterTimeouts
from schemas.kinds.frontend import Frontend
from schemas.kinds.listener import Listener
from schemas.kinds.registry import MODELS, full
from schemas.kinds.settings import Settings
from schemas.messages import wire
from tests.schemas.strategies import RAW, entities


@given(entities())
def test_a_value_leads_to_the_model_and_back(entity: Entity) -> None:
    kind = MODELS[entity.key.kind]
    model = kind.of_value(entity.value)
    assert model.value() == entity.value
    assert kind.of_value(model.in_full()).value() == entity.value, (
        "defaults that are written are none"
    )
    assert entity.typed(kind) == model
    assert model.in_full() == full(entity)


@given(st.sampled_from(sorted(RAW)).flatmap(lambda kind: st.tuples(st.just(kind), RAW[kind])))
def test_what_is_made_of_a_value_is_what_was_validated(
    drawn: tuple[str, dict[str, object]],
) -> None:
    kind, raw = drawn
    model = MODELS[kind].model_validate(raw)
    assert MODELS[kind].of_value(model.value()) == model


@given(entities())
def test_no_default_is_in_a_value(entity: Entity) -> None:
    kind = MODELS[entity.key.kind]
    required = {name for name, field in kind.model_fields.items() if field.is_required()}
    least = kind.of_value({name: entity.value[name] for name in required}).in_full()
    assert [
        name for name in entity.value.keys() - required if full(entity)[name] == least[name]
    ] == []


def test_a_map_within_is_left_out_where_it_says_nothing() -> None:
    written = {"limits": {"head_bytes": "64KiB"}, "timeouts": {"connect": "3s", "tunnel": "2h"}}
    assert Cluster.model_validate(written).value() == {"timeouts": {"tunnel": 7_200_000}}
    # What is null by default is there when it is not.
    assert Cluster.model_validate({"tls": {"verify": True}}).value() == {"tls": {}}


def test_an_entity_says_what_it_is_and_no_other() -> None:
    entity = Entity(EntityKey("listener", "web"), {"address": "127.0.0.1:1"}, NOWHERE)
    assert entity.typed(Listener).timeouts.keep_alive == 60_000
    assert entity.typed(Listener) is entity.typed(Listener)
    with pytest.raises(TypeError, match='listener "web" is no settings'):
        entity.typed(Settings)


class LaterTimeouts(ClusterTimeouts):
    first_byte: int = 7


class LaterCluster(Cluster):
    """As a later release has it: with keys more, here and in a map within."""

    KIND: ClassVar[str] = "cluster"
    hedge: Annotated[bool, Field(description="More.")] = False
    timeouts: Annotated[LaterTimeouts, Field(description="More.")] = LaterTimeouts()


class LaterFrontend(Frontend):
    KIND: ClassVar[str] = "frontend"
    notes: list[str] = Field(default_factory=list)
    queue: Model | None = None


FILE = b"""\
clusters:
  shop: {timeouts: {connect: 1s}, retries: 1}
  cart: {}
frontends:
  web: {cluster: shop, listeners: [public], path: {prefix: /a}, upgrades: []}
"""


def digests() -> list[int]:
    found = [validate(raw) for raw in raw_entities(read_document("a.yaml", FILE))]
    assert len(found) == 3
    assert None not in found
    return [entity_hash(each.key, each.value) for each in found if each is not None]


def test_a_release_that_adds_keys_changes_no_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    before = digests()
    monkeypatch.setitem(MODELS, "cluster", LaterCluster)
    monkeypatch.setitem(MODELS, "frontend", LaterFrontend)
    assert digests() == before
    shop = Entity(EntityKey("cluster", "shop"), {"retries": 1}, NOWHERE)
    assert full(shop)["hedge"] is False, "the key is there"


def test_the_digest_of_a_value_is_what_it_is() -> None:
    """Written down, so that nobody changes it without knowing: workers are replaced for it."""
    value = Frontend.model_validate({"cluster": "shop", "listeners": ["web"]}).value()
    assert canonical_text(value) == '{"cluster":"shop","listeners":["web"]}'
    digest = State([Entity(EntityKey("frontend", "web"), value, NOWHERE)]).digest
    assert digest == "24217bd3b8eccb17ee7941646a5b8bb6"


def test_another_language_is_another_protocol() -> None:
    """A worker of before knows no key that is new, and takes a default of before for granted.

    Where this fails, keys or defaults have changed: `wire.PROTOCOL` goes up, `wire.LANGUAGE` is
    what is found, and both are written here.
    """
    assert language() == wire.LANGUAGE
    assert (wire.PROTOCOL, wire.LANGUAGE) == (47, "b8d8c7f0c76e23ea")


def test_bytes_of_a_frontend_its_cluster_and_two_backends() -> None:
    written: list[tuple[str, dict[str, object]]] = [
        ("cluster", {}),
        ("backend", {"address": "10.0.0.1:9001"}),
        ("backend", {"address": "10.0.0.2:9001"}),
        (
            "frontend",
            {"cluster": "tenant-1", "hostname": "tenant-1.example.com", "listeners": ["public"]},
        ),
    ]
    models = [MODELS[kind].model_validate(fields) for kind, fields in written]
    before = sum(len(canonical_text(model.in_full())) for model in models)
    now = sum(len(canonical_text(model.value())) for model in models)
    print(f"{now} bytes, {before} with defaults")
    assert now <= 150
