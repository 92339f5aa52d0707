"""The benchmark of a large site runs, and says of each figure what is wanted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.changes import site
from bench.measuring import report


def test_every_figure_is_measured_and_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    site.run(12, 3, sampled=True, starts=2)
    [written] = tmp_path.iterdir()
    figures = json.loads(written.read_text())["figures"]
    assert len(figures) == 21
    assert all(each["found"] > 0 for each in figures)
    printed = capsys.readouterr().out
    for each in figures:
        assert each["what"] in printed
    missed = [each for each in figures if each["found"] > each["wanted"]]
    assert printed.count(" missed") == len(missed)
    # Where the time of a missed one went, by process and by function.
    timed = [each for each in missed if each["unit"] != "MB"]
    assert printed.count("of processor time: daemon") == len(timed)
    assert not timed or "%  reconciler/" in printed
