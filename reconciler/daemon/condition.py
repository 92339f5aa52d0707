"""What no other part tells of this process: warnings for status, its health, limits that are low.

Made by `wiring` beside.
"""

from __future__ import annotations

import contextlib

from reconciler import log
from reconciler.loop.repair.rebuilding import Rebuilding
from reconciler.planning.sizing import Sizing
from reconciler.reporting.monitoring.admin import AdminListener
from reconciler.reporting.monitoring.measuring import Measuring
from reconciler.stalling import HurriedError, hurried
from reconciler.storage.file.database import DamagedError
from reconciler.storage.file.place import file_size_limit
from reconciler.storage.rows import RowAudit
from reconciler.storage.store import Store
from reconciler.transaction.access_log import unwritable
from reconciler.workers.listening.descriptors import Reserve, shortages
from reconciler.workers.slots.supervisor import Supervisor
from reconciler.workers.watching.binding import unbound
from reconciler.workers.watching.runtime_directory import RuntimeDirectory
from reconciler.workers.watching.strays import Strays


class Shortages:
    """Whether descriptors are few for the listeners that there are, and files may be large."""

    def __init__(self, store: Store, sizing: Sizing) -> None:
        self._store = store
        self._sizing = sizing
        self._told: list[str] = []

    def found(self) -> list[str]:
        """A sentence for each limit that is too low."""
        limit = file_size_limit()
        found = [limit] if limit else []
        # The loop has it written anew.
        with contextlib.suppress(DamagedError):
            listeners = self._store.running.state.count("listener")
            found += shortages(listeners, self._sizing.count())
        return found

    def tell(self) -> None:
        """Once for each; status has them for as long as they last."""
        found = self.found()
        for each in found:
            if each not in self._told:
                log.warning(each)
        self._told = found


class Health:
    """What `/healthz` answers."""

    def __init__(
        self, measuring: Measuring, runtime: RuntimeDirectory, rebuilding: Rebuilding
    ) -> None:
        self._measuring = measuring
        self._runtime = runtime
        self._rebuilding = rebuilding

    def answer(self) -> tuple[bool, str]:
        """That nobody can ask us hurts no request, but can be said nowhere else."""
        healthy, said = self._measuring.health()
        problems = (self._runtime.problem, self._rebuilding.problem)
        return healthy, "; ".join([said, *(problem for problem in problems if problem)])


class Warnings:
    """What `status` warns of beside what it finds itself."""

    def __init__(
        self,
        admin: AdminListener,
        measuring: Measuring,
        row_audit: RowAudit,
        reserve: Reserve,
        runtime: RuntimeDirectory,
        supervisor: Supervisor,
        strays: Strays,
        shortages: Shortages,
        store: Store,
    ) -> None:
        self._admin = admin
        self._measuring = measuring
        self._row_audit = row_audit
        self._reserve = reserve
        self._runtime = runtime
        self._supervisor = supervisor
        self._strays = strays
        self._shortages = shortages
        self._store = store

    def found(self) -> list[str]:
        """A sentence for each warning."""
        found = self.unserved() + self._measuring.left_out()
        found += [self._row_audit.problem] if self._row_audit.problem else []
        found += [self._reserve.problem] if self._reserve.problem else []
        found += self._runtime.warnings(self._supervisor) + self._strays.told()
        return found + self._shortages.found()

    def unserved(self) -> list[str]:
        """What the settings and listeners that run ask for, and this machine does not give."""
        problem = self._admin.problem
        found = [f"no metrics are served: {problem}"] if problem else []
        return found + unbound(self._supervisor) + self._of_access_log()

    def _of_access_log(self) -> list[str]:
        with contextlib.suppress(DamagedError, HurriedError), hurried():
            reason = unwritable(self._store.running.state.settings.access_log)
            said = f"{reason}: workers that start lose its records until they can"
            return [said] if reason else []
        return []
