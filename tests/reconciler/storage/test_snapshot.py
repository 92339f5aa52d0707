from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.errors import MachineError
from reconciler.storage import snapshot
from reconciler.storage.snapshot import Header
from schemas.state import State
from tests.reconciler.entities import backend

HEADER = Header(seq=7, epoch=3, generation=5, commit="c" * 40, tree="d" * 40, applied_at="now")


def test_a_snapshot_comes_back_whole(tmp_path: Path) -> None:
    state = State(backend(f"shop/b{number}", 1 + number % 60_000) for number in range(1000))
    size = snapshot.write(tmp_path / "snapshot", HEADER, state)
    assert size == (tmp_path / "snapshot").stat().st_size
    found = snapshot.read(tmp_path / "snapshot")
    assert found is not None
    assert found[0] == HEADER
    assert found[1] == state
    assert found[1].digest == state.digest
    key = backend("shop/b9", 1).key
    assert found[1][key].provenance == state[key].provenance


def test_there_may_be_none(tmp_path: Path) -> None:
    assert snapshot.read(tmp_path / "snapshot") is None


def test_a_torn_snapshot_is_refused_wherever_it_is_torn(tmp_path: Path) -> None:
    path = tmp_path / "snapshot"
    snapshot.write(path, HEADER, State([backend("shop/a", 1), backend("shop/b", 2)]))
    content = path.read_bytes()
    for cut in range(len(content)):
        path.write_bytes(content[:cut])
        with pytest.raises(MachineError, match="is damaged"):
            snapshot.read(path)


def test_a_later_format_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(snapshot, "FORMAT", 2)
        snapshot.write(tmp_path / "snapshot", HEADER, State())
    with pytest.raises(MachineError, match="its format is 2, this version reads 1"):
        snapshot.read(tmp_path / "snapshot")


def test_an_entity_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="not an object"):
        snapshot.decode_entity(["backend", "a/b", 3, "f", 1, 1])
