"""The catalog: every file's entities, kept so that a change costs what it changes.

The daemon keeps one and stages the changed files of each commit; `offline` stages all files at
once. `stage` gives a candidate and leaves the catalog as it was; `accept` makes the candidate the
new base. Only changed files are parsed, of these only changed entities are validated, and only
what touches them is checked for references and conflicts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, islice

from reconciler.catalog.coverage import Coverage
from reconciler.catalog.matches import Matches
from reconciler.catalog.passthroughs import Passthroughs
from reconciler.catalog.references import References, Written, cluster_of
from reconciler.language.findings import Entities, Finding, place
from reconciler.language.loader import LoadedFile, Node, load_blob
from reconciler.language.validator import RawEntity, raw_entities, validate
from reconciler.materials.completing import NOTHING_HERE, Completed, Machine, complete, is_ordered
from reconciler.materials.reading import Reader, no_files
from schemas.diagnostic import Diagnostic, sort_key
from schemas.entity import NOWHERE, SETTINGS_KEY, Entity, EntityKey
from schemas.kinds import defaults
from schemas.material import FIELDS, materials_of

FINDINGS_MAX = 500
"""Findings between entities in one candidate: removing one cluster can leave thousands dangling."""


@dataclass(frozen=True, slots=True)
class Definition:
    """An entity in its file, and the hash of its raw value by which the next stage knows it."""

    entity: Entity
    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class Candidate:
    """What the changed files come to. `desired` has the touched entities alone; None is gone."""

    diagnostics: tuple[Diagnostic, ...]
    desired: Mapping[EntityKey, Entity | None]
    contents: Mapping[str, bytes] = field(repr=False)
    """The files that touched entities name, by hash."""
    staged: _Staged = field(repr=False)

    @property
    def ok(self) -> bool:
        """Whether there are no errors, so that it may be accepted."""
        return all(found.severity != "error" for found in self.diagnostics)

    @property
    def warnings(self) -> tuple[Diagnostic, ...]:
        """The diagnostics that do not stand in the way."""
        return tuple(found for found in self.diagnostics if found.severity == "warning")


class Catalog:
    """All files and entities of the accepted configuration. At most one candidate is in use."""

    def __init__(self, machine: Machine = NOTHING_HERE) -> None:
        self._machine = machine
        self._files: dict[str, dict[EntityKey, Definition]] = {}
        self._entities: dict[EntityKey, Entity] = {}
        self._references = References()
        self._matches = Matches()
        self._coverage = Coverage()
        self._passthroughs = Passthroughs()
        self._named: defaultdict[str, dict[EntityKey, str]] = defaultdict(dict)
        self._outside: set[str] = set()
        self._version = 0

    def stage(
        self,
        changed: Mapping[str, bytes | None],
        read: Reader = no_files,
        touched: Iterable[str] = (),
    ) -> Candidate:
        """Return what the files come to with these contents; None is a file that is gone.

        `read` gives the files that entities name; `touched` are those of them that may have another
        content than before. What `files_naming` gives for them must be among the changed.
        """
        stale = {key for path in touched for key in self._named.get(path, ())}
        reading = partial(complete, read=read, machine=self._machine)
        staged = _Staged(self._version, self._files, self._entities, reading, stale)
        for path in sorted(changed):
            staged.read(path, changed[path])
        staged.settle()
        self._swap(staged.before, staged.after)
        try:
            findings = list(islice(self._errors(staged), FINDINGS_MAX + 1))
            warnings = self._warnings(staged, staged.faulty_files(findings))
            findings += islice(warnings, FINDINGS_MAX + 1 - len(findings))
        finally:
            self._swap(staged.after, staged.before)
        diagnostics = staged.diagnostics(findings)
        return Candidate(diagnostics, staged.desired, staged.contents, staged)

    def accept(self, candidate: Candidate) -> None:
        """Make a candidate the base of the next one."""
        staged = candidate.staged
        if not candidate.ok:
            raise ValueError("a candidate with errors cannot be accepted")
        if staged.version != self._version:
            raise ValueError("the candidate was staged on another base")
        self._version += 1
        self._swap(staged.before, staged.after)
        self._entities.update(staged.moved)
        for path, definitions in staged.files.items():
            if definitions:
                self._files[path] = definitions
            else:
                self._files.pop(path, None)

    def restore(self, entities: Iterable[Entity]) -> None:
        """Take over the entities of a state that was accepted before a restart, unparsed.

        A file's raw values are not known then: its entities are validated when it next changes.
        """
        for entity in entities:
            if entity.provenance != NOWHERE:
                definitions = self._files.setdefault(entity.provenance.file, {})
                definitions[entity.key] = Definition(entity, b"")
            self._swap((), (entity,))

    def outside_files(self) -> dict[str, frozenset[str]]:
        """Return the files outside of the repository that accepted entities name, with hashes.

        One that an entity waits for has none.
        """
        return {path: frozenset(filter(None, self._named[path].values())) for path in self._outside}

    def named_together(self, paths: Iterable[str]) -> list[frozenset[str]]:
        """Return these files by the entities that name them; the files of one belong together."""
        apart: defaultdict[EntityKey, set[str]] = defaultdict(set)
        for path in paths:
            for key in self._named.get(path, ()):
                apart[key].add(path)
        return sorted({frozenset(together) for together in apart.values()}, key=sorted)

    def files_naming(self, paths: Iterable[str]) -> set[str]:
        """Return the configuration files with entities that name one of these files."""
        keys = {key for path in paths for key in self._named.get(path, ())}
        return {self._entities[key].provenance.file for key in keys}

    def entities(self) -> Iterator[Entity]:
        """Return all accepted entities, with their places in the files as they are now."""
        return iter(self._entities.values())

    def _swap(self, before: Iterable[Entity], after: Iterable[Entity]) -> None:
        for entity in before:
            del self._entities[entity.key]
            for path, _ in self._files_of(entity):
                self._named[path].pop(entity.key, None)
                if not self._named[path]:
                    del self._named[path]
                    self._outside.discard(path)
            self._references.remove(entity)
            self._matches.remove(entity)
            self._coverage.remove(entity)
            self._passthroughs.remove(entity)
        for entity in after:
            self._entities[entity.key] = entity
            for path, digest in self._files_of(entity):
                self._named[path][entity.key] = digest
                if path.startswith("/"):
                    self._outside.add(path)
            self._references.add(entity)
            self._matches.add(entity)
            self._coverage.add(entity)
            self._passthroughs.add(entity)

    def _files_of(self, entity: Entity) -> Iterator[tuple[str, str]]:
        """Yield the files of an entity with their hashes; "" is one that has not come yet."""
        named = {material.path: material.sha256 for material in materials_of(entity)}
        if is_ordered(entity):
            path = self._machine.issued_path(entity.key.name)
            named = {path: named.get(path, "")} if path else {}
        yield from named.items()

    def ordered(self) -> list[Entity]:
        """Return the certificates that come from an ACME server."""
        return [self._entities[key] for key in self._coverage.ordered]

    def claims(self, hostname: str) -> bool:
        """Tell whether a frontend answers for a hostname over TLS of ours, or in clear text."""
        return self._coverage.claims(hostname, self._entities)

    def _errors(self, staged: _Staged) -> Iterator[Finding]:
        keys = sorted(staged.desired)
        # With a file that cannot be read, everything may be missing that it holds.
        if not staged.incomplete:
            yield from self._references.dangling(
                keys, self._entities, staged.declared, staged.written
            )
        yield from self._references.clashes(keys, self._entities)
        yield from self._matches.conflicts(keys, self._entities)
        yield from self._passthroughs.misplaced(keys, self._entities, self._references)

    def _warnings(self, staged: _Staged, faulty: set[str]) -> Iterator[Finding]:
        """Yield what is unused or never reached, unless an error may be the reason for it.

        `faulty` are the files with errors. A cluster's backends are in its file, and a name that is
        not used may be meant by whatever could not be read.
        """
        keys = sorted(staged.desired)
        for found in chain(
            self._matches.hidden(keys, self._entities),
            self._passthroughs.hidden(keys, self._entities),
            self._references.loops(keys, self._entities),
            self._references.without_backends(keys, self._entities),
        ):
            if self._entities[found.key].provenance.file not in faulty:
                yield found
        if staged.outlined:
            yield from self._references.unused(keys, staged.before, self._entities, staged.written)
        if staged.outlined and not faulty:
            # A certificate with an error may have the names that are missing.
            before, entities = staged.before, self._entities
            yield from self._coverage.uncovered(keys, before, entities, self._references)
            yield from self._coverage.unused(keys, entities, self._references)
            yield from self._coverage.unclaimed(keys, before, entities)


class _Staged:
    """The changed files while they are looked at, and what they change."""

    def __init__(
        self,
        version: int,
        base_files: Mapping[str, dict[EntityKey, Definition]],
        base: Entities,
        completing: Callable[[Entity], Completed],
        stale: set[EntityKey],
    ) -> None:
        self.contents: dict[str, bytes] = {}
        self._completing = completing
        self._stale = stale
        self._remarks: list[Finding] = []
        self.version = version
        self.files: dict[str, dict[EntityKey, Definition]] = {}
        self.desired: dict[EntityKey, Entity | None] = {}
        self.moved: dict[EntityKey, Entity] = {}
        self.before: list[Entity] = []
        self.after: list[Entity] = []
        self.declared: set[EntityKey] = set()
        self.incomplete = False
        self.written = Written()
        self._within_entities = 0
        self._base_files = base_files
        self._base = base
        self._loaded: dict[str, LoadedFile] = {}
        self._raws: dict[EntityKey, RawEntity] = {}

    @property
    def outlined(self) -> bool:
        """Whether it is known of every file which entities are in it."""
        loaded = self._loaded.values()
        found = sum(len(each.diagnostics) for each in loaded)
        return found == self._within_entities and not any(each.full for each in loaded)

    def faulty_files(self, findings: Iterable[Finding]) -> set[str]:
        """Return the files that have errors."""
        faulty = {path for path, loaded in self._loaded.items() if loaded.diagnostics}
        for finding in chain(self._remarks, findings):
            if finding.severity == "error":
                faulty.add(self._diagnostic(finding).file)
        return faulty

    def read(self, path: str, data: bytes | None) -> None:
        """Take in the new content of one file."""
        if data is None:
            self.files[path] = {}
            return
        loaded = self._loaded[path] = load_blob(path, data)
        if loaded.unreadable:
            self.incomplete = True
            return
        definitions = self.files[path] = {}
        previous = self._base_files.get(path, {})
        for raw in raw_entities(loaded):
            if self._is_new(raw):
                definition = self._definition(raw, previous.get(raw.key))
                if definition is not None:
                    definitions[raw.key] = definition
        self.declared |= loaded.declared

    def settle(self) -> None:
        """Compare what the files define now with what they defined, once all are read."""
        fresh: dict[EntityKey, Entity] = {}
        for path in list(self.files):
            self._refuse_taken(path)
            fresh.update((key, found.entity) for key, found in self.files[path].items())
        former = chain.from_iterable(self._base_files.get(path, {}) for path in self.files)
        for key in former:
            if key not in fresh:
                self.desired[key] = None
        for key, entity in fresh.items():
            old = self._base.get(key)
            if old is None or old.value != entity.value:
                self.desired[key] = entity
            elif old is not entity:
                self.moved[key] = entity
        self._default_settings()
        self.before = [self._base[key] for key in self.desired if key in self._base]
        self.after = [entity for entity in self.desired.values() if entity is not None]

    def diagnostics(self, findings: list[Finding]) -> tuple[Diagnostic, ...]:
        """Return everything that was found, in the order of the files."""
        found = [
            self._diagnostic(finding) for finding in (*self._remarks, *findings[:FINDINGS_MAX])
        ]
        for loaded in self._loaded.values():
            found += (*loaded.diagnostics, *loaded.warnings)
        found.sort(key=sort_key)
        if len(findings) > FINDINGS_MAX:
            severity = findings[FINDINGS_MAX].severity
            found.append(Diagnostic(severity, "", 0, 0, "there is more, which is not shown"))
        return tuple(found)

    def _definition(self, raw: RawEntity, previous: Definition | None) -> Definition | None:
        fingerprint = raw.fingerprint()
        is_same = previous is not None and previous.fingerprint == fingerprint
        if is_same and previous is not None and raw.key not in self._stale:
            where = raw.provenance
            if previous.entity.provenance == where:
                return previous
            return Definition(replace(previous.entity, provenance=where), fingerprint)
        found_before = len(raw.loaded.diagnostics)
        entity = validate(raw)
        self._within_entities += len(raw.loaded.diagnostics) - found_before
        if entity is None:
            self.written.add(raw.key, raw.value)
        completed = self._complete(entity) if entity is not None else None
        return None if completed is None else Definition(completed, fingerprint)

    def _complete(self, entity: Entity) -> Entity | None:
        """Complete an entity by the files that it names; what is wrong with them is kept."""
        done = self._completing(entity)
        self.contents |= done.contents
        for remark in done.remarks:
            field = next(
                (path for path in FIELDS[entity.key.kind] if path[-1] == remark.field),
                (remark.field,),
            )
            message = f"{entity.key}: {remark.message}"
            self._remarks.append(Finding(remark.severity, entity.key, field, message, remark.hint))
        if done.entity is not None and is_ordered(done.entity):
            return self._with_former(done.entity)
        return done.entity

    def _with_former(self, entity: Entity) -> Entity:
        """Keep what was served until something has been issued."""
        former = self._base.get(entity.key)
        if former is None or entity.value["certificate"] is not None:
            return entity
        kept = {field: former.value[field] for field in ("certificate", "private_key")}
        return replace(entity, value={**entity.value, **kept})

    def _is_new(self, raw: RawEntity) -> bool:
        """Say whether no file read before defines the entity too; report it if one does."""
        first = self._raws.setdefault(raw.key, raw)
        if first is raw:
            return True
        if not self._cluster_twice(raw.key):
            _report_twice(raw, f"{first.loaded.path}:{first.name_node.line}")
        return False

    def _refuse_taken(self, path: str) -> None:
        """Report what a file defines although a file outside of this change has it already."""
        for key in list(self.files[path]):
            owner = self._base.get(key)
            if owner is None or owner.provenance == NOWHERE:
                continue
            if owner.provenance.file in self.files or owner.provenance.file in self._loaded:
                continue
            if not self._cluster_taken(key):
                _report_twice(self._raws[key], place(owner))
            del self.files[path][key]

    def _cluster_twice(self, key: EntityKey) -> bool:
        # One sentence for a cluster that is there twice; not one more for each of its backends.
        cluster = self._raws.get(EntityKey("cluster", cluster_of(key)))
        backend = self._raws[key]
        return key.kind == "backend" and cluster is not None and cluster.loaded is backend.loaded

    def _cluster_taken(self, key: EntityKey) -> bool:
        cluster = self._base.get(EntityKey("cluster", cluster_of(key)))
        return key.kind == "backend" and cluster is not None

    def _default_settings(self) -> None:
        """See to it that the settings always exist."""
        if self.desired.get(SETTINGS_KEY) is None and (
            SETTINGS_KEY in self.desired or SETTINGS_KEY not in self._base
        ):
            entity = Entity(SETTINGS_KEY, defaults("settings"), NOWHERE)
            old = self._base.get(SETTINGS_KEY)
            if old is not None and old.value == entity.value:
                del self.desired[SETTINGS_KEY]
                self.moved[SETTINGS_KEY] = entity
            else:
                self.desired[SETTINGS_KEY] = entity

    def _diagnostic(self, finding: Finding) -> Diagnostic:
        """Show a finding at its value if the file is at hand, and else at the entity's name."""
        raw = self._raws.get(finding.key)
        if raw is not None:
            node, file, line = raw.node_at(finding.path), raw.loaded.path, raw.loaded.source_line
            return _at(finding, file, node, line)
        entity = self._base[finding.key]
        where = entity.provenance
        return _at(finding, where.file, Node(None, where.line, where.column), lambda _line: None)


def _report_twice(raw: RawEntity, first: str) -> None:
    kind = "the settings are" if raw.key == SETTINGS_KEY else f"{raw.key} is"
    hint = "keep one of the two" if raw.key == SETTINGS_KEY else "rename or remove one of the two"
    raw.loaded.report(raw.name_node, f"{kind} defined twice: first at {first}", hint)


def _at(finding: Finding, file: str, node: Node, line: Callable[[int], str | None]) -> Diagnostic:
    return Diagnostic(
        finding.severity,
        file,
        node.line,
        node.column,
        finding.message,
        finding.hint,
        line(node.line),
        node.width,
    )
