"""What becomes of questions that get no answer."""

from __future__ import annotations

import asyncio
import gc
import socket
from typing import Any

import pytest

from reconciler.workers.linked.link import Link, WorkerGoneError
from schemas.messages import wire


@pytest.mark.parametrize("moment", ["before", "after"])
def test_an_answer_that_nobody_waits_for_is_no_error(moment: str) -> None:
    """A worker is asked whether it still answers, and may be gone by then."""

    async def converse() -> list[dict[str, Any]]:
        stray: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: stray.append(context))
        ours, theirs = socket.socketpair()
        link = Link(ours)
        if moment == "after":
            link.close("it is replaced")
        link.ask(wire.Overlay(drained=[]))
        waited_for = link.ask(wire.Overlay(drained=[]))
        link.close("it is replaced")
        with pytest.raises(WorkerGoneError):
            await waited_for
        theirs.close()
        await asyncio.sleep(0)
        gc.collect()
        return stray

    assert asyncio.run(converse()) == []


def test_what_has_come_is_read_before_a_question_that_cannot_be_sent_ends_it() -> None:
    """A daemon that was paused meanwhile would not hear that it was replaced, and start workers."""

    async def converse() -> tuple[int | None, list[str]]:
        ours, theirs = socket.socketpair()
        heard: list[str] = []
        link = Link(ours, lambda _, message: heard.append(message.type))
        theirs.sendall(wire.encode(wire.Stale(epoch=7)))
        theirs.close()
        # Nothing of it has been read by the loop.
        with pytest.raises(WorkerGoneError):
            await link.ask(wire.Overlay(drained=[]))
        return link.outranked_by, heard

    assert asyncio.run(converse()) == (7, ["stale"])


def test_who_says_that_he_works_is_asked_anew_so_to_speak() -> None:
    """Whoever counts how long a question is open begins again, and it is answered by its answer."""

    async def converse() -> None:
        ours, theirs = socket.socketpair()
        link = Link(ours)
        answer = link.ask(wire.Overlay(drained=[]))
        asked = link.awaited
        assert not link.is_working()
        theirs.sendall(wire.encode(wire.Working()))
        while link.awaited == asked:  # noqa: ASYNC110  # the link tells nobody
            await asyncio.sleep(0)
        assert link.is_working()
        assert not answer.done()
        theirs.sendall(wire.encode(wire.Overlaid(drained=[])))
        assert await answer == wire.Overlaid(drained=[])
        assert link.awaited is None
        assert not link.is_working()
        link.close("it is over")
        theirs.close()

    asyncio.run(converse())
