"""Contents in memory are bounded, and are what their names say."""

from __future__ import annotations

import hashlib
from pathlib import Path

from reconciler.storage.kept.copies import Copies


def name_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_what_has_no_room_is_not_kept_until_there_is_some() -> None:
    copies = Copies(bytes_max=3)
    copies.hold("a", b"aa")
    copies.hold("a", b"aa")
    copies.hold("b", b"bb")
    assert (copies.get("a"), copies.get("b")) == (b"aa", None)
    copies.drop("b")
    copies.drop("a")
    copies.hold("b", b"bb")
    assert (copies.get("a"), copies.get("b")) == (None, b"bb")


def test_what_was_altered_is_no_copy(tmp_path: Path) -> None:
    (tmp_path / name_of(b"good")).write_bytes(b"good")
    (tmp_path / name_of(b"once")).write_bytes(b"altered")
    (tmp_path / ("f" * 64)).mkdir()
    copies = Copies()
    copies.fill(tmp_path)
    copies.fill(tmp_path / "nowhere")
    assert copies.get(name_of(b"good")) == b"good"
    assert copies.get(name_of(b"once")) is None
