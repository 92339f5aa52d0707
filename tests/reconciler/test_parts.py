"""The parts of the daemon: whatever ends one, it comes again, and somebody is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from reconciler import parts as module
from reconciler.parts import Part, Parts, heard_again_within


def run(main: Callable[[Parts], Coroutine[Any, Any, None]]) -> None:
    async def whole() -> None:
        parts = Parts()
        try:
            async with asyncio.timeout(10):
                await main(parts)
        finally:
            await parts.stop()

    asyncio.run(whole())


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110  # nobody tells when it holds
        await asyncio.sleep(0.005)


async def end_by_raising() -> None:
    raise PermissionError(13, "Permission denied")


async def end_by_returning() -> None:
    return


async def end_by_a_cancelled_future() -> None:
    future = asyncio.get_running_loop().create_future()
    future.cancel()
    await future


@pytest.mark.parametrize("ending", [end_by_raising, end_by_returning, end_by_a_cancelled_future])
def test_one_that_ends_comes_again_and_is_told(
    ending: Callable[[], Coroutine[Any, Any, None]], capsys: pytest.CaptureFixture[str]
) -> None:
    async def main(parts: Parts) -> None:
        starts = 0

        async def work() -> None:
            nonlocal starts
            starts += 1
            await (ending() if starts < 3 else asyncio.sleep(3600))

        part = parts.start("work", work)
        await until(lambda: part.state == "restarting")
        await until(lambda: starts == 3)
        assert (part.state, part.restarts) == ("running", 2)
        [warning] = parts.warnings()
        assert "'work' was started again" in warning

    run(main)
    said = capsys.readouterr().err
    assert said.count("starting a part again") == 2
    assert "Traceback" not in said


def test_what_failed_long_ago_is_no_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STABLE_AFTER_S", 0.2)

    async def main(parts: Parts) -> None:
        failures = [OSError("once")]

        async def work() -> None:
            if failures:
                raise failures.pop()
            await asyncio.sleep(3600)

        part = parts.start("work", work)
        await until(lambda: part.restarts == 1)
        assert parts.warnings() != []
        await until(lambda: parts.warnings() == [])

    run(main)


def test_one_that_keeps_failing_is_started_ever_slower() -> None:
    async def main(parts: Parts) -> None:
        part = parts.start("work", end_by_raising)
        await asyncio.sleep(1)
        assert 2 <= part.restarts <= 4
        assert part.state == "restarting"

    run(main)


def test_one_that_is_done_is_done() -> None:
    async def main(parts: Parts) -> None:
        part = parts.start("ready", end_by_returning, once=True)
        await until(lambda: part.done)
        assert parts.all() == []
        assert parts.warnings() == []

    run(main)


def test_one_that_hangs_is_overdue() -> None:
    async def main(parts: Parts) -> None:
        freed = asyncio.Event()

        async def work() -> None:
            heard_again_within(0.1)
            await freed.wait()
            heard_again_within(60)
            await asyncio.sleep(3600)

        part = parts.start("work", work)
        await asyncio.sleep(0.05)
        assert parts.overdue() == []
        await until(lambda: parts.overdue() == ["work"])
        assert part.state == "silent"
        assert "hangs" in parts.warnings()[0]
        freed.set()
        await until(lambda: parts.overdue() == [])

    run(main)


def test_starting_twice_runs_once_and_a_leaving_one_is_followed_by_another() -> None:
    async def main(parts: Parts) -> None:
        async def work() -> None:
            await asyncio.sleep(3600)

        first: Part = parts.start("work", work)
        assert parts.start("work", work) is first
        first.cancel()
        second = parts.start("work", work)
        assert second is not first
        await first.ended()
        assert parts.all() == [second]
        await parts.stop(but=[second])
        assert not second.done

    run(main)
