"""Checks a whole directory at once, without a daemon: `kakehi validate`, and the tests' oracle."""

from __future__ import annotations

from collections.abc import Iterable

from reconciler.catalog.catalog import stage
from reconciler.catalog.views import MemoryView
from reconciler.materials.completing import NOTHING_HERE, Machine
from reconciler.materials.reading import Reader, no_files
from schemas.changes.state import State
from schemas.entities.diagnostic import Diagnostic


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
