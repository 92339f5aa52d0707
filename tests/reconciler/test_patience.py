"""Deadlines that count the time in which we ran."""

from __future__ import annotations

import asyncio
import os
import time

import pytest

from reconciler.patience import Countdown, within


@pytest.mark.parametrize("seconds", [0.0, 0.05, 0.7])
def test_it_passes_in_its_time(seconds: float) -> None:
    async def main() -> float:
        passed = asyncio.Event()
        began = time.monotonic()
        Countdown(seconds, passed.set)
        await passed.wait()
        return time.monotonic() - began

    assert seconds <= asyncio.run(main()) < seconds + 0.6


def test_what_is_cancelled_never_passes() -> None:
    async def main() -> None:
        passed: list[bool] = []
        countdown = Countdown(0.05, lambda: passed.append(True))
        countdown.cancel()
        await asyncio.sleep(0.2)
        assert passed == []

    asyncio.run(main())


def test_time_in_which_we_did_not_run_counts_as_one_slice() -> None:
    async def main() -> None:
        passed: list[bool] = []
        countdown = Countdown(2.0, lambda: passed.append(True))
        await asyncio.sleep(0)
        time.sleep(3.0)  # noqa: ASYNC251  # that is the fault
        await asyncio.sleep(0.5)
        assert passed == []
        countdown.cancel()

    asyncio.run(main())


def test_what_has_come_is_read_before_the_end_is_told() -> None:
    """The answer waits in the pipe when the loop wakes up behind the deadline."""

    async def main() -> bytes:
        read_end, write_end = os.pipe()
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().add_reader(
            read_end, lambda: answer.done() or answer.set_result(os.read(read_end, 10))
        )
        try:
            async with within(0.3):
                asyncio.get_running_loop().call_soon(_hold_up, write_end)
                return await answer
        finally:
            asyncio.get_running_loop().remove_reader(read_end)
            os.close(read_end)
            os.close(write_end)

    assert asyncio.run(main()) == b"here"


def _hold_up(write_end: int) -> None:
    time.sleep(1.0)
    os.write(write_end, b"here")


def test_it_is_a_timeout_and_leaves_nothing_behind() -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with within(0.05):
                await asyncio.sleep(60)
        async with within(None):
            await asyncio.sleep(0.05)
        async with within(0.1):
            pass
        await asyncio.sleep(0.3)

    asyncio.run(main())


def test_who_is_excused_has_as_long_again() -> None:
    async def main() -> int:
        asked = 0

        def is_excused() -> bool:
            nonlocal asked
            asked += 1
            return asked < 3

        began = time.monotonic()
        with pytest.raises(TimeoutError):
            async with within(0.05, is_excused):
                await asyncio.sleep(30)
        assert 0.15 <= time.monotonic() - began < 5
        return asked

    assert asyncio.run(main()) == 3
