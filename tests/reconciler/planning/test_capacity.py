from __future__ import annotations

from reconciler.planning import capacity
from reconciler.planning.capacity import CONFIGURATION_BYTES_MAX, Capacity
from schemas import wire
from schemas.change import Change
from schemas.entity import Entity, EntityKey, Provenance
from schemas.ops import state_ops
from schemas.state import EMPTY_DIGEST, State
from tests.reconciler.entities import backend


def listener(body: str) -> Entity:
    pages = {"503": {"body": body, "content_type": "text/html"}}
    value = {"address": "127.0.0.1:80", "error_pages": pages}
    return Entity(EntityKey("listener", "public"), dict(value), Provenance("a.yaml", 1, 1))


def frame_bytes(entities: list[Entity]) -> int:
    """What really travels when a worker starts."""
    message = wire.Prepare(
        transaction=1,
        generation=1,
        base_generation=0,
        base_digest=EMPTY_DIGEST,
        commit="c" * 40,
        ops=state_ops(State(entities)).decode(),
        sockets=[],
        material_dir="",
        materials=[],
    )
    return len(wire.encode(message))


def test_the_size_is_never_less_than_what_travels() -> None:
    for body in ("x" * 5000, '"' * 5000, "\\" * 5000, "ü\n\t" * 2000):
        entities = [listener(body), *(backend(f"shop/b{number}", number) for number in range(50))]
        counted = Capacity(entities).after(())
        # What is left over is for the message around it.
        assert frame_bytes(entities) <= counted + 4096


def test_the_size_follows_the_changes() -> None:
    one, two = backend("shop/a", 1), backend("shop/b", 20_000)
    held = Capacity([one])
    size = held.after((Change("add", two.key, None, two, ()),))
    assert size == Capacity([one, two]).after(())
    held.accept(size)
    assert held.after((Change("remove", one.key, one, None, ()),)) == Capacity([two]).after(())
    update = Change("update", two.key, two, backend("shop/b", 1), ())
    assert held.after((update,)) == size - 4


def test_what_is_too_large_is_refused_in_a_sentence() -> None:
    assert capacity.refusal(CONFIGURATION_BYTES_MAX) is None
    assert capacity.refusal(CONFIGURATION_BYTES_MAX + 1) == (
        "the whole configuration would take 60 MiB, a worker takes 60 MiB"
    )
