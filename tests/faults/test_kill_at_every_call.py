"""The daemon is killed at each call of one apply, before it (D04)."""

from __future__ import annotations

from pathlib import Path

from tests.faults.killing import kill_at_calls


def test_a_kill_at_any_call_leaves_one_generation(tmp_path: Path) -> None:
    kill_at_calls(tmp_path, by_half=False)
