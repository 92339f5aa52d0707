"""A change of the configuration, looked at: what the changed files come to, and what is wrong.

`stage` gives a candidate and leaves its base as it was, whatever else stages or is committed at the
same time. Only changed files are parsed, of these only changed entities are validated, and only
what touches them is checked for references and conflicts. Called by `reconciler.loop` for commits
and plans, and by `offline`, which stages all files at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from functools import partial
from itertools import chain, islice
from typing import NamedTuple

from reconciler.catalog import fallbacks, policies, references
from reconciler.catalog.changed_files import FINDINGS_MAX, ChangedFiles
from reconciler.catalog.circling import circles, questions, rounds
from reconciler.catalog.matching import heads, identities, matches, shadows, unread, weights
from reconciler.catalog.parsing import parsed_entities
from reconciler.catalog.relations import FILE, Relate, View, relations_of
from reconciler.catalog.tls import coverage, passthroughs, subject_order, unnamed
from reconciler.catalog.views import MemoryView, laid_over
from reconciler.language.findings import Finding
from reconciler.materials.completing import NOTHING_HERE, Machine, complete
from reconciler.materials.reading import Reader, no_files
from schemas.changes.state import State
from schemas.entities.diagnostic import Diagnostic
from schemas.entities.entity import Entity, EntityKey, Mark
from schemas.record import record


@record
class Candidate:
    """What the changed files come to. `desired` has the touched entities alone; None is gone."""

    diagnostics: tuple[Diagnostic, ...]
    desired: Mapping[EntityKey, Entity | None]
    moved: Mapping[EntityKey, Entity]
    """Entities with the same value at another place of the files."""
    files: Mapping[str, Mapping[EntityKey, Mark]] = field(repr=False)
    """What each changed file defines now."""
    contents: Mapping[str, bytes] = field(repr=False)
    """The files that touched entities name, by hash."""

    @property
    def ok(self) -> bool:
        """Whether there are no errors, so that it may be accepted."""
        return all(found.severity != "error" for found in self.diagnostics)

    @property
    def warnings(self) -> tuple[Diagnostic, ...]:
        """The diagnostics that do not stand in the way."""
        return tuple(found for found in self.diagnostics if found.severity == "warning")


class Settled(NamedTuple):
    """What files come to, while it is looked for errors: as in `Candidate`."""

    desired: Mapping[EntityKey, Entity | None]
    moved: Mapping[EntityKey, Entity]
    files: Mapping[str, Mapping[EntityKey, Mark]]
    relate: Relate
    warn: Callable[[], list[Finding]]
    """Looks for what does not stand in the way, as if there were no error."""


Warn = Callable[[], list[Finding]]


def stage(
    base: View,
    changed: Mapping[str, bytes | None],
    read: Reader = no_files,
    touched: Iterable[str] = (),
    machine: Machine = NOTHING_HERE,
) -> Candidate:
    """Return what the files come to with these contents; None is a file that is gone.

    `read` gives the files that entities name; `touched` are those of them that may have another
    content than before. What `files_naming` gives for them must be among the changed.
    """
    stale = {key for path in touched for key in base.related(FILE, path)}
    staged = ChangedFiles(
        base, partial(complete, read=read, machine=machine), stale, _relate(machine)
    )
    base.expect_files(changed)
    for path in sorted(changed):
        staged.read(path, changed[path])
    return _settled(staged)


def stage_parsed(
    base: View,
    files: Iterable[tuple[str, str | None]],
    content: Callable[[str], bytes | None],
    read: Reader = no_files,
    touched: Iterable[str] = (),
    machine: Machine = NOTHING_HERE,
    settled: Callable[[Settled], Warn] = lambda found: found.warn,
) -> Candidate:
    """Return what `stage` does for files that were parsed elsewhere, in the order of their paths.

    Each comes with what `parse` found in it; where that is nothing, its content is looked at.
    `settled` is called with what they come to before it is known whether that has errors, and
    gives what is asked for the warnings where there is none: it may have begun with them.
    """
    stale = {key for path in touched for key in base.related(FILE, path)}
    staged = ChangedFiles(
        base, partial(complete, read=read, machine=machine), stale, _relate(machine), content
    )
    for path, parsed in files:
        if parsed is None or not staged.take(path, list(parsed_entities(parsed))):
            staged.read(path, content(path))
    return _settled(staged, settled)


def renew(base: View, touched: Iterable[str], read: Reader, machine: Machine) -> Candidate:
    """Return what entities come to that name files with another content than before.

    For when the configuration itself cannot be read: they are taken as they are in the base.
    """
    keys = {key for path in touched for key in base.related(FILE, path)}
    staged = ChangedFiles(
        base, partial(complete, read=read, machine=machine), keys, _relate(machine)
    )
    for key in sorted(keys):
        staged.renew(key)
    return _settled(staged)


def load_directory(
    files: Iterable[tuple[str, bytes]], read: Reader = no_files, machine: Machine = NOTHING_HERE
) -> tuple[State | None, tuple[Diagnostic, ...]]:
    """Return the state that the files describe, None if they have errors, and all diagnostics.

    `read` gives the files that entities name, `machine` what they are completed by.
    """
    candidate = stage(MemoryView(), dict(files), read, machine=machine)
    if not candidate.ok:
        return None, candidate.diagnostics
    entities = (entity for entity in candidate.desired.values() if entity is not None)
    return State(entities), candidate.diagnostics


def _relate(machine: Machine) -> Relate:
    return partial(relations_of, machine=machine)


def _settled(
    staged: ChangedFiles, settled: Callable[[Settled], Warn] = lambda found: found.warn
) -> Candidate:
    staged.settle()
    view = laid_over(staged.base, staged.desired, staged.moved, staged.relate)
    keys = sorted(staged.desired)

    def warn(faulty: set[str]) -> list[Finding]:
        return list(islice(_warnings(staged, keys, view, faulty), FINDINGS_MAX + 1))

    found = Settled(staged.desired, staged.moved, staged.files, staged.relate, partial(warn, set()))
    faultless = settled(found)
    findings = list(islice(_errors(staged, keys, view), FINDINGS_MAX + 1))
    faulty = staged.faulty_files(findings)
    warnings = warn(faulty) if faulty else faultless()
    findings += warnings[: FINDINGS_MAX + 1 - len(findings)]
    diagnostics = staged.diagnostics(findings)
    return Candidate(diagnostics, staged.desired, staged.moved, staged.files, staged.contents)


def outside_files(view: View) -> dict[str, frozenset[str]]:
    """Return the files outside of the repository that entities name, with hashes.

    One that an entity waits for has none.
    """
    found = view.related_under(FILE, "/")
    return {path: frozenset(filter(None, keys.values())) for path, keys in found.items()}


def named_together(view: View, paths: Iterable[str]) -> list[frozenset[str]]:
    """Return these files by the entities that name them; the files of one belong together."""
    apart: dict[EntityKey, set[str]] = {}
    for path in paths:
        for key in view.related(FILE, path):
            apart.setdefault(key, set()).add(path)
    return sorted({frozenset(together) for together in apart.values()}, key=sorted)


def files_naming(view: View, paths: Iterable[str]) -> set[str]:
    """Return the configuration files with entities that name one of these files."""
    keys = {key for path in paths for key in view.related(FILE, path)}
    return {view[key].provenance.file for key in keys}


def _errors(staged: ChangedFiles, keys: Sequence[EntityKey], view: View) -> Iterator[Finding]:
    # With a file that cannot be read, everything may be missing that it holds.
    if not staged.incomplete:
        yield from references.dangling(keys, view, staged.declared, staged.written)
    yield from references.clashes(keys, view)
    yield from references.too_many(keys, view)
    yield from circles.certain(keys, view)
    yield from circles.redirects(keys, view)
    yield from questions.returning(keys, view)
    yield from matches.conflicts(keys, view)
    yield from matches.crowded(keys, view)
    yield from weights.too_heavy(keys, staged.base, view)
    yield from policies.conflicts(keys, view)
    yield from passthroughs.misplaced(keys, view)
    yield from unread.misplaced(keys, view)
    yield from unnamed.sockets(keys, view)
    yield from fallbacks.to_themselves(keys, view)


def _warnings(
    staged: ChangedFiles, keys: Sequence[EntityKey], view: View, faulty: set[str]
) -> Iterator[Finding]:
    """Yield what is unused or never reached, unless an error may be the reason for it.

    `faulty` are the files with errors. A cluster's backends are in its file, and a name that is
    not used may be meant by whatever could not be read.
    """
    for found in chain(
        passthroughs.hidden(keys, view),
        shadows.hidden(keys, view),
        matches.undecided(keys, view),
        heads.unprotected(keys, view),
        circles.possible(keys, view),
        rounds.endless(keys, view),
        references.unspecified(keys, view),
        references.without_backends(keys, view),
        subject_order.turned(keys, view),
        identities.untimely(keys, view),
    ):
        if view[found.key].provenance.file not in faulty:
            yield found
    if staged.outlined:
        yield from references.unused(keys, staged.before, view, staged.written)
    if staged.outlined and not faulty:
        # A certificate with an error may have the names that are missing.
        yield from coverage.uncovered(keys, staged.before, view)
        yield from coverage.unasked(keys, staged.before, view)
        yield from coverage.unused(keys, view)
        yield from coverage.unclaimed(keys, staged.before, view)
