"""The daemon: starts the parts, joins them, and ends them in the right order. Nothing else.

Called by `reconciler.starting`. SIGINT and `kakehi stop` end everything, workers drained; SIGTERM
ends the control plane alone, and the workers go on serving until the next daemon adopts them.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from reconciler import log
from reconciler.acme.certifying import Certifying
from reconciler.catalog.coverage import claims, ordered
from reconciler.catalog.relations import relations_of
from reconciler.loop.marking import Marking
from reconciler.loop.mending import Mending
from reconciler.loop.rebuilding import Rebuilding
from reconciler.loop.reconcile import Reconciler
from reconciler.loop.staging import Stager
from reconciler.materials.completing import Machine
from reconciler.parts import Parts
from reconciler.planning import differ
from reconciler.planning.planner import Live
from reconciler.planning.sizing import Sizing
from reconciler.reporting.admin import AdminListener
from reconciler.reporting.announcing import Announcing
from reconciler.reporting.control_answers import ControlAnswers
from reconciler.reporting.control_socket import ControlSocket
from reconciler.reporting.draining import Draining
from reconciler.reporting.expiry import Expiry
from reconciler.reporting.measuring import Measuring
from reconciler.reporting.outcomes import Outcomes
from reconciler.reporting.status import Status
from reconciler.reporting.waiting import Waiting
from reconciler.source.following import Following
from reconciler.source.git.errors import RepositoryError
from reconciler.source.remote.fetching import Fetching
from reconciler.source.source import Source
from reconciler.source.watcher import Watcher
from reconciler.storage.file.database import DamagedError
from reconciler.storage.kept.drains import Drain, Drains
from reconciler.storage.kept.history import History
from reconciler.storage.rows import RowAudit
from reconciler.storage.store import Store
from reconciler.systemd.service import Systemd
from reconciler.transaction.runner import Runner
from reconciler.workers.linked.worker import Worker
from reconciler.workers.listening.descriptors import Reserve, shortages
from reconciler.workers.listening.sockets import SocketTable
from reconciler.workers.slots.bringup import Bringup
from reconciler.workers.slots.supervisor import Supervisor
from reconciler.workers.telling.challenges import ChallengeKeeper
from reconciler.workers.telling.overlay import Overlaying
from reconciler.workers.telling.tickets import TicketKeeper, tell_of_keys
from reconciler.workers.watching.answering import Answering
from reconciler.workers.watching.auditing import Auditing
from reconciler.workers.watching.runtime_directory import RuntimeDirectory
from schemas.changes.change import Change, of_kinds
from schemas.changes.plan import Plan
from schemas.entities.diagnostic import Diagnostic
from schemas.entities.entity import SETTINGS_KEY
from schemas.messages import control

# A start waits so long for the first commit to be served before it calls itself ready regardless.
READY_WAIT_S = 30.0


@dataclass(frozen=True, slots=True)
class DaemonOptions:
    """What the command line says. `workers` overrides the settings; `remote` is fetched from."""

    directory: Path
    ref: str | None
    workers: int | None
    runtime_dir: Path
    state_dir: Path
    remote: str | None = None
    fetch_interval_s: float | None = None
    identity: Path | None = None
    """Opens private keys that are committed encrypted."""


class Daemon:
    """All parts of one daemon; joins those that may not know each other.

    Listens to the supervisor (`WorkerObserver`) and to the loop (`Observer`).
    """

    def __init__(
        self,
        options: DaemonOptions,
        store: Store,
        machine: Machine,
        places: int,
        runtime: RuntimeDirectory,
    ) -> None:
        self._options = options
        self._places = places
        self._runtime = runtime
        self._store = store
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._ending: asyncio.Future[bool] = self._loop.create_future()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._drain_asked = 0
        self._told: list[str] = []
        self._loop.set_exception_handler(_stray)
        self._parts = Parts()
        # Before all else: a limit that is lowered later is below what is opened last.
        self._reserve = Reserve()
        for note in store.notes.told():
            log.warning(note)
        directory = options.directory.absolute()
        self._fetching = Fetching(options.remote, options.fetch_interval_s)
        self._following = Following(store, directory, options.ref)
        self._source = Source(directory, self._following.wanted, options.remote)
        self._sockets = SocketTable()
        self._drains = Drains(store, self._send_overlay, self._on_drains_expired)
        self._tickets = TicketKeeper(options.state_dir, store)
        self._challenges = ChallengeKeeper(options.state_dir, self._workers)
        stager = self._stager = Stager(self._source, machine, store.materials.directory)
        self._mending = Mending(self._source, store, stager)
        bringup = Bringup(
            store,
            self._sockets,
            self._drains.names,
            self._tickets.path,
            self._challenges.path,
            self._mending.mend,
        )
        self._supervisor = Supervisor(
            options.runtime_dir, store.epoch, self._sockets, bringup, self._parts, self
        )
        self._overlaying = Overlaying(self._workers)
        self._auditing = Auditing(store, self._supervisor)
        self._answering = Answering(self._supervisor, self._drains.names)
        wake = asyncio.Event()
        self._announcing = Announcing()
        self._certifying = Certifying(
            options.state_dir,
            self._challenges,
            lambda: ordered(store.running.state),
            lambda hostname: claims(store.running.state, hostname),
            lambda key, path: store.materials.content_of(store.running.state.get(key), path),
            issued=wake.set,
        )
        outcomes = self._outcomes = Outcomes(self._source, store, History(store))
        self._sizing = Sizing(store, options.workers)
        expiry = Expiry(store)
        self._measuring = Measuring(
            store,
            self._supervisor,
            outcomes,
            self._sizing.count_after,
            expiry,
            self._source,
            self._auditing,
            self._certifying,
            self._parts,
            self._began,
        )
        self._admin = AdminListener(self._measuring.metrics, self._health, self._reserve)
        self._marking = marking = Marking(self._source, outcomes)
        self._runner = Runner(
            store, self._supervisor, self._sockets, self._admin, recorded=marking.mark
        )
        self._rebuilding = rebuilding = Rebuilding(store, stager, self._supervisor)
        self._reconciler = Reconciler(
            self._source,
            store,
            self._runner,
            outcomes,
            stager,
            rebuilding,
            machine,
            marking,
            self,
            self._announcing,
            wake,
        )
        relate = partial(relations_of, machine=machine)
        self._row_audit = RowAudit(store, relate, self._reconciler.found_damaged)
        self._watcher = Watcher(self._reconciler.wake)
        self._systemd = Systemd(self._sockets, self._parts, self._service_line)
        waiting = Waiting(
            self._source,
            store,
            self._reconciler,
            self._supervisor,
            self._runner,
            self._announcing,
        )
        draining = Draining(store, self._supervisor, self._drains, self._overlaying.taken, outcomes)
        status = Status(
            source=self._source,
            store=store,
            supervisor=self._supervisor,
            reconciler=self._reconciler,
            runner=self._runner,
            draining=draining,
            following=self._following,
            expiry=expiry,
            auditing=self._auditing,
            certifying=self._certifying,
            parts=self._parts,
            further_warnings=self._warnings,
            began=self._began,
            fetched_at=lambda: self._fetching.fetched_at,
            remote=self._fetching.shown_remote,
        )
        answers = ControlAnswers(
            source=self._source,
            store=store,
            reconciler=self._reconciler,
            proposing=self._reconciler.proposing,
            waiting=waiting,
            status=status,
            draining=draining,
            stop=self._stop_asked,
        )
        self._control = ControlSocket(
            options.runtime_dir / control.SOCKET_NAME, answers.answer, self._reserve
        )

    async def run(self) -> None:
        """From the first socket to the last."""
        await self._check_source()
        self._marking.resume(self._store.running.commit)
        for number, drain in ((signal.SIGINT, True), (signal.SIGTERM, False)):
            self._loop.add_signal_handler(number, self._on_signal, drain)
        self._loop.add_signal_handler(signal.SIGHUP, self._reconciler.retry)
        self._loop.add_signal_handler(signal.SIGUSR1, self._supervisor.reopen_logs)
        self._control.open()
        log.info(
            "kakehi runs",
            directory=self._source.directory,
            ref=self._source.shown_ref,
            epoch=self._store.epoch,
            generation=self._store.running.generation,
            pid=os.getpid(),
        )
        self._systemd.adopt_passed()
        parts = self._parts
        parts.start("watchdog", self._systemd.watchdog)
        parts.start("service manager", self._systemd.repeat)
        parts.start("tickets", partial(self._tickets.run, self._send_ticket_keys))
        keeping = partial(self._runtime.keep, self._control, self._supervisor)
        parts.start("runtime directory", keeping)
        parts.start("auditing", self._auditing.run)
        parts.start("auditing rows", self._row_audit.run)
        parts.start("answering", self._answering.run)
        try:
            # One beyond the wanted number serves until it is known what is wanted.
            self._supervisor.scale(max(self._sizing.count(), self._places))
            parts.start("reconciling", self._serve)
            drain = await self._ending
        finally:
            self._systemd.stopping()
            await parts.stop(but=[slot.part for slot in self._supervisor.slots])
            self._watcher.stop()
            self._drains.stop()
        await self._leave(drain)

    async def _check_source(self) -> None:
        """Without what to follow and without a state there is nothing to run: say so and end."""
        try:
            self._source.check_ref()
        except RepositoryError as error:
            if self._store.running.generation == 0 and self._places == 0:
                raise
            if self._options.ref is None:
                log.warning("serving the last committed state", reason=error)
            else:
                # To end here would be an outage for a slip of the pen.
                log.error(
                    "cannot follow what --ref names: serving the last committed state",
                    reason=error,
                )
            self._outcomes.held(str(error))
            return
        self._following.keep(self._source)
        elsewhere = self._following.warning(self._source)
        if elsewhere is not None:
            log.warning(elsewhere)

    async def _serve(self) -> None:
        """After the workers' start: finish what was begun, then follow the repository."""
        admin = self._admin_address
        if not self._admin.resume(admin()):
            self._parts.start("metrics", partial(self._admin.keep_resuming, admin), once=True)
        await self._runner.settle_in()
        await self._runner.finish()
        if not self._store.running.is_empty:
            self._supervisor.scale(self._sizing.count())
        self._tell_shortages()
        self._drains.schedule()
        if self._options.remote is not None:
            fetching = partial(self._fetching.run, self._source, self._reconciler.wake)
            self._parts.start("fetching", fetching)
        self._parts.start("readiness", self._say_ready, once=True)
        # Not before there are workers to answer the authority.
        self._parts.start("certifying", self._certifying.run)
        await self._reconciler.run()

    async def _say_ready(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(READY_WAIT_S):
                await self._reconciler.looked.wait()
        self._systemd.ready()
        # The first change would wait for all of it.
        await asyncio.to_thread(differ.load)
        while self._store.running.generation == 0:
            await self._announcing.wait(READY_WAIT_S)
        # What cannot be read is found by the change as well, and told then.
        with (
            contextlib.suppress(RepositoryError, DamagedError, OSError),
            self._store.snapshot() as seen,
        ):
            self._stager.rehearse(seen)
        gc.collect()
        gc.freeze()

    async def _leave(self, drain: bool) -> None:
        if drain:
            log.info("ending: requests in flight may finish", drain_ms=self.drain_ms())
            await self._supervisor.stop(self.drain_ms())
        else:
            log.info("the daemon leaves, the workers go on serving")
            self._supervisor.detach()
            self._sockets.close()
        self._admin.close()
        if not self._ended.done():
            self._ended.set_result(None)
        await self._control.close()

    # What other parts tell.

    def _on_signal(self, drain: bool) -> None:
        self._drain_asked += 1
        if self._ending.done() and self._drain_asked > 1:
            self._supervisor.kill()
        self._end(drain)

    def _stop_asked(self) -> asyncio.Future[None]:
        self._end(True)
        return asyncio.shield(self._ended)

    def _end(self, drain: bool) -> None:
        if not self._ending.done():
            self._ending.set_result(drain)

    def workers_changed(self) -> None:
        """See `WorkerObserver`."""
        self._announcing.announce()
        self._systemd.store_sockets()

    def was_replaced(self) -> None:
        """See `WorkerObserver`."""
        self._end(False)

    def applied(self, plan: Plan) -> None:
        """See `Observer`."""
        if any(of_kinds(plan.changes, "settings", "listener")):
            self._tell_shortages()
        if any(of_kinds(plan.changes, SETTINGS_KEY.kind)):
            self._supervisor.scale(self._sizing.count())
        self._supervisor.retire_formers()
        if self._drains.names():
            # A backend that the commit brought may be on the list.
            self._send_overlay()
        self._systemd.store_sockets()
        self._certifying.wake()

    def _warnings(self) -> list[str]:
        """What no other part tells in status."""
        problem = self._admin.problem
        found = [f"no metrics are served: {problem}"] if problem else []
        found += self._measuring.left_out()
        found += [self._row_audit.problem] if self._row_audit.problem else []
        found += [self._reserve.problem] if self._reserve.problem else []
        return found + self._runtime.warnings(self._supervisor) + self._shortages()

    def _health(self) -> tuple[bool, str]:
        """That nobody can ask us hurts no request, but can be said nowhere else."""
        healthy, said = self._measuring.health()
        problems = (self._runtime.problem, self._rebuilding.problem)
        return healthy, "; ".join([said, *(problem for problem in problems if problem)])

    def _shortages(self) -> list[str]:
        """Whether descriptors are few for the listeners that there are."""
        with contextlib.suppress(DamagedError):
            listeners = self._store.running.state.count("listener")
            return shortages(listeners, self._sizing.count())
        # The loop has it written anew.
        return []

    def _tell_shortages(self) -> None:
        """Once for each; status has them for as long as they last."""
        found = self._shortages()
        for each in found:
            if each not in self._told:
                log.warning(each)
        self._told = found

    def failed(self) -> None:
        """See `Observer`."""
        running = self._store.running
        for slot in list(self._supervisor.slots):
            worker = slot.worker
            if worker and (worker.generation, worker.digest) != (
                running.generation,
                running.state.digest,
            ):
                self._supervisor.replace(slot.id, "it was left behind")

    def _on_rebuilt(self) -> None:
        """The state directory was lost, and with it what other parts have there."""
        self._following.write(self._source)
        self._mending.mend()
        for write in (self._challenges.write, self._drains.write):
            try:
                write()
            except OSError as error:
                log.warning("cannot write the state directory", reason=error.strerror or error)
        with contextlib.suppress(OSError):
            if self._tickets.rotate_if_due():
                self._send_ticket_keys()

    def plan_warnings(self, changes: Sequence[Change]) -> list[Diagnostic]:
        """See `Observer`."""
        return self._sizing.warnings(changes)

    def live(self, changes: Sequence[Change]) -> Live:
        """See `Observer`."""
        return self._measuring.live(changes)

    def looked(self) -> None:
        """See `Observer`."""
        if self._store.take_rebuilt():
            self._on_rebuilt()
        self._systemd.tell()
        self._following.keep(self._source)
        alone: list[Path] = []
        deep: list[Path] = []
        with contextlib.suppress(RepositoryError):
            alone, deep = self._source.watched()
        outside = self._reconciler.external.directories()
        if alone or outside:
            self._watcher.watch([*alone, *sorted(outside.difference(alone))], deep)
        else:
            self._watcher.stop()

    def _service_line(self) -> str:
        running, problem = self._store.running, self._reconciler.problem
        text = f"generation {running.generation}, commit {(running.commit or 'none')[:12]}"
        return f"{text}; holding: {problem}" if problem else text

    def _on_drains_expired(self, drains: list[Drain]) -> None:
        self._outcomes.drains_expired(drains)

    def _send_overlay(self) -> None:
        self._overlaying.tell(self._drains.names())
        self._announcing.announce()

    def _send_ticket_keys(self) -> None:
        tell_of_keys(self._workers(), self._tickets.path)

    def _workers(self) -> Iterable[Worker]:
        return self._supervisor.in_service.values()

    def drain_ms(self) -> int:
        """See `WorkerObserver`."""
        return self._store.settings.drain_timeout

    def _admin_address(self) -> str | None:
        return self._store.settings.admin


def _stray(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What no part has caught, as one line: a callback of the event loop failed."""
    failure = context.get("exception")
    doing = str(context.get("message", "running the event loop"))
    if failure is None:
        log.error("internal error", reason=doing)
    else:
        log.internal_error(doing, failure)
