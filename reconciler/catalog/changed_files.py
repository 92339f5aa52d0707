"""The changed files of one candidate: parsed, validated, completed, and compared with the base.

Only changed files are parsed, and of these only changed entities are validated. Nothing here writes
into the base. Called by `reconciler.catalog.catalog`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import chain

from reconciler.catalog.parsing import ParsedEntity
from reconciler.catalog.references import Written
from reconciler.catalog.relations import Relate, Remembered, View, cluster_of, wildcard_of
from reconciler.language.document import Document, Node, read_document
from reconciler.language.findings import Finding, place
from reconciler.language.raw import RawEntity, raw_entities
from reconciler.language.validator import validate
from reconciler.materials.completing import Completed, is_ordered, with_fetched
from schemas.entities.diagnostic import Diagnostic, sort_key
from schemas.entities.entity import NOWHERE, SETTINGS_KEY, Entity, EntityKey, Mark, Provenance
from schemas.entities.material import FIELDS, TRUSTED_AT_FETCHES, TRUSTED_AT_ORDERS
from schemas.kinds.certificate import Certificate
from schemas.kinds.settings import Settings

FINDINGS_MAX = 500
"""Findings between entities in one candidate: removing one cluster can leave thousands dangling."""


class ChangedFiles:
    """The changed files while they are looked at, and what they change."""

    def __init__(
        self,
        base: View,
        completing: Callable[[Entity], Completed],
        stale: set[EntityKey],
        relate: Relate,
        content: Callable[[str], bytes | None] = lambda _: None,
    ) -> None:
        """`content` gives the bytes of a file that was taken in without them."""
        self._content = content
        self.relate = Remembered(relate)
        # What was taken in without the bytes of its file, and in which file it is.
        self._taken: dict[EntityKey, str] = {}
        self.contents: dict[str, bytes] = {}
        self._completing = completing
        self._stale = stale
        self._remarks: list[Finding] = []
        self.files: dict[str, dict[EntityKey, Mark]] = {}
        """Path → what it defines now."""
        self.desired: dict[EntityKey, Entity | None] = {}
        self.moved: dict[EntityKey, Entity] = {}
        self.before: list[Entity] = []
        self.declared: set[EntityKey] = set()
        self.incomplete = False
        self.written = Written()
        self._within_entities = 0
        self._fresh: dict[EntityKey, Entity] = {}
        # At the same place with the same raw value: not even looked up.
        self._kept: set[EntityKey] = set()
        self.base = base
        self._documents: dict[str, Document] = {}
        self._raws: dict[EntityKey, RawEntity] = {}

    @property
    def outlined(self) -> bool:
        """Whether it is known of every file which entities are in it."""
        documents = self._documents.values()
        found = sum(len(each.diagnostics) for each in documents)
        return found == self._within_entities and not any(each.full for each in documents)

    def faulty_files(self, findings: Iterable[Finding]) -> set[str]:
        """Return the files that have errors."""
        faulty = {path for path, document in self._documents.items() if document.diagnostics}
        for finding in chain(self._remarks, findings):
            if finding.severity == "error":
                faulty.add(self._diagnostic(finding).file)
        return faulty

    def read(self, path: str, data: bytes | None) -> None:
        """Take in the new content of one file."""
        if data is None:
            self.files[path] = {}
            return
        document = self._documents[path] = read_document(path, data)
        if document.unreadable:
            self.incomplete = True
            return
        defined = self.files[path] = {}
        previous = self.base.marks(path)
        for raw in raw_entities(document):
            if self._is_new(raw):
                mark = Mark(raw.fingerprint(), raw.provenance.line, raw.provenance.column)
                before = previous.get(raw.key)
                if before == mark and raw.key not in self._stale:
                    defined[raw.key] = mark
                    self._kept.add(raw.key)
                    continue
                entity = self._entity(raw, before, mark)
                if entity is not None:
                    defined[raw.key] = mark
                    self._fresh[raw.key] = entity
        self.declared |= document.declared

    def take(self, path: str, found: list[ParsedEntity]) -> bool:
        """Take in a file in which nothing is wrong; not, if another one has something of it."""
        if any(each.key in self._taken or each.key in self._raws for each in found):
            return False
        defined = self.files[path] = {}
        previous = self.base.marks(path)
        for each in found:
            self._taken[each.key] = path
            before = previous.get(each.key)
            if before == each.mark and each.key not in self._stale:
                self._kept.add(each.key)
            else:
                written = each.at(path)
                entity = self._known(each.key, before, each.mark, written.provenance)
                entity = entity or self._complete(written)
                if entity is None:
                    continue
                self._fresh[each.key] = entity
                if entity is written and each.relations is not None:
                    self.relate.remember(entity, each.relations)
            defined[each.key] = each.mark
        return True

    def renew(self, key: EntityKey) -> None:
        """Complete an entity of the base anew, by the files that it names."""
        completed = self._complete(self.base[key])
        if completed is not None:
            self._fresh[key] = completed

    def settle(self) -> None:
        """Compare what the files define now with what they defined, once all are read."""
        self.base.expect(self._fresh)
        for path in list(self.files):
            self._refuse_taken(path)
        former = chain.from_iterable(self.base.marks(path) for path in self.files)
        for key in former:
            if key not in self._fresh and key not in self._kept:
                self.desired[key] = None
        for key, entity in self._fresh.items():
            old = self.base.get(key)
            if old is None or old.value != entity.value:
                self.desired[key] = entity
            elif old.provenance != entity.provenance:
                self.moved[key] = entity
        self._hand_on_certificates()
        self._default_settings()
        self.before = [old for key in self.desired if (old := self.base.get(key)) is not None]

    def diagnostics(self, findings: list[Finding]) -> tuple[Diagnostic, ...]:
        """Return everything that was found, in the order of the files."""
        found = [
            self._diagnostic(finding) for finding in (*self._remarks, *findings[:FINDINGS_MAX])
        ]
        for document in self._documents.values():
            found += (*document.diagnostics, *document.warnings)
        found.sort(key=sort_key)
        if len(findings) > FINDINGS_MAX:
            severity = findings[FINDINGS_MAX].severity
            found.append(Diagnostic(severity, "", 0, 0, "there is more, which is not shown"))
        return tuple(found)

    def _entity(self, raw: RawEntity, before: Mark | None, mark: Mark) -> Entity | None:
        """Return an entity, validated if its raw value is another one than before."""
        return self._known(raw.key, before, mark, raw.provenance) or self._validated(raw)

    def _known(
        self, key: EntityKey, before: Mark | None, mark: Mark, provenance: Provenance
    ) -> Entity | None:
        """Return an entity whose raw value is what it was before."""
        if before is None or before.fingerprint != mark.fingerprint or key in self._stale:
            return None
        known = self.base.get(key)
        return replace(known, provenance=provenance) if known is not None else None

    def _validated(self, raw: RawEntity) -> Entity | None:
        found_before = len(raw.document.diagnostics)
        entity = validate(raw)
        self._within_entities += len(raw.document.diagnostics) - found_before
        if entity is None:
            self.written.add(raw.key, raw.value)
            return None
        return self._complete(entity)

    def _complete(self, entity: Entity) -> Entity | None:
        """Complete an entity by the files that it names; what is wrong with them is kept."""
        done = self._completing(entity)
        self.contents |= done.contents
        named = (TRUSTED_AT_ORDERS,) if is_ordered(entity) else FIELDS.get(entity.key.kind, ())
        if entity.key.kind in ("frontend", "policy"):
            named = (*named, TRUSTED_AT_FETCHES)
        for remark in done.remarks:
            field = next(
                (path for path in named if path[-1] == remark.field),
                (remark.field,),
            )
            message = f"{entity.key}: {remark.message}"
            self._remarks.append(Finding(remark.severity, entity.key, field, message, remark.hint))
        if done.entity is not None and is_ordered(done.entity):
            return self._with_former(done.entity)
        return done.entity and with_fetched(done.entity, self.base.get)

    def _with_former(self, entity: Entity) -> Entity:
        """Keep what was served until something has been issued."""
        former = self.base.get(entity.key)
        new = entity.typed(Certificate)
        if former is None or new.certificate is not None:
            return entity
        old = former.typed(Certificate)
        kept = {"certificate": old.certificate, "private_key": old.private_key}
        return Entity.of(entity.key, new.model_copy(update=kept), entity.provenance)

    def _hand_on_certificates(self) -> None:
        """Serve what another one was served by that goes, until something has been issued.

        So a certificate that is renamed, parted or grown leaves none of its hostnames without one.
        Of several it is that with most of the hostnames.
        """
        for key, entity in self.desired.items():
            if entity is None or key.kind != "certificate" or not is_ordered(entity):
                continue
            new = entity.typed(Certificate)
            if new.certificate is not None:
                continue
            old = max(self._gone_certificates(), key=lambda each: _common(each, new), default=None)
            if old is not None and _common(old, new):
                kept = {"certificate": old.certificate, "private_key": old.private_key}
                served = Entity.of(key, new.model_copy(update=kept), entity.provenance)
                self._fresh[key] = self.desired[key] = served

    def _gone_certificates(self) -> Iterator[Certificate]:
        gone = sorted(key for key, to in self.desired.items() if to is None)
        for key in gone:
            if key.kind == "certificate":
                old = self.base[key].typed(Certificate)
                if old.certificate is not None:
                    yield old

    def _is_new(self, raw: RawEntity) -> bool:
        """Say whether no file read before defines the entity too; report it if one does."""
        first = self._raw(raw.key)
        if first is None:
            self._raws[raw.key] = raw
            return True
        if not self._cluster_twice(raw.key):
            _report_twice(raw, f"{first.document.path}:{first.name_node.line}")
        return False

    def _refuse_taken(self, path: str) -> None:
        """Report what a file defines although a file outside of this change has it already."""
        for key in self.files[path].keys() - self._kept:
            owner = self.base.get(key)
            if owner is None or owner.provenance == NOWHERE or self._is_staged(owner):
                continue
            if not self._cluster_taken(key):
                raw = self._raw(key)
                assert raw is not None, "its file defines it"
                _report_twice(raw, place(owner))
            del self.files[path][key], self._fresh[key]

    def _is_staged(self, owner: Entity) -> bool:
        file = owner.provenance.file
        return file in self.files or file in self._documents

    def _cluster_twice(self, key: EntityKey) -> bool:
        # One sentence for a cluster that is there twice; not one more for each of its backends.
        if key.kind != "backend":
            return False
        cluster, backend = self._raw(EntityKey("cluster", cluster_of(key))), self._raw(key)
        if cluster is None or backend is None:
            return False
        return cluster.document is backend.document

    def _cluster_taken(self, key: EntityKey) -> bool:
        cluster = self.base.get(EntityKey("cluster", cluster_of(key)))
        return key.kind == "backend" and cluster is not None

    def _raw(self, key: EntityKey) -> RawEntity | None:
        """Return an entity as written; read now, if its file was taken in without its bytes."""
        path = self._taken.get(key)
        if path is not None and key not in self._raws:
            document = self._documents[path] = read_document(path, self._content(path) or b"")
            for raw in raw_entities(document):
                self._raws[raw.key] = raw
        return self._raws.get(key)

    def _default_settings(self) -> None:
        """See to it that the settings always exist."""
        if self.desired.get(SETTINGS_KEY) is None and (
            SETTINGS_KEY in self.desired or self.base.get(SETTINGS_KEY) is None
        ):
            entity = Entity.of(SETTINGS_KEY, Settings(), NOWHERE)
            old = self.base.get(SETTINGS_KEY)
            if old is not None and old.value == entity.value:
                del self.desired[SETTINGS_KEY]
                self.moved[SETTINGS_KEY] = entity
            else:
                self.desired[SETTINGS_KEY] = entity

    def _diagnostic(self, finding: Finding) -> Diagnostic:
        """Show a finding at its value if the file is at hand, and else at the entity's name."""
        raw = self._raw(finding.key)
        if raw is not None:
            node, file, line = (
                raw.node_at(finding.path),
                raw.document.path,
                raw.document.source_line,
            )
            return _at(finding, file, node, line)
        entity = self.base[finding.key]
        where = entity.provenance
        return _at(finding, where.file, Node(None, where.line, where.column), lambda _line: None)


def _report_twice(raw: RawEntity, first: str) -> None:
    kind = "the settings are" if raw.key == SETTINGS_KEY else f"{raw.key} is"
    hint = "keep one of the two" if raw.key == SETTINGS_KEY else "rename or remove one of the two"
    raw.document.report(raw.name_node, f"{kind} defined twice: first at {first}", hint)


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


def _common(old: Certificate, new: Certificate) -> int:
    """Return how many hostnames of one certificate another one has."""
    had = set(old.hostnames or ())
    return sum(1 for name in new.hostnames or () if {name, wildcard_of(name)} & had)
