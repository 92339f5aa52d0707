"""What became of each commit: the last error for status, the history, the tally, the log line.

Called by `reconciler.loop.reconcile` at the end of every attempt; read by
`reconciler.reporting.control.answers`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from reconciler import log
from reconciler.source.source import Head, Source
from reconciler.storage.kept.drains import Drain
from reconciler.storage.kept.history import CHANGES_MAX, OF_COMMITS, History, now
from reconciler.storage.store import Store
from reconciler.storage.writing.begun import Begun
from reconciler.transaction.events import Failure
from schemas.changes.plan import Consequence, Plan
from schemas.entities.diagnostic import Diagnostic
from schemas.entities.entity import Entity, EntityKey
from schemas.messages.results import HistoryEntry
from schemas.messages.status import LastError

# Status says it at each question: a line of a file, or a reason, may be of any length.
TEXT_CHARS_MAX = 4000
DIAGNOSTICS_MAX = 100
_DIAGNOSTIC_CHARS_MAX = 1000


@dataclass(slots=True)
class Tally:
    """What the reconciler itself counts."""

    commits: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("applied", "unchanged", "refused", "superseded"), 0)
    )
    seconds_sum: float = 0.0
    seconds_last: float = 0.0


class Outcomes:
    """Notes what became of commits, and decides nothing."""

    def __init__(self, source: Source, store: Store, history: History) -> None:
        self._source = source
        self._store = store
        self.history = history
        self.tally = Tally()
        self.last_error: LastError | None = None
        # Its message, but for who stands in the way.
        self._bare = ""
        self.repository_warning: str | None = None
        self._problem: str | None = None
        self._is_told_elsewhere = False

    @property
    def problem(self) -> str | None:
        """Why the running state is held, whatever the newest commit is."""
        return self._problem

    def held(self, problem: str, *, told_elsewhere: bool = False) -> bool:
        """The running state is held; tells whether that is news.

        `told_elsewhere`: the log has it from another part, and when it ends as well.
        """
        if problem == self._problem:
            return False
        self._problem, self._is_told_elsewhere = problem, told_elsewhere
        return True

    def followed_again(self) -> bool:
        """It is held no more; tells whether that is news."""
        if self._problem is None:
            return False
        if not self._is_told_elsewhere:
            log.info("following again", ref=self._source.shown_ref)
        self._problem = None
        return True

    def marked(self, problem: str | None) -> None:
        """Whether the ref of the applied commit could be moved, and why not."""
        if problem is not None and problem != self.repository_warning:
            log.warning("the applied commit is not protected from gc", reason=problem)
        self.repository_warning = problem

    def said(self) -> tuple[LastError | None, str]:
        """What is said last of a commit, for `restore`."""
        return self.last_error, self._bare

    def restore(self, error: LastError | None, bare: str) -> None:
        """What was said of a commit is to be said again, after another was tried."""
        self.last_error = error
        self._bare = bare

    def resolved(self) -> None:
        """The newest commit is the applied one: there is nothing wrong any more."""
        self.last_error = None

    def applied(self, head: Head, began: float, plan: Plan, base: str | None) -> None:
        """Every worker holds it."""
        self.last_error = None
        seconds = time.monotonic() - began
        self.tally.seconds_sum += seconds
        self.tally.seconds_last = seconds
        entry = self._entry(head, "applied", began)
        entry["change_count"] = len(plan.changes)
        entry["changes"] = [
            each.to_json() | plan.consequences.get(each.key, Consequence()).to_json()
            for each in plan.changes[:CHANGES_MAX]
        ]
        self._superseded(base, head.commit)
        self._add(entry)
        counts = plan.counts()
        log.info(
            "applied",
            commit=head.commit[:12],
            generation=self._store.running.generation,
            added=counts["add"],
            updated=counts["update"],
            removed=counts["remove"],
            ms=f"{seconds * 1000:.1f}",
        )
        _log_warnings(plan.warnings)

    def unchanged(
        self, head: Head, began: float, base: str | None, warnings: Sequence[Diagnostic] = ()
    ) -> None:
        """It changes no entity: the generation stays."""
        self.last_error = None
        self._superseded(base, head.commit)
        self._add(self._entry(head, "unchanged", began))
        log.info("nothing to change", commit=head.commit[:12])
        _log_warnings(warnings)

    def invalid(
        self,
        head: Head,
        began: float,
        errors: Sequence[Diagnostic],
        renewing: Sequence[str] = (),
    ) -> None:
        """Its configuration has errors; or, of the commit that runs, files of the machine do."""
        first = errors[0]
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        self._refused(
            head,
            began,
            stage="files" if renewing else "validation",
            message=f"{first.where}: {first.message}{more}",
            place=(first.file, first.line, first.column),
            diagnostics=errors,
            files=renewing,
        )

    def empty(self, head: Head, reason: str) -> None:
        """It has no configuration at all."""
        self._refused(head, time.monotonic(), stage="validation", message=reason)

    def blocked(self, head: Head, began: float, reason: str) -> None:
        """A guard does not let it through."""
        self._refused(head, began, stage="guard", message=reason)

    def failed(self, head: Head, began: float, begun: Begun, failure: Failure) -> None:
        """The workers did not take it, or it could not be written."""
        culprit = self._culprit(begun, EntityKey(failure.kind, failure.name))
        message, place = failure.reason, None
        if culprit is not None:
            where = culprit.provenance
            place = (where.file, where.line, where.column)
            message = f"{culprit.key}: {message}"
            if where.line:
                message = f"{where.file}:{where.line}:{where.column}: {message}"
        self._refused(head, began, stage=failure.stage, message=message, place=place, by=failure.by)

    def overlaid(self, outcome: str, drains: Sequence[Drain], by: str | None = None) -> None:
        """An operator's drains have begun (`drained`), or ended (`undrained`, `expired`).

        `by` is who has ended them.
        """
        if not drains:
            return
        owners = ", ".join(sorted({each.owner for each in drains if each.owner}))
        of: dict[str, str] = {} if by is None else {"drained_by": _bounded(owners)}
        names = [each.backend for each in drains]
        running = self._store.running
        self.history.add(
            {
                "at": now(),
                "commit": running.commit or "",
                "outcome": outcome,
                "generation": running.generation,
                "duration_ms": 0.0,
                "author": drains[0].owner if by is None else by,
                "subject": _bounded(", ".join(names)),
                "change_count": 0,
                "changes": [],
                "backends": names[:CHANGES_MAX],
                "expires_at": drains[0].expires_at,
                **of,  # type: ignore[typeddict-item]  # the one key of it
            }
        )

    def drains_expired(self, drains: Sequence[Drain]) -> None:
        """They have ended by themselves."""
        self.overlaid("expired", drains)

    def delayed(self, head: Head, failure: Failure) -> None:
        """It failed for a reason that is not its own, and is tried again: no outcome yet."""
        if self._notes(head, failure.stage, _bounded(failure.reason), by=failure.by):
            log.error(
                "not applied yet",
                commit=head.commit[:12],
                stage=failure.stage,
                reason=failure.told,
            )

    def internal(self, head: Head, sentence: str) -> None:
        """A program error while applying it."""
        now = time.monotonic()
        self._refused(head, now, stage="internal", message=sentence)

    def _culprit(self, begun: Begun, key: EntityKey) -> Entity | None:
        found = next((entity for entity in begun.puts if entity.key == key), None)
        return found or self._store.running.state.get(key)

    def _refused(
        self,
        head: Head,
        began: float,
        *,
        stage: str,
        message: str,
        place: tuple[str, int, int] | None = None,
        diagnostics: Sequence[Diagnostic] = (),
        files: Sequence[str] = (),
        by: str = "",
    ) -> None:
        message = _bounded(message)
        if not self._notes(head, stage, message, place, diagnostics, by):
            return
        message = _told_with(message, by)
        file, line, _ = place or (None, None, None)
        # A commit that runs is not refused because a file that it names has gone bad.
        runs = head.commit == self._store.running.commit
        entry = self._entry(head, "not_renewed" if runs else "refused", began)
        if files:
            entry["files"] = list(files)
        entry["message"], entry["stage"] = message, stage
        entry["file"], entry["line"] = file, line
        self._add(entry)
        what = "files of the machine do not fit" if runs else "refused"
        log.error(what, commit=head.commit[:12], stage=stage, reason=message)

    def _notes(
        self,
        head: Head,
        stage: str,
        message: str,
        place: tuple[str, int, int] | None = None,
        diagnostics: Sequence[Diagnostic] = (),
        by: str = "",
    ) -> bool:
        """Make it the last error; tells whether it was not yet.

        `by` comes last in what is told. It is found out at one try and not at the next, and the
        same all the same.
        """
        known, told = self.last_error, _told_with(message, by)
        if known is not None and known["commit"] == head.commit and self._bare == message:
            if by:
                known["message"] = told
            return False
        self._bare = message
        file, line, column = place or (None, None, None)
        self.last_error = {
            "commit": head.commit,
            "message": told,
            "stage": stage,
            "file": file,
            "line": line,
            "column": column,
            "at": now(),
            "diagnostics": [_told(each) for each in _first(diagnostics)],
        }
        return True

    def _superseded(self, base: str | None, commit: str) -> None:
        for each in self._source.superseded(base, commit):
            if self.history.has(each):
                continue
            entry = self._entry(Head(each, ""), "superseded", time.monotonic())
            entry["message"] = f"overtaken by {commit[:12]}"
            self._add(entry)

    def _entry(self, head: Head, outcome: str, began: float) -> HistoryEntry:
        note = self._source.note(head.commit)
        seconds = time.monotonic() - began
        return {
            "at": now(),
            "commit": head.commit,
            "outcome": outcome,  # type: ignore[typeddict-item]  # one of these words
            "generation": self._store.running.generation,
            "duration_ms": round(seconds * 1000, 3),
            "author": note.author,
            "subject": note.subject,
            "change_count": 0,
            "changes": [],
        }

    def _add(self, entry: HistoryEntry) -> None:
        if entry["outcome"] in OF_COMMITS:
            self.tally.commits[entry["outcome"]] += 1
        self.history.add(entry)


def _told_with(message: str, by: str) -> str:
    return f"{message} by {_bounded(by)}" if by else message


def _log_warnings(warnings: Sequence[Diagnostic]) -> None:
    for warning in warnings:
        log.warning(warning.message, at=warning.where)


def _first(found: Sequence[Diagnostic]) -> list[Diagnostic]:
    """As many as anybody reads, and how many more there are."""
    shown = list(found[:DIAGNOSTICS_MAX])
    if more := len(found) - len(shown):
        hint = "kakehi validate lists them all"
        shown.append(Diagnostic("error", "", 0, 0, f"and {more} more", hint))
    return shown


def _told(found: Diagnostic) -> dict[str, Any]:
    whole = {**found.to_json(), "rendered": found.render()}
    return {
        key: _bounded(each, _DIAGNOSTIC_CHARS_MAX) if isinstance(each, str) else each
        for key, each in whole.items()
    }


def _bounded(text: str, most: int = TEXT_CHARS_MAX) -> str:
    return text if len(text) <= most else text[:most] + " …"
