"""Brings one worker to the running state, whatever it holds when it says welcome.

A fresh worker gets everything in one prepare. An adopted one usually holds the running generation
already; one that was caught in the middle of the last transaction is led to its end, since only the
commit record decides. Any other holds what nobody can name and is refused: the supervisor then
starts a fresh one beside it. Called by `reconciler.workers.supervisor` under its `exclusive` lock.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

from reconciler import log
from reconciler.storage.store import Begun, Store
from reconciler.workers.link import WorkerGoneError
from reconciler.workers.sockets import SocketTable
from reconciler.workers.worker import Worker
from schemas import wire
from schemas.entity import Entity, EntityKey
from schemas.ops import state_ops
from schemas.state import EMPTY_DIGEST, State

# 100,000 entities prepare in well under a second; more means that the worker hangs.
PREPARE_TIMEOUT_S = 30.0
REPLY_TIMEOUT_S = 10.0


class Bringup:
    """Knows the running state, its unfinished transaction, the sockets and the drained backends."""

    def __init__(
        self,
        store: Store,
        sockets: SocketTable,
        drained: Callable[[], list[str]],
        ticket_keys: Path,
        challenges: Path,
    ) -> None:
        self._store = store
        self._sockets = sockets
        self._drained = drained
        self._ticket_keys = ticket_keys
        self._challenges = challenges
        self.mend: Callable[[], bool] = lambda: False

    @property
    def has_commit(self) -> bool:
        """Whether there is a state that workers are brought to."""
        return len(self._store.running.state) > 0

    def is_former(self, worker: Worker) -> bool:
        """Whether it serves the running state in the form that another version had for it."""
        return (worker.generation, worker.digest) == self._store.former

    async def bring_up(self, worker: Worker) -> None:
        """Returns when the worker holds the running generation. Raises `MachineError`."""
        await self._hand_out_ticket_keys(worker)
        await self._hand_out_challenges(worker)
        running, unfinished = self._store.running, self._store.unfinished
        holds = (worker.generation, worker.digest)
        if holds == (running.generation, running.state.digest):
            await self._drop_staged(worker)
        elif unfinished and holds == (unfinished.base_generation, unfinished.base_digest):
            await self._finish(worker, unfinished)
        elif holds == (0, EMPTY_DIGEST):
            await self._bootstrap(worker)
        else:
            raise WorkerGoneError(
                f"it holds generation {worker.generation} with the digest {worker.digest}, which "
                f"is not what runs (generation {running.generation}, {running.state.digest})"
            )
        drained = self._drained()
        if drained:
            await _ask(worker, wire.Overlay(drained=drained), wire.Overlaid, REPLY_TIMEOUT_S)

    async def _hand_out_ticket_keys(self, worker: Worker) -> None:
        """Before it takes connections. Raises `WorkerGoneError`."""
        message = wire.TicketKeys(path=str(self._ticket_keys))
        taken = await _ask(worker, message, wire.TicketKeysTaken, REPLY_TIMEOUT_S)
        if isinstance(taken, wire.TicketKeysTaken) and taken.problem:
            # It has keys of its own: its clients resume at it, if not elsewhere.
            log.warning(
                "a worker has no common ticket keys", worker=worker.id, reason=taken.problem
            )

    async def _hand_out_challenges(self, worker: Worker) -> None:
        """An authority may ask any worker. Raises `WorkerGoneError`."""
        message = wire.Challenges(path=str(self._challenges))
        taken = await _ask(worker, message, wire.ChallengesTaken, REPLY_TIMEOUT_S)
        if isinstance(taken, wire.ChallengesTaken) and taken.problem:
            log.warning("a worker answers no challenges", worker=worker.id, reason=taken.problem)

    async def _drop_staged(self, worker: Worker) -> None:
        if worker.staged is not None:
            abort = wire.Abort(transaction=0, generation=worker.staged)
            await _ask(worker, abort, wire.Aborted, REPLY_TIMEOUT_S)
            worker.staged = None

    async def _finish(self, worker: Worker, begun: Begun) -> None:
        """Its transaction has a commit record: forward."""
        if worker.staged != begun.generation:
            state = State(begun.puts)
            await self._prepare(
                worker,
                wire.Prepare(
                    transaction=0,
                    generation=begun.generation,
                    base_generation=begun.base_generation,
                    base_digest=begun.base_digest,
                    commit=begun.commit,
                    ops=begun_ops(begun),
                    sockets=state.names("listener"),
                    material_dir=str(self._store.materials.directory),
                    materials=self._store.materials.needed(begun.puts),
                ),
                state,
            )
        await self._commit(worker, begun.generation, begun.digest, begun.commit)

    async def _bootstrap(self, worker: Worker) -> None:
        running = self._store.running
        if running.generation == 0:
            return
        await self._prepare(
            worker,
            wire.Prepare(
                transaction=0,
                generation=running.generation,
                base_generation=0,
                base_digest=EMPTY_DIGEST,
                commit=running.commit or "",
                ops=state_ops(running.state).decode(),
                sockets=running.state.names("listener"),
                material_dir=str(self._store.materials.directory),
                materials=self._store.materials.needed(running.state.entities.values()),
            ),
            running.state,
        )
        commit = running.commit or ""
        await self._commit(worker, running.generation, running.state.digest, commit)

    async def _prepare(self, worker: Worker, message: wire.Prepare, state: State) -> None:
        """Prepares with the sockets of the listeners that the message names."""
        descriptors = [
            self._sockets.open(worker.id, listener_address(state[EntityKey("listener", name)]))
            for name in message.sockets
        ]
        sockets = [each.fileno() for each in descriptors]
        reply = await _reply(worker, message, PREPARE_TIMEOUT_S, sockets)
        if isinstance(reply, wire.Refused) and self.mend():
            reply = await _reply(worker, message, PREPARE_TIMEOUT_S, sockets)
        if isinstance(reply, wire.Refused):
            what = f'{reply.kind} "{reply.name}": ' if reply.kind else ""
            raise WorkerGoneError(f"it refused the running state: {what}{reply.reason}")
        if not isinstance(reply, wire.Prepared):
            raise WorkerGoneError(f"it answered prepare by {reply.type}")

    async def _commit(self, worker: Worker, generation: int, digest: str, commit: str) -> None:
        message = wire.Commit(transaction=0, generation=generation)
        reply = await _ask(worker, message, wire.Committed, REPLY_TIMEOUT_S)
        assert isinstance(reply, wire.Committed)
        if reply.digest != digest:
            raise WorkerGoneError(f"it came up with the digest {reply.digest}, not {digest}")
        worker.generation, worker.digest, worker.commit = generation, digest, commit
        worker.staged = None


async def _reply(
    worker: Worker, message: wire.ToWorker, timeout_s: float, descriptors: list[int] | None = None
) -> wire.FromWorker:
    try:
        async with asyncio.timeout(timeout_s):
            return await worker.link.ask(message, descriptors)
    except TimeoutError:
        raise WorkerGoneError(f"it did not answer {message.type} in {timeout_s:g} s") from None


async def _ask(
    worker: Worker, message: wire.ToWorker, expected: type[wire.FromWorker], timeout_s: float
) -> wire.FromWorker:
    reply = await _reply(worker, message, timeout_s)
    if not isinstance(reply, expected):
        raise WorkerGoneError(f"it answered {message.type} by {reply.type}")
    return reply


def listener_address(listener: Entity) -> str:
    """The address of a listener entity."""
    address = listener.value["address"]
    assert isinstance(address, str)
    return address


def begun_ops(begun: Begun) -> str:
    """The operations of a begun transaction, in the order in which they were planned."""
    puts = [
        {"kind": entity.key.kind, "name": entity.key.name, "value": entity.value}
        for entity in begun.puts
    ]
    removes = [{"kind": key.kind, "name": key.name} for key in begun.removes]
    whole = {"puts": puts, "removes": removes}
    return json.dumps(whole, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
