import pytest

from reconciler.planning.differ import diff_entities
from reconciler.planning.guards import FRONTENDS_MIN, refusal
from reconciler.planning.planner import make_plan
from schemas.changes.state import State
from schemas.entities.entity import Entity, EntityKey
from tests.reconciler.building import frontend


def refused(frontends: int, kept: int, message: str, added: int = 0) -> str | None:
    running = State(frontend(f"f{number}") for number in range(frontends))
    desired: dict[EntityKey, Entity | None] = {
        frontend(f"f{number}").key: None for number in range(kept, frontends)
    }
    desired |= {frontend(f"new{number}").key: frontend(f"new{number}") for number in range(added)}
    return refusal(make_plan(diff_entities(desired, running), None), running, message)


def test_removing_everything_is_blocked_and_says_how_to_mean_it() -> None:
    reason = refused(FRONTENDS_MIN, 0, "Tidy up")
    assert reason is not None
    line = f"Kakehi-Allow: remove-frontends={FRONTENDS_MIN}"
    assert line in reason
    assert refused(FRONTENDS_MIN, 0, f"Close the shop\n\n{line}\n") is None


@pytest.mark.parametrize("line", ["Kakehi-Allow: remove-frontends=9", "remove-frontends=10", ""])
def test_only_the_exact_number_allows_it(line: str) -> None:
    assert refused(FRONTENDS_MIN, 0, f"x\n\n{line}") is not None


def test_what_leaves_or_adds_a_frontend_is_no_accident() -> None:
    assert refused(FRONTENDS_MIN, 1, "") is None
    assert refused(FRONTENDS_MIN, 0, "", added=1) is None


def test_a_small_proxy_may_be_emptied() -> None:
    assert refused(FRONTENDS_MIN - 1, 0, "") is None
    assert refused(0, 0, "") is None
