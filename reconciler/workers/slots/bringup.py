"""Brings one worker to the running state, whatever it holds when it says welcome.

A newcomer takes the whole state in while commits go on: it gets that of one moment, then what it
has missed, and takes no connections meanwhile, so that nobody is served by what it holds. An
adopted worker usually holds the running generation already; one that was caught in the middle of
the last transaction is led to its end, since only the commit record decides. Any other holds what
nobody can name and is refused: the supervisor then starts a fresh one beside it. Called by
`reconciler.workers.slots.tending`: `approach` beside whatever happens, `enter` under its
`exclusive` lock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol, TypeVar

from reconciler import log
from reconciler.patience import within
from reconciler.storage.reading.since import Missed, Moment, StateSince
from reconciler.storage.reading.state import Whole
from reconciler.storage.store import Store
from reconciler.storage.writing.begun import Begun
from reconciler.workers.linked.link import WorkerGoneError
from reconciler.workers.linked.streaming import Streaming
from reconciler.workers.linked.worker import Worker
from reconciler.workers.listening.opening import open_each
from reconciler.workers.listening.sockets import SocketTable
from reconciler.workers.telling.health import HealthTableKeeper
from reconciler.workers.telling.rates import RateTableKeeper
from schemas.changes.ops import chunks
from schemas.changes.state import EMPTY_DIGEST
from schemas.entities.entity import Entity, EntityKey
from schemas.kinds.listener import Listener
from schemas.messages import wire
from schemas.messages.files import identity

# 400,000 entities are checked in well under a second and swapped in within two, when the machine
# has time; more means that the worker hangs.
PREPARE_TIMEOUT_S = 30.0
REPLY_TIMEOUT_S = 10.0
# So much of what a newcomer has missed is left for the moment in which commits wait for it.
_MISSED_MAX = 1000
# While commits wait for it, all of a newcomer's last step takes no longer, whatever is wrong with
# it: this, and as much for each entity that it has missed.
_ENTER_S = 2.0
_ENTITY_S = 0.001
# Large changes that come as fast as it takes them in do not keep it out of service for ever.
_ROUNDS_MAX = 10


class MendedContents(Protocol):
    """Who puts back what was altered of the files that workers read."""

    @property
    def lost(self) -> frozenset[str]:
        """The contents that are nowhere any more."""

    def mend(self) -> bool:
        """Put back what can be had; tell whether anything was."""


class RefusedStateError(WorkerGoneError):
    """A worker does not take what runs: something that it needs is not to be had any more."""


_Reply = TypeVar("_Reply", bound=wire.FromWorker)
_NOTHING = Moment(0, EMPTY_DIGEST, "")


class Bringup:
    """Knows the running state, its unfinished transaction, the sockets and the drained backends."""

    def __init__(
        self,
        store: Store,
        sockets: SocketTable,
        overlay: Callable[[], wire.Overlay],
        ticket_keys: Path,
        challenges: Path,
        rates: RateTableKeeper,
        health: HealthTableKeeper,
        contents: MendedContents,
    ) -> None:
        self._store = store
        self._sockets = sockets
        self._overlay = overlay
        self._ticket_keys = ticket_keys
        self._challenges = challenges
        self._rates = rates
        self._health = health
        self._contents = contents

    @property
    def has_commit(self) -> bool:
        """Whether there is a state that workers are brought to."""
        return not self._store.running.is_empty

    @property
    def is_in_part(self) -> bool:
        """Whether what runs may be what was left of a commit: of one it is not known to be."""
        return self.has_commit and self._store.running.commit is None

    def holds_more(self, worker: Worker) -> bool:
        """Whether it may serve what this version has read a part of only."""
        running = self._store.running.moment
        return self.is_in_part and (worker.generation, worker.digest) != running[:2]

    def is_former(self, worker: Worker) -> bool:
        """Whether it serves the running state in the form that another version had for it."""
        return (worker.generation, worker.digest) == self._store.former

    def since(self) -> AbstractContextManager[StateSince]:
        """What a newcomer is brought to, first without and then with the lock."""
        return self._store.since()

    async def approach(self, worker: Worker, since: StateSince) -> None:
        """Brings a newcomer to where little is left to do. Raises `MachineError`."""
        if not _is_newcomer(worker) or since.first.generation == 0:
            return
        await self._transfer(worker, Missed(_NOTHING, since.first, since.entities, ()))
        for _ in range(_ROUNDS_MAX):
            if since.missed_count <= _MISSED_MAX:
                return
            await self._catch_up(worker, since)

    def has_begun(self, worker: Worker, since: StateSince) -> bool:
        """Whether the first state came while a newcomer waited, so that all of it is missing."""
        return (
            _is_newcomer(worker)
            and since.first.generation == 0
            and len(self._store.running.state) > _MISSED_MAX
        )

    async def enter(self, worker: Worker, since: StateSince, *, stands_by: bool) -> None:
        """Returns when the worker serves the running generation. Raises `MachineError`.

        One that stands by holds it, and takes no connections until `take_connections`.
        """
        if worker.serving:
            await self._enter(worker, since, stands_by=stands_by)
            return
        limit_s = _ENTER_S + since.missed_count * _ENTITY_S
        try:
            async with within(limit_s, worker.link.is_working):
                await self._enter(worker, since, stands_by=stands_by)
        except TimeoutError:
            raise WorkerGoneError(f"its last step took longer than {limit_s:g} s") from None

    async def take_connections(self, worker: Worker) -> None:
        """At all listeners that run, wherever it has not yet. Raises `WorkerGoneError`."""
        await self._serve(worker, self._listeners())

    async def _enter(self, worker: Worker, since: StateSince, *, stands_by: bool) -> None:
        running, unfinished = self._store.running.moment, self._store.unfinished
        if since.is_behind and (worker.generation, worker.digest) == since.taken[:2]:
            await self._catch_up(worker, since)
        holds = (worker.generation, worker.digest)
        holds_it = holds == (running.generation, running.digest)
        if holds_it:
            await self._drop_staged(worker)
        elif unfinished and holds == (unfinished.base_generation, unfinished.base_digest):
            await self._finish(worker, unfinished)
        elif holds == (0, EMPTY_DIGEST):
            entities = Whole(self._store.running.state)
            await self._transfer(worker, Missed(_NOTHING, running, entities, ()))
        else:
            raise WorkerGoneError(
                f"it holds generation {worker.generation} with the digest {worker.digest}, which "
                f"is not what runs (generation {running.generation}, {running.digest})"
            )
        # It would wait for files there that do not answer; it is told when they are written anew.
        if not self._store.place.is_silent:
            await self._hand_out_ticket_keys(worker)
            await self._hand_out_challenges(worker)
        await self._hand_out_rates(worker)
        if self._health.is_wanted:
            self._health.tell([worker])
        overlay = self._overlay()
        # One without backends as well: who was adopted may not have heard that a drain has ended.
        if overlay.kept:
            await _ask(worker, overlay, wire.Overlaid, REPLY_TIMEOUT_S)
        if stands_by:
            await self._serve(worker, {})
        elif not worker.serving:
            await self.take_connections(worker)
        elif holds_it:
            # Of a worker that was adopted: a daemon before could not have them.
            listeners = self._listeners()
            missing = listeners.keys() - worker.listening
            await self._serve(worker, {name: listeners[name] for name in missing})

    async def _hand_out_ticket_keys(self, worker: Worker) -> None:
        """Before it takes connections. Raises `WorkerGoneError`."""
        message = wire.TicketKeys(path=str(self._ticket_keys))
        taken = await _ask(worker, message, wire.TicketKeysTaken, REPLY_TIMEOUT_S)
        if taken.problem:
            # It has keys of its own: its clients resume at it, if not elsewhere.
            log.warning(
                "a worker has no common ticket keys", worker=worker.id, reason=taken.problem
            )

    async def _hand_out_challenges(self, worker: Worker) -> None:
        """An authority may ask any worker. Raises `WorkerGoneError`."""
        message = wire.Challenges(path=str(self._challenges))
        taken = await _ask(worker, message, wire.ChallengesTaken, REPLY_TIMEOUT_S)
        if taken.problem:
            log.warning("a worker answers no challenges", worker=worker.id, reason=taken.problem)

    async def _hand_out_rates(self, worker: Worker) -> None:
        """Before it lets anybody through. Raises `WorkerGoneError`."""
        with self._rates.opened() as descriptor:
            # One that was adopted has it, and perhaps no descriptor left for it.
            if descriptor is None or worker.rate_table == identity(descriptor):
                return
            taken = await _ask(
                worker, wire.RateTable(), wire.RateTableTaken, REPLY_TIMEOUT_S, [descriptor]
            )
        if taken.problem:
            log.warning("a worker counts rates by itself", worker=worker.id, reason=taken.problem)

    async def _drop_staged(self, worker: Worker) -> None:
        if worker.staged is not None:
            abort = wire.Abort(transaction=0, generation=worker.staged)
            await _ask(worker, abort, wire.Aborted, REPLY_TIMEOUT_S)
            worker.staged = None

    async def _finish(self, worker: Worker, begun: Begun) -> None:
        """Its transaction has a commit record: forward."""
        after = Moment(begun.generation, begun.digest, begun.commit)
        if worker.staged == begun.generation:
            await self._commit(worker, after)
            return
        before = Moment(begun.base_generation, begun.base_digest, "")
        await self._transfer(worker, Missed(before, after, begun.puts, begun.removes))

    async def _catch_up(self, worker: Worker, since: StateSince) -> None:
        missed = since.take()
        await self._transfer(worker, missed)
        # The others have let go of it.
        release = wire.Release(transaction=0, generation=missed.after.generation)
        await _ask(worker, release, wire.Released, REPLY_TIMEOUT_S)

    async def _transfer(self, worker: Worker, missed: Missed) -> None:
        """Brings a worker from one moment to another. Raises `WorkerGoneError`."""
        reply = await self._prepare(worker, missed)
        if isinstance(reply, wire.Refused) and (self._contents.mend() or self._contents.lost):
            reply = await self._prepare(worker, missed)
        holds = reply.digest if isinstance(reply, wire.Prepared) else None
        if holds != missed.after.digest and isinstance(missed.puts, Whole):
            # It was sent as it lies there: if that is not what was written, this says so.
            missed.puts.check()
        if isinstance(reply, wire.Refused):
            what = f'{reply.kind} "{reply.name}": ' if reply.kind else ""
            raise RefusedStateError(f"it refused the running state: {what}{reply.reason}")
        if not isinstance(reply, wire.Prepared):
            raise WorkerGoneError(f"it answered prepare by {reply.type}")
        if holds != missed.after.digest:
            raise WorkerGoneError(
                f"it came to the digest {holds} by the running state, not {missed.after.digest}"
            )
        await self._commit(worker, missed.after)

    async def _prepare(self, worker: Worker, missed: Missed) -> wire.FromWorker:
        generation = missed.after.generation
        materials, lost = self._store.materials.directory, self._contents.lost
        streaming = Streaming(0, generation, materials, lost)
        worker.without |= lost
        parts = chunks(missed.puts, missed.removes)
        sent = await streaming.send([worker.link], parts, patience_s=REPLY_TIMEOUT_S)
        if not isinstance(sent, int):
            return sent
        # A worker that does not serve yet gets its sockets when it does.
        listeners = _listeners(missed.puts) if worker.serving else {}
        message = wire.Prepare(
            transaction=0,
            generation=generation,
            base_generation=missed.before.generation,
            base_digest=missed.before.digest,
            commit=missed.after.commit,
            chunks=sent,
            sockets=list(listeners),
        )
        descriptors = self._open(worker, listeners)
        return await _reply(worker, message, PREPARE_TIMEOUT_S, descriptors)

    async def _commit(self, worker: Worker, after: Moment) -> None:
        message = wire.Commit(transaction=0, generation=after.generation)
        reply = await _ask(worker, message, wire.Committed, PREPARE_TIMEOUT_S)
        if reply.digest != after.digest:
            raise WorkerGoneError(f"it came up with the digest {reply.digest}, not {after.digest}")
        worker.now_holds(*after)

    def _listeners(self) -> dict[str, str]:
        """Those that run: name → address."""
        state = self._store.running.state
        return _listeners(state[EntityKey("listener", name)] for name in state.names("listener"))

    async def _serve(self, worker: Worker, listeners: dict[str, str]) -> None:
        await self.bind(worker, listeners)
        for name, reason in worker.unbound.items():
            log.warning(
                "a listener takes no connections", worker=worker.id, listener=name, reason=reason
            )

    async def bind(self, worker: Worker, listeners: Mapping[str, str]) -> None:
        """Has it serve at these (name → address), as far as they can be bound.

        Raises `WorkerGoneError`.
        """
        opened, unbound = open_each(self._sockets, worker.id, listeners)
        if opened or not worker.serving:
            message = wire.Serve(sockets=list(opened))
            reply = await _reply(worker, message, REPLY_TIMEOUT_S, list(opened.values()))
            if not isinstance(reply, wire.Served):
                why = reply.reason if isinstance(reply, wire.Refused) else reply.type
                raise WorkerGoneError(f"it does not serve: {why}")
            worker.serving = True
        worker.unbound = unbound

    def _open(self, worker: Worker, listeners: dict[str, str]) -> list[int]:
        addresses = listeners.values()
        return [self._sockets.open(worker.id, address).fileno() for address in addresses]


def _is_newcomer(worker: Worker) -> bool:
    return not worker.serving and (worker.generation, worker.digest) == (0, EMPTY_DIGEST)


async def _reply(
    worker: Worker, message: wire.ToWorker, timeout_s: float, descriptors: list[int] | None = None
) -> wire.FromWorker:
    try:
        async with within(timeout_s, worker.link.is_working):
            return await worker.link.ask(message, descriptors)
    except TimeoutError:
        raise WorkerGoneError(f"it did not answer {message.type} in {timeout_s:g} s") from None


async def _ask(
    worker: Worker,
    message: wire.ToWorker,
    expected: type[_Reply],
    timeout_s: float,
    descriptors: list[int] | None = None,
) -> _Reply:
    reply = await _reply(worker, message, timeout_s, descriptors)
    if not isinstance(reply, expected):
        raise WorkerGoneError(f"it answered {message.type} by {reply.type}")
    return reply


def _listeners(entities: Iterable[Entity]) -> dict[str, str]:
    """Listener name → address."""
    listeners = (entity for entity in entities if entity.key.kind == "listener")
    return {listener.key.name: listener.typed(Listener).address for listener in listeners}
