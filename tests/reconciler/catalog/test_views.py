"""Three views of one configuration answer alike: memory, an overlay, and the database."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given

from reconciler.catalog.relations import View, relations_of
from reconciler.catalog.views import MemoryView, StagedView, laid_over
from reconciler.storage.store import Store
from schemas.entities.entity import KINDS, Entity, EntityKey
from tests.reconciler.entities import at_once, begun
from tests.schemas.strategies import ENTITY_MAPS

Map = dict[EntityKey, Entity]


def answers(view: View, entities: Iterable[Entity]) -> dict[str, object]:
    """Everything that can be asked about some entities."""
    found: dict[str, object] = {}
    for entity in entities:
        found[str(entity.key)] = (view.get(entity.key), entity.key in view)
        for row in relations_of(entity):
            found[f"{row.relation} {row.term}"] = view.related(row.relation, row.term)
            found[f"{row.relation} {row.term[:2]}*"] = view.related_under(
                row.relation, row.term[:2]
            )
    for kind in KINDS:
        names = view.names(kind)
        found[kind] = (names, view.count(kind), view.names(kind, names[0][:1] if names else "x"))
    return found


@given(ENTITY_MAPS)
def test_what_is_removed_leaves_no_trace(found: Map) -> None:
    view = MemoryView(found.values())
    for key in found:
        view.remove(key)
    assert not any(view._rows.values())
    assert not any(view._names.values())


@given(ENTITY_MAPS, ENTITY_MAPS)
def test_an_overlay_answers_like_the_whole(before: Map, after: Map) -> None:
    desired: dict[EntityKey, Entity | None] = dict.fromkeys(list(before)[::2]) | after
    merged = {key: each for key, each in before.items() if key not in desired} | after
    overlay = StagedView(MemoryView(before.values()), desired, {})
    every = [*before.values(), *after.values()]
    assert answers(overlay, every) == answers(MemoryView(merged.values()), every)
    for base in (MemoryView(before.values()), MemoryView()):
        over = StagedView(base, desired, {})
        assert answers(laid_over(base, desired, {}), every) == answers(over, every)


@given(ENTITY_MAPS, ENTITY_MAPS)
def test_the_database_answers_like_memory(
    tmp_path_factory: pytest.TempPathFactory, before: Map, after: Map
) -> None:
    directory: Path = tmp_path_factory.mktemp("state")
    store = Store(directory, relations_of)
    removes = tuple(list(before)[::2])
    kept = {key: each for key, each in before.items() if key not in removes or key in after}
    for puts, gone in ((before, ()), (after, tuple(key for key in removes if key not in after))):
        at_once(store.commit(begun(store.running, tuple(puts.values()), gone)))
        at_once(store.done())
    every = [*before.values(), *after.values()]
    whole = MemoryView((kept | after).values())
    try:
        assert answers(store.running.state, every) == answers(whole, every)
        with store.snapshot() as snapshot:
            assert answers(snapshot.state, every) == answers(whole, every)
    finally:
        store.close()
    again = Store(directory, relations_of)
    assert answers(again.running.state, every) == answers(whole, every)
    again.close()
