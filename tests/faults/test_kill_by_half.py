"""The daemon is killed when half of a write or of a message is done."""

from __future__ import annotations

from pathlib import Path

from tests.faults.killing import kill_at_calls


def test_a_kill_in_the_middle_of_a_call_leaves_one_generation(tmp_path: Path) -> None:
    kill_at_calls(tmp_path, by_half=True)
