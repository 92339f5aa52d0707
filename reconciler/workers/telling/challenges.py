"""Hands answers to ACME challenges out to all workers, for as long as certificates are ordered.

The file in the state directory is what workers read, also those that come up meanwhile. Called by
`reconciler.acme.certifying`, and by `reconciler.workers.slots.bringup` for what a worker has to
know.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from pathlib import Path

from pydantic import ValidationError

from reconciler import log
from reconciler.durable import replace_durably
from reconciler.patience import within
from reconciler.workers.linked.worker import Worker
from schemas.messages import wire
from schemas.messages.challenges import ANSWERS_MAX, ChallengeAnswers

FILE = "challenges"
_TAKEN_WAIT_S = 5.0


class ChallengeKeeper:
    """The answers of one daemon, by the order that they belong to."""

    def __init__(
        self,
        state_dir: Path,
        workers: Callable[[], Iterable[Worker]],
        ask: Callable[[], None] = lambda: None,
    ) -> None:
        """`ask` raises `OSError` while the state directory does not answer."""
        self.path = state_dir / FILE
        self._ask = ask
        self._workers = workers
        self._given: dict[str, ChallengeAnswers] = {}
        try:
            # What a daemon before us was asked for is nobody's any more.
            self.write()
        except OSError as error:
            log.warning("no challenges can be answered", path=self.path, reason=error.strerror)

    async def give(self, order: str, answers: ChallengeAnswers) -> list[str]:
        """Give these answers for an order in place of its former ones; returns what went wrong."""
        former = self._given.pop(order, None)
        if answers.http or answers.tls:
            self._given[order] = answers
        try:
            self.write()
        except ValidationError:
            del self._given[order]
            if former is not None:
                self._given[order] = former
            return [f"there are more than {ANSWERS_MAX} hostnames to answer for at once"]
        except OSError as error:
            return [f"{self.path}: {error.strerror or error}"]
        message = wire.Challenges(path=str(self.path))
        asked = [worker.link.ask(message) for worker in self._workers()]
        if not asked:
            return ["there is no worker to answer"]
        with contextlib.suppress(TimeoutError):
            async with within(_TAKEN_WAIT_S):
                await asyncio.wait(asked)
        problems = ["a worker does not answer" for each in asked if not each.done()]
        for each in asked:
            if not each.done():
                continue
            # One that is gone has a successor, which reads the file.
            reply = None if each.exception() else each.result()
            if isinstance(reply, wire.ChallengesTaken) and reply.problem:
                problems.append(reply.problem)
        return problems

    def write(self) -> None:
        """Writes what is to be answered now. Raises `OSError`."""
        merged = ChallengeAnswers(
            http={
                token: proof for each in self._given.values() for token, proof in each.http.items()
            },
            tls={host: shown for each in self._given.values() for host, shown in each.tls.items()},
        )
        self._ask()
        replace_durably(self.path, merged.model_dump_json().encode())
