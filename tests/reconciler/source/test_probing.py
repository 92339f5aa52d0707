"""A repository that hangs holds up the probe, and nobody else."""

from __future__ import annotations

import asyncio
import threading

import pytest

from reconciler.source.probing import Probe, StalledError


def test_an_answer_of_any_kind_is_one() -> None:
    async def run() -> None:
        asked: list[int] = []

        def check() -> None:
            asked.append(1)
            raise OSError("gone")

        probe = Probe(check)
        await probe.wait()
        await probe.wait()
        assert len(asked) == 2

    asyncio.run(run())


def test_one_that_hangs_is_not_asked_again_before_it_answers() -> None:
    async def run() -> None:
        asked: list[int] = []
        go = threading.Event()

        def check() -> None:
            asked.append(1)
            go.wait(30)

        probe = Probe(check, answer_s=0.05)
        for _ in range(3):
            with pytest.raises(StalledError, match="has not answered"):
                await probe.wait()
        assert len(asked) == 1
        go.set()
        await probe.wait()
        await probe.wait()
        assert len(asked) == 2

    asyncio.run(run())
