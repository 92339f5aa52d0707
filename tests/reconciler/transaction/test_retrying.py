"""What is tried again, and for which commit."""

from __future__ import annotations

from reconciler.transaction.events import Failure
from reconciler.transaction.retrying import Retrying

TAKEN = Failure("address already in use", transient=True, kind="listener", name="web")


def test_what_fails_of_one_commit_keeps_no_other_waiting() -> None:
    """Files that the running commit names may wait while the newest is refused for good."""
    retrying = Retrying()
    assert not retrying.waits_for("newest")
    retrying.failed(TAKEN, 0.0, "running")
    assert (retrying.waits_for("running"), retrying.waits_for("newest")) == (True, False)
    retrying.clear()
    assert not retrying.waits_for("running")


def test_what_fails_of_no_commit_keeps_all_waiting() -> None:
    retrying = Retrying()
    retrying.failed(Failure("no space left", transient=True, stage="journal"), 0.0)
    assert retrying.waits_for("newest")


def test_the_time_between_two_tries_grows_to_a_bound() -> None:
    retrying, delays, now = Retrying(), list[float](), 0.0
    for _ in range(6):
        delays.append(retrying.failed(TAKEN, now, "newest"))
        assert not retrying.is_due(now + delays[-1] / 2)
        now += delays[-1]
        assert retrying.is_due(now)
    assert delays == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
