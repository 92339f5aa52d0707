"""Where a name leads, while links on the way to it are swapped."""

from __future__ import annotations

from pathlib import Path

from reconciler.source.git.way import Way


def test_swapped_links_lead_elsewhere_and_directories_made_anew_do_not(tmp_path: Path) -> None:
    base = tmp_path.resolve()
    for name in ("one", "two"):
        (base / name / "conf").mkdir(parents=True)
    (base / "links").mkdir()
    (base / "links/current").symlink_to("../one")
    (base / "live").symlink_to(base / "links/current")
    way = Way(base / "live/conf")
    assert way.links == [base, base / "links"]
    assert way.is_same()
    (base / "one/conf").rmdir()
    assert way.is_same(), "a commit took it away"
    (base / "one/conf").mkdir()
    assert way.is_same(), "the next has it again"
    (base / "links/current").unlink()
    (base / "links/current").symlink_to(base / "two")
    assert not way.is_same()
    (base / "links/current").unlink()
    (base / "links/current").symlink_to("current")
    assert not way.is_same(), "a circle leads nowhere"
    (base / "links/current").unlink()
    (base / "links/current").symlink_to(base / "two")
    assert Way(base / "live/conf").is_same()
    assert Way(base / "two/conf").links == []
