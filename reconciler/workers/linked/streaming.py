"""Streams a change to workers chunk by chunk, no faster than the slowest of them takes it in.

A chunk is encoded when there is room for it, once for all workers, and at most a few are on their
way: so a change of any size takes bounded memory here, and the loop belongs to others between two
chunks. Called by `reconciler.workers.slots.bringup` for one worker and by
`reconciler.transaction.attempt` for all of a transaction.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from reconciler import faults
from reconciler.workers.linked.link import Link, WorkerGoneError
from schemas.changes.ops import Chunk
from schemas.messages import wire
from schemas.record import record

# While a worker stages one, the next lies in its socket and another is being encoded.
WINDOW = 3

Reply = asyncio.Future[wire.FromWorker]


def _ignore(_index: int, _reply: Reply) -> None:
    return


@record
class Streaming:
    """Where a change leads, and where the contents are that its entities name."""

    transaction: int
    generation: int
    material_dir: Path
    lost: frozenset[str] = frozenset()
    """Contents without which a newcomer is better than none."""

    async def send(
        self,
        links: Sequence[Link],
        chunks: Iterable[Chunk],
        asked: Callable[[int, Reply], None] = _ignore,
        patience_s: float | None = None,
    ) -> int | wire.FromWorker:
        """Returns how many chunks there were, or the answer that shows that it is no use to go on.

        `asked` is told of each answer that will come, by the index of its link. The answers to the
        last few chunks are not waited for: whoever is asked next answers after them, and is as
        refused. Raises `WorkerGoneError`, also when a chunk is not answered in `patience_s`.
        """
        unanswered: deque[list[Reply]] = deque()
        count = 0
        for chunk in chunks:
            if len(unanswered) == WINDOW:
                oldest = unanswered.popleft()
                await _answers(oldest, links, patience_s)
                for answer in (reply.result() for reply in oldest):
                    if not isinstance(answer, wire.Staged):
                        return answer
            frame = wire.encode(self._message(count, chunk))
            replies = [link.ask_encoded(frame) for link in links]
            for index, reply in enumerate(replies):
                asked(index, reply)
            unanswered.append(replies)
            count += 1
            faults.point("chunk.sent")
            # Encoding a chunk takes some milliseconds: others come first.
            await asyncio.sleep(0)
        return count

    def _message(self, number: int, chunk: Chunk) -> wire.Stage:
        return wire.Stage(
            transaction=self.transaction,
            generation=self.generation,
            number=number,
            ops=chunk.ops,
            material_dir=str(self.material_dir),
            materials=chunk.materials,
            lost=sorted(self.lost.intersection(chunk.materials)),
        )


async def _answers(replies: list[Reply], links: Sequence[Link], patience_s: float | None) -> None:
    """Wait for them, and for whoever says that he works. Raises `WorkerGoneError`."""
    waiting: set[Reply] = {*replies}
    while waiting:
        _, waiting = await asyncio.wait(waiting, timeout=patience_s)
        if waiting and not any(link.is_working() for link in links):
            raise WorkerGoneError(f"it took no part of the state in {patience_s:g} s")
