"""Whoever asks while a large commit is staged and written does not wait for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.changes.reconfigure import Subject
from bench.changes.site import asking

# What one question waits for at most: by the clock, which other work shows in.
pytestmark = pytest.mark.timed

# As many as are staged beside the loop, and not by a process of their own.
_FRONTENDS = 1_000
_WAITED_S_MAX = 0.05
_TRIES = 8


def test_a_question_is_answered_while_a_thousand_entities_are_committed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    waited_s = []
    with Subject(tmp_path, _FRONTENDS, per_file=1).running() as subject:
        while len(waited_s) < _TRIES and min(waited_s, default=1) > _WAITED_S_MAX:
            with asking(subject) as longest_s:
                subject.change(count=_FRONTENDS)
            waited_s.append(longest_s())
    with capsys.disabled():
        print(f"\nlongest wait of a question, s: {', '.join(f'{each:.3f}' for each in waited_s)}")
    # Another program may take the processor away, but not each time.
    assert min(waited_s) <= _WAITED_S_MAX
