"""The picture of a ladder: it is drawn, and the same steps give the same bytes."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

from bench.climb.plots import draw
from tests.bench.climb.test_steps import step


def test_a_ladder_is_drawn_the_same_each_time(tmp_path: Path) -> None:
    ladders = {
        "kakehi": [step(1000), step(2000), step(4000, ms=9, refused=2000)],
        # One that failed at once has no knee, and nothing served.
        "nginx": [step(1000, ms=0, refused=1000)],
    }
    for name in ("first", "second"):
        draw(tmp_path / "plots" / f"{name}.svg", ladders, 5)
    drawn = (tmp_path / "plots" / "first.svg").read_text()
    assert drawn == (tmp_path / "plots" / "second.svg").read_text()
    texts = {element.text for element in ET.fromstring(drawn).iter() if element.text}
    assert {"kakehi p99", "nginx not served", "Latency, backend 5 ms away (dot: knee)"} <= texts
