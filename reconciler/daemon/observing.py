"""What the supervisor and the loop tell, told to others: those they must not know.

Made by `wiring` beside, before the one that tells, of parts that are there by then: so whoever is
told never leads back to whoever told it. Nothing is decided here but who has to know.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from reconciler import log
from reconciler.daemon.condition import Shortages
from reconciler.daemon.ending import Ending
from reconciler.daemon.planes import Ground, WorkerPlane
from reconciler.loop.applied_ref import AppliedRef
from reconciler.materials.external import ExternalFiles
from reconciler.planning.planner import Live
from reconciler.reporting.announcing import Announcing
from reconciler.reporting.monitoring.measuring import Measuring
from reconciler.reporting.outcomes import Outcomes
from reconciler.source.git.repository_errors import RepositoryError
from reconciler.source.watcher import Watcher
from reconciler.storage.store import Store
from reconciler.systemd.service import Systemd
from schemas.changes.change import Change, of_kinds
from schemas.changes.plan import Plan
from schemas.entities.diagnostic import Diagnostic
from schemas.entities.entity import SETTINGS_KEY


class WorkersTold:
    """See `WorkerObserver`, which it is."""

    def __init__(
        self, announcing: Announcing, systemd: Systemd, ending: Ending, store: Store
    ) -> None:
        self._announcing = announcing
        self._systemd = systemd
        self._ending = ending
        self._store = store

    def workers_changed(self) -> None:
        """One came into service, or left it."""
        self._announcing.announce()
        self._systemd.store_sockets()

    def was_replaced(self) -> None:
        """Another daemon has taken the workers over."""
        self._ending.ask(drain=False)

    def drain_ms(self) -> int:
        """How long requests of a worker that leaves may take, now."""
        return self._store.settings.drain_timeout


class LoopTold:
    """See `Observer`, which it is."""

    def __init__(
        self,
        base: Ground,
        workers: WorkerPlane,
        measuring: Measuring,
        shortages: Shortages,
        rewriting: Rewriting,
        external: ExternalFiles,
        watcher: Watcher,
    ) -> None:
        self._base = base
        self._workers = workers
        self._measuring = measuring
        self._shortages = shortages
        self._rewriting = rewriting
        self._external = external
        self._watcher = watcher

    def applied(self, plan: Plan) -> None:
        """Every worker holds what it comes to."""
        if any(of_kinds(plan.changes, "settings", "listener")):
            self._shortages.tell()
        if any(of_kinds(plan.changes, SETTINGS_KEY.kind)):
            self._workers.supervisor.scale(self._base.sizing.count())
        self._workers.supervisor.retire_formers()
        if self._workers.drains.names():
            # A backend that the commit brought may be on the list.
            self._workers.send_overlay()
        self._workers.systemd.store_sockets()
        self._workers.certifying.wake()
        self._workers.issuers.wake()
        self._workers.probing.applied(plan.changes)

    def failed(self) -> None:
        """An error of the program itself ended a try: nobody knows who holds what."""
        running = self._base.store.running
        for slot in list(self._workers.supervisor.slots):
            worker = slot.worker
            if worker and (worker.generation, worker.digest) != (
                running.generation,
                running.state.digest,
            ):
                self._workers.supervisor.replace(slot.id, "it was left behind")

    def plan_warnings(self, changes: Sequence[Change]) -> list[Diagnostic]:
        """What should be said of some changes that the loop does not know."""
        found = self._base.sizing.warnings(changes)
        return found + self._workers.probing.warnings(changes)

    def live(self, changes: Sequence[Change]) -> Live:
        """What of the traffic some changes touch."""
        return self._measuring.live(changes)

    def looked(self) -> None:
        """One look is over, whatever came of it."""
        if self._base.store.take_rebuilt():
            self._rewriting.run()
        if self._base.store.running.commit is not None:
            # It may be one that changed nothing.
            self._workers.supervisor.retire_formers()
        self._workers.systemd.tell()
        self._base.following.keep(self._base.source)
        alone: list[Path] = []
        deep: list[Path] = []
        with contextlib.suppress(RepositoryError):
            alone, deep = self._base.source.watched()
        outside = self._external.directories()
        if alone or outside:
            self._watcher.watch(alone, deep, outside)
        else:
            self._watcher.stop()


class Rewriting:
    """What other parts have in the state directory, written again where it was lost."""

    def __init__(self, base: Ground, workers: WorkerPlane, applied_ref: AppliedRef) -> None:
        self._base = base
        self._workers = workers
        self._applied_ref = applied_ref

    def run(self) -> None:
        """All of it; what cannot be written is told, and keeps nobody from the rest."""
        with contextlib.suppress(RepositoryError):
            self._base.following.write(self._base.source)
        self._base.mending.mend()
        for write in (
            self._workers.challenges.write,
            self._workers.drains.write,
            self._base.outcomes.history.write,
            self._applied_ref.write,
        ):
            try:
                write()
            except OSError as error:
                log.warning("cannot write the state directory", reason=error.strerror or error)
        with contextlib.suppress(OSError):
            if self._workers.tickets.rotate_if_due():
                self._workers.send_ticket_keys()


def service_line(store: Store, outcomes: Outcomes) -> str:
    """What `systemctl status` shows."""
    running, problem = store.running, outcomes.problem
    text = f"generation {running.generation}, commit {(running.commit or 'none')[:12]}"
    return f"{text}; holding: {problem}" if problem else text
