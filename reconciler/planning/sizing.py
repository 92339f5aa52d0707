"""How many workers there are to be: the command line's number, or the settings'.

Called by `reconciler.daemon`, for the loop too, which asks it what is to be said of a plan.
"""

from __future__ import annotations

from collections.abc import Sequence

from reconciler.storage.store import Store
from reconciler.workers.processes.cores import automatic_count, usable_cores
from schemas.changes.change import Change, of_kinds
from schemas.entities.diagnostic import Diagnostic
from schemas.entities.entity import SETTINGS_KEY
from schemas.kinds.settings import Settings
from schemas.record import record


@record
class Sizing:
    """How many workers there shall be; `override` is what `--workers` says."""

    store: Store
    override: int | None

    def count(self) -> int:
        """The number of workers for the running settings."""
        return self._count(self.store.settings)

    def count_after(self, changes: Sequence[Change]) -> int:
        """The number of workers once these changes are applied."""
        change = next(iter(of_kinds(changes, SETTINGS_KEY.kind)), None)
        if change is None:
            return self.count()
        return self._count(change.after.typed(Settings) if change.after else Settings())

    def warnings(self, changes: Sequence[Change]) -> list[Diagnostic]:
        """What a plan should say about the number of workers."""
        change = next(iter(of_kinds(changes, SETTINGS_KEY.kind)), None)
        if change is None or change.after is None:
            return []
        if all(field.path != "workers" for field in change.fields):
            return []
        where = change.after.provenance
        wanted = change.after.typed(Settings).workers
        cores = len(usable_cores())
        if self.override is not None:
            text = f"workers has no effect: the daemon was started with --workers {self.override}"
        elif isinstance(wanted, int) and wanted > cores:
            text = f"{wanted} workers share {cores} usable cores; more than one each is slower"
        else:
            return []
        return [Diagnostic("warning", where.file, where.line, where.column, text)]

    def _count(self, settings: Settings) -> int:
        if self.override is not None:
            return self.override
        wanted = settings.workers
        return wanted if isinstance(wanted, int) else automatic_count()
