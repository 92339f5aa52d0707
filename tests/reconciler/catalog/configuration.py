"""A configuration in memory that takes over what was staged, for the tests of the catalog."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial

from reconciler.catalog import catalog
from reconciler.catalog.catalog import Candidate
from reconciler.catalog.parsing import parse
from reconciler.catalog.relations import ORDERED, relations_of
from reconciler.catalog.tls.coverage import claims
from reconciler.catalog.views import MemoryView
from reconciler.materials.completing import NOTHING_HERE, Machine
from reconciler.materials.reading import Reader, no_files
from schemas.entities.entity import Entity


def parsed(content: bytes | None) -> str | None:
    """What another process would find in a file."""
    return None if content is None else parse(content)


class Catalog:
    """What the daemon's database is to staging, without the database."""

    def __init__(self, machine: Machine = NOTHING_HERE) -> None:
        self._machine = machine
        self.view = MemoryView(relate=partial(relations_of, machine=machine))

    def stage(
        self,
        changed: Mapping[str, bytes | None],
        read: Reader = no_files,
        touched: Iterable[str] = (),
    ) -> Candidate:
        candidate = catalog.stage(self.view, changed, read, touched, self._machine)
        # Whoever tests what is staged, tests that it is the same when files are parsed elsewhere,
        # and when warnings are looked for before it is known whether there are errors.
        files = ((path, parsed(changed[path])) for path in sorted(changed))
        apart = catalog.stage_parsed(
            self.view, files, changed.get, read, touched, self._machine, _warn_at_once
        )
        assert apart == candidate
        return candidate

    def accept(self, candidate: Candidate) -> None:
        assert candidate.ok
        for key, entity in candidate.desired.items():
            if entity is None:
                self.view.remove(key)
            else:
                self.view.put(entity)
        for entity in candidate.moved.values():
            self.view.put(entity)
        for path, found in candidate.files.items():
            self.view.files[path] = dict(found)

    def entities(self) -> Iterable[Entity]:
        return self.view.values()

    def ordered(self) -> list[Entity]:
        return [self.view[key] for key in self.view.related(ORDERED)]

    def claims(self, hostname: str) -> bool:
        return claims(self.view, hostname)

    def outside_files(self) -> dict[str, frozenset[str]]:
        return catalog.outside_files(self.view)

    def named_together(self, paths: Iterable[str]) -> list[frozenset[str]]:
        return catalog.named_together(self.view, paths)

    def files_naming(self, paths: Iterable[str]) -> set[str]:
        return catalog.files_naming(self.view, paths)


def _warn_at_once(found: catalog.Settled) -> catalog.Warn:
    return partial(list, found.warn())
