"""What all expressions take is bounded; what runs above the bound goes on, and may shrink."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.catalog.views import MemoryView, StagedView
from tests.reconciler.building import frontend
from tests.reconciler.catalog.configuration import Catalog

# Half a mebibyte each.
LARGE = "(?:[a-z]{1000}){12}"


def document(count: int, limit: str = "2MiB", **more: str) -> dict[str, bytes]:
    """Frontends of which each has a large expression of its own, but for those of `more`."""
    lines = [
        f"settings: {{max_expression_bytes: {limit}}}",
        "listeners: {main: {address: '127.0.0.1:80'}}",
    ]
    lines.append("frontends:")
    patterns = {f"f{number}": f"/{number}/{LARGE}" for number in range(count)} | more
    for name, pattern in patterns.items():
        lines.append(f"  {name}:")
        lines.append(f"    hostname: {name}.test")
        lines.append("    listeners: [main]")
        lines.append("    respond: {status: 200}")
        lines.append(f'    path: {{regex: "{pattern}"}}')
    return {"kakehi.yaml": "\n".join(lines).encode()}


def errors(catalog: Catalog, files: dict[str, bytes]) -> list[str]:
    found = catalog.stage(files)
    if found.ok:
        catalog.accept(found)
    return [each.render() for each in found.diagnostics if each.severity == "error"]


def test_the_sum_is_an_error_at_the_largest_that_a_change_brings() -> None:
    catalog = Catalog()
    assert errors(catalog, document(3)) == []
    [told] = errors(catalog, document(3, wide=f"/wide/{LARGE}z{{900}}"))
    assert told.startswith("kakehi.yaml:23:")
    assert 'frontend "wide": path.regex: with it all expressions take 2.' in told
    assert "settings.max_expression_bytes allows 2MiB" in told
    assert 'the largest: frontend "wide" (kakehi.yaml:19) 6' in told
    assert "raise settings.max_expression_bytes" in told
    assert errors(catalog, document(3, limit="3MiB", wide=f"/wide/{LARGE}z{{900}}")) == []


def test_who_has_the_same_expression_counts_once() -> None:
    same = {f"same{number}": f"/same/{LARGE}" for number in range(20)}
    catalog = Catalog()
    assert errors(catalog, document(2, **same)) == []
    assert catalog.view.weight() == MemoryView(catalog.entities()).weight()
    assert errors(catalog, document(3, **same)) != []


def test_what_runs_above_the_bound_may_change_and_shrink_but_not_grow() -> None:
    catalog = Catalog()
    assert errors(catalog, document(5, limit="3MiB")) == []
    [told] = errors(catalog, document(5, limit="2MiB"))
    assert told.startswith("kakehi.yaml:1:34: settings: max_expression_bytes: with it all ")
    # As a version without a bound has left it.
    above = Catalog()
    for entity in Catalog().stage(document(5, limit="3MiB")).desired.values():
        assert entity is not None
        above.view.put(entity)
    running = above.stage(document(5, limit="3MiB"))
    above.accept(running)
    settings = next(each for each in above.entities() if each.key.kind == "settings")
    above.view.put(replace(settings, value={"max_expression_bytes": 2 << 20}))
    assert above.view.weight() > 2 << 20
    assert errors(above, document(5, small="/small/[0-9]+")) != []
    assert errors(above, document(4, small="/small/[0-9]+")) == []
    assert errors(above, document(3, small="/small/[0-9]+")) == []
    assert above.view.weight() < 2 << 20


@pytest.mark.parametrize("kept", [0, 1, 3])
def test_a_change_is_weighed_by_what_it_changes(kept: int) -> None:
    before = [frontend(f"f{each}", path={"regex": f"/{each % 3}/[0-9]+"}) for each in range(6)]
    after = [frontend(f"f{each}", path={"regex": f"/{each}/[a-z]+"}) for each in range(kept, 6)]
    desired = {each.key: None for each in before[:2]} | {each.key: each for each in after}
    base = MemoryView(before)
    view = StagedView(base, desired, {})
    found = {each.key: each for each in before} | desired
    whole = MemoryView(each for each in found.values() if each is not None)
    assert view.weight() == whole.weight()
    assert view.weight() != base.weight()
    assert view.heaviest(2) == whole.heaviest(2)
