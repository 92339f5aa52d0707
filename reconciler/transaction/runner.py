"""Runs one transaction: executes the machine's commands with database, sockets and workers.

The machine (`reconciler.transaction.transaction`) decides, this does: it makes the listening
sockets that the plan needs before anybody is told, sends, times, writes, and turns replies into
events. It holds the supervisor's `exclusive` lock from the first to the last step. Called by
`reconciler.loop.reconcile`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import partial
from typing import Protocol

from reconciler import faults, log
from reconciler.patience import within
from reconciler.storage.file.database import DamagedError
from reconciler.storage.store import Store
from reconciler.storage.writing.begun import Begun
from reconciler.transaction import events
from reconciler.transaction.access_log import silent, unwritable
from reconciler.transaction.attempt import Attempt
from reconciler.transaction.events import Command, Event, Failure, Phase
from reconciler.transaction.transaction import Transaction
from reconciler.workers.linked.worker import Worker
from reconciler.workers.listening.descriptors import PER_LISTENER, room_of
from reconciler.workers.listening.opening import holder_of
from reconciler.workers.listening.sockets import BindError, SocketTable, room, without_room
from reconciler.workers.slots.supervisor import Supervisor
from schemas.changes.change import Change, of_kinds
from schemas.entities.entity import SETTINGS_KEY, Entity, EntityKey
from schemas.kinds.listener import Listener
from schemas.kinds.settings import Settings
from schemas.messages import wire
from schemas.messages.frames import LISTENERS_MAX

# Of each chunk of the change, and of the check of the whole.
PREPARE_DEADLINE_S = 10.0
# These are one turn of an event loop; a worker that takes seconds is stopped or hangs.
COMMIT_DEADLINE_S = 5.0
# A turn takes some microseconds for each entity: only with very many does it show.
COMMIT_ENTITY_S = 50e-6
ABORT_DEADLINE_S = 5.0
RELEASE_DEADLINE_S = 5.0
# How long the start waits for a worker before it goes on without it.
COMPLETE_WAIT_S = 10.0
# How long a commit waits for somebody to serve it, when nobody does.
SERVICE_WAIT_S = 30.0
PARTING_WAIT_S = 2.0

_DEADLINES_S = {
    Phase.PREPARING: PREPARE_DEADLINE_S,
    Phase.COMMITTING: COMMIT_DEADLINE_S,
    Phase.ABORTING: ABORT_DEADLINE_S,
    Phase.RELEASING: RELEASE_DEADLINE_S,
}


class Admin(Protocol):
    """What else has to be bound before a plan can be promised: the metrics' address."""

    @property
    def address(self) -> str | None:
        """Where they are served now."""

    def check(self, address: str | None, given: Collection[str]) -> None:
        """Tries whether it could be bound. Raises `BindError`."""

    def prepare(self, address: str | None, given: Collection[str]) -> None:
        """Binds the address beside the one that serves. Raises `BindError`.

        It may be one that listeners have `given` up, and have until then.
        """

    def leave(self) -> None:
        """Serves no longer where a listener is to, unless `abort` follows."""

    def commit(self) -> None:
        """Serves at what was prepared, and no longer at the one before."""

    def abort(self) -> None:
        """Closes what was prepared, and serves again what it left."""


class Runner:
    """Runs transactions, one at a time."""

    def __init__(
        self,
        store: Store,
        supervisor: Supervisor,
        sockets: SocketTable,
        admin: Admin,
        recorded: Callable[[str], None],
    ) -> None:
        """`recorded` hears of a commit that only goes forward from now on."""
        self._store = store
        self._supervisor = supervisor
        self._sockets = sockets
        self._admin = admin
        self._recorded = recorded
        self._numbers = 0
        self.open: Transaction | None = None
        self.begun: Begun | None = None

    async def run(self, begun: Begun) -> Failure | None:
        """Returns None when every worker holds the generation, else why none does."""
        await self._wait_for_service()
        await self._wait_for_parting()
        if (failure := await _silent_log(begun.puts)) is not None:
            return failure
        async with self._supervisor.exclusive:
            workers = self._supervisor.in_service
            if not workers:
                if self._supervisor.is_stuck:
                    return await self._record_alone(begun)
                return Failure("no worker is in service", transient=True)
            opened: list[tuple[int, str]] = []
            try:
                given = self._sockets.addresses()
                sockets = self._open_sockets(begun, workers, opened)
                self._prepare_admin(begun, given)
                failure = await self._run(begun, workers, sockets)
            except _Unbindable as error:
                failure = error.failure
            finally:
                if self._store.running.generation != begun.generation:
                    self._sockets.discard(opened)
                    self._admin.abort()
            if failure is not None:
                return _as_the_machine_has_it(failure, begun.puts)
            self._settle_sockets()
        await self._serve_admin()
        return None

    async def _serve_admin(self) -> None:
        """Behind the commit point: what fails here is told, and undoes nothing."""
        try:
            self._admin.commit()
        except OSError as error:
            log.warning("the admin listener is not served", reason=error.strerror or error)

    async def finish(self) -> None:
        """After a restart: what the last transaction left undone, once all workers are up."""
        async with self._supervisor.exclusive:
            begun = self._store.unfinished
            if begun is None:
                return
            for worker in self._supervisor.in_service.values():
                message = wire.Release(transaction=0, generation=begun.generation)
                worker.link.ask(message)
            await self._note_done()
            self._settle_sockets()

    async def settle_in(self) -> None:
        """Waits for all workers at the start, so that what was left undone is done with them.

        One that cannot come up does not hold up the others for ever.
        """
        await _wait(lambda: self._supervisor.complete, COMPLETE_WAIT_S)

    async def _record_alone(self, begun: Begun) -> Failure | None:
        """Have the next workers brought to this instead of what none of them takes.

        Nobody serves, so that there is nothing to lose; and otherwise nothing could ever mend it.
        """
        recorded = await self._record_commit(begun)
        if isinstance(recorded, events.RecordFailed):
            return Failure(recorded.reason, transient=True)
        self._tell_recorded(begun)
        await self._note_done()
        self._settle_sockets()
        return None

    async def _wait_for_service(self) -> None:
        """One worker is enough: those that are on their way catch up with it."""
        await _wait(
            lambda: bool(self._supervisor.in_service) or self._supervisor.is_stuck, SERVICE_WAIT_S
        )

    async def _wait_for_parting(self) -> None:
        """What a worker that hangs was sent, and has not read, keeps its address taken."""

        def is_over() -> bool:
            return not any(slot.is_parting for slot in self._supervisor.slots)

        if not is_over():
            await _wait(is_over, PARTING_WAIT_S)

    # What has to be there before anybody is told.

    def _open_sockets(
        self, begun: Begun, workers: dict[int, Worker], opened: list[tuple[int, str]]
    ) -> dict[int, dict[str, int]]:
        """Per worker: listener name → descriptor, of each listener whose address is new."""
        needed = self._needed(begun.puts, begun.removes)
        _expect_room_in(workers, needed)
        made: dict[int, dict[str, int]] = {}
        for worker in workers:
            made[worker] = {}
            for key, address in needed:
                is_new = not self._sockets.has(worker, address)
                try:
                    found = self._sockets.open(worker, address, self._admin.address)
                except BindError as error:
                    raise _unbindable(key, error) from None
                if is_new:
                    opened.append((worker, address))
                made[worker][key.name] = found.fileno()
        return made

    def _needed(
        self, puts: Iterable[Entity], removes: Iterable[EntityKey]
    ) -> list[tuple[EntityKey, str]]:
        """The listeners that are to listen where they did not. Raises `_Unbindable`."""
        needed: list[tuple[EntityKey, str]] = []
        state = self._store.running.state
        listeners = set(state.names("listener"))
        for entity in of_kinds(puts, "listener"):
            listeners.add(entity.key.name)
            before = state.get(entity.key)
            address = entity.typed(Listener).address
            if before is None or before.typed(Listener).address != address:
                needed.append((entity.key, address))
        listeners -= {key.name for key in removes if key.kind == "listener"}
        if len(listeners) > LISTENERS_MAX:
            reason = f"{len(listeners)} listeners are more than the {LISTENERS_MAX} supported"
            raise _Unbindable(needed[0][0] if needed else SETTINGS_KEY, reason)
        return needed

    def obstacle(self, changes: Sequence[Change]) -> Failure | None:
        """What would stand in the way of these changes on this machine, without any effect."""
        puts = [change.after for change in changes if change.after is not None]
        removes = [change.key for change in changes if change.after is None]
        try:
            left, workers = room(), self._supervisor.in_service
            needed = self._needed(puts, removes)
            _expect_room_in(workers, needed)
            for key, address in needed:
                left -= sum(not self._sockets.has(worker, address) for worker in workers)
                _bindable(key, partial(self._sockets.check, address, self._admin.address))
                _bindable(key, partial(_expect_room, address, left))
            for admin in _admin_addresses(puts):
                _bindable(
                    SETTINGS_KEY, partial(self._admin.check, admin, self._sockets.addresses())
                )
        except _Unbindable as error:
            return error.failure
        return _without_log(puts)

    def _prepare_admin(self, begun: Begun, given: Collection[str]) -> None:
        for admin in _admin_addresses(begun.puts):
            _bindable(SETTINGS_KEY, partial(self._admin.prepare, admin, given))

    def _hand_over(self) -> None:
        """Has listeners take connections where the metrics did, which an abort takes back.

        Before the record: whoever finds that finds them listening, whenever the daemon died.
        Nobody is answered yet: what comes waits for the workers to swap.
        """
        if self._sockets.has_silent:
            self._admin.leave()
            try:
                self._sockets.listen()
            except OSError as error:
                log.warning("an address takes no connections", reason=error.strerror or error)

    def _settle_sockets(self) -> None:
        """Close what no listener has any more; a damaged state says it after the next commit."""
        state, wanted = self._store.running.state, list[str]()
        try:
            for name in state.names("listener"):
                wanted.append(state[EntityKey("listener", name)].typed(Listener).address)
        except (DamagedError, KeyError):
            return
        self._sockets.settle(wanted, [slot.id for slot in self._supervisor.slots])

    # The machine.

    async def _run(
        self, begun: Begun, workers: dict[int, Worker], sockets: dict[int, dict[str, int]]
    ) -> Failure | None:
        self._numbers += 1
        machine = Transaction(frozenset(workers), begun.digest)
        attempt = Attempt(self._numbers, begun, workers, sockets, self._store.materials.directory)
        self.open, self.begun = machine, begun
        faults.point("transaction.begin")
        attempt.inbox.put_nowait(events.Started())
        try:
            while not machine.finished:
                event = await attempt.inbox.get()
                for command in machine.handle(event):
                    # What happens meanwhile waits in the inbox.
                    if isinstance(command, events.RecordCommit):
                        self._hand_over()
                        attempt.inbox.put_nowait(await self._record_commit(begun))
                    elif isinstance(command, events.RecordDone):
                        await self._note_done()
                    else:
                        self._execute(attempt, begun, command)
                if isinstance(event, events.CommitRecorded):
                    self._tell_recorded(begun)
        finally:
            attempt.end()
            self.open = self.begun = None
        return machine.failure

    def _execute(self, attempt: Attempt, begun: Begun, command: Command) -> None:
        match command:
            case events.SetDeadline(phase=phase):
                swapped = len(begun.puts) if phase is Phase.COMMITTING else 0
                attempt.set_timer(_DEADLINES_S[phase] + swapped * COMMIT_ENTITY_S)
            case events.ReplaceWorker(worker=worker, reason=reason):
                self._supervisor.replace(worker, reason)
            case events.SendPrepare(worker=worker):
                attempt.prepare(worker)
            case events.SendCommit(worker=worker):
                attempt.commit(worker)
            case events.SendAbort(worker=worker):
                attempt.abort(worker)
            case events.SendRelease(worker=worker):
                attempt.release(worker)

    def _tell_recorded(self, begun: Begun) -> None:
        """Workers have been told to swap, and nobody yet that they have."""
        try:
            self._recorded(begun.commit)
        except Exception as error:  # noqa: BLE001  # whatever it is, the commit goes forward
            log.internal_error("telling of a commit that is recorded", error)

    async def _record_commit(self, begun: Begun) -> Event:
        try:
            await self._store.commit(begun)
        except (OSError, DamagedError) as error:
            return _unrecorded(error)
        return events.CommitRecorded()

    async def _note_done(self) -> None:
        """Nothing depends on these: the next start would do them again."""
        try:
            await self._store.done()
        except (OSError, DamagedError) as error:
            log.warning("cannot write the state directory", reason=_reason(error))


def _unrecorded(error: OSError | DamagedError) -> Event:
    return events.RecordFailed(f"cannot write the state: {_reason(error)}")


def _reason(error: OSError | DamagedError) -> str:
    return getattr(error, "strerror", None) or str(error)


async def _wait(condition: Callable[[], bool], timeout_s: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with within(timeout_s):
            while not condition():  # noqa: ASYNC110  # slots tell nobody
                await asyncio.sleep(0.02)


def _admin_addresses(puts: Iterable[Entity]) -> Iterator[str | None]:
    """The metrics' address of settings that are put."""
    for entity in of_kinds(puts, SETTINGS_KEY.kind):
        yield entity.typed(Settings).admin


def _without_log(puts: Iterable[Entity]) -> Failure | None:
    """Why the access log of settings that are put cannot be opened, as a port that is taken."""
    for settings in of_kinds(puts, SETTINGS_KEY.kind):
        reason = unwritable(settings.typed(Settings).access_log)
        if reason is not None:
            return _Unbindable(SETTINGS_KEY, reason, transient=True).failure
    return None


async def _silent_log(puts: Iterable[Entity]) -> Failure | None:
    """Why no worker is to open the access log of settings that are put: it would hang there."""
    for settings in of_kinds(puts, SETTINGS_KEY.kind):
        reason = await asyncio.to_thread(silent, settings.typed(Settings).access_log)
        if reason is not None:
            return _Unbindable(SETTINGS_KEY, reason, transient=True).failure
    return None


def _as_the_machine_has_it(failure: Failure, puts: Iterable[Entity]) -> Failure:
    """What workers refuse since the machine lacks it for now is no fault of the commit."""
    by_settings = not failure.transient and failure.kind == SETTINGS_KEY.kind
    return (_without_log(puts) if by_settings else None) or failure


def _expect_room(address: str, left: float) -> None:
    """Raises `BindError` when there is no descriptor left for it."""
    if left < 0:
        raise without_room(address)


def _expect_room_in(workers: dict[int, Worker], needed: list[tuple[EntityKey, str]]) -> None:
    """Raises `_Unbindable` for the first listener that a worker has no descriptors left for."""
    for number, worker in workers.items() if needed else ():
        fitting = int(min(room_of(worker.process.pid) // PER_LISTENER, len(needed)))
        if fitting < len(needed):
            key, address = needed[fitting]
            reason = f"worker {number} has no descriptors left for {address}: too many open files"
            hint = "(raise the limit: LimitNOFILE= or `ulimit -n`)"
            raise _Unbindable(key, f"{reason} {hint}", transient=True)


def _bindable(key: EntityKey, bind: Callable[[], object]) -> None:
    """Raises `_Unbindable`."""
    try:
        bind()
    except BindError as error:
        raise _unbindable(key, error) from None


def _unbindable(key: EntityKey, error: BindError) -> _Unbindable:
    return _Unbindable(key, str(error), transient=True, by=holder_of(error))


class _Unbindable(Exception):  # noqa: N818  # never leaves this module
    """An address of the plan cannot be listened on."""

    def __init__(
        self, key: EntityKey, reason: str, *, transient: bool = False, by: str = ""
    ) -> None:
        super().__init__(reason)
        self.failure = Failure(reason, transient=transient, kind=key.kind, name=key.name, by=by)
