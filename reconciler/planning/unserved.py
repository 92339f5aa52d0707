"""Hostnames that a plan takes a certificate from until another one has been issued.

What is ordered is served as what was issued before, where a commit hands that on; of several that
are joined only one can be, and a hostname that moves to a certificate that is there stays behind.
Pure: a file is known by its hash, and has the hostnames of who was served by it. Called by
`consequences` beside.
"""

from __future__ import annotations

from collections.abc import Iterable

from reconciler.catalog.relations import CONTENT, COVER, View, hostnames, wildcard_of
from reconciler.materials.completing import is_ordered
from schemas.changes.change import Change
from schemas.entities.entity import Entity, EntityKey
from schemas.kinds.certificate import Certificate


def unserved(changes: Iterable[Change], before: View, after: View) -> dict[EntityKey, list[str]]:
    """Return the hostnames of ordered certificates that have one now, and none until it comes."""
    found: dict[EntityKey, list[str]] = {}
    for change in changes:
        if change.key.kind != "certificate" or change.after is None or not is_ordered(change.after):
            continue
        names = [
            name
            for name in hostnames(change.after)
            if any(_has(name, each, before) for each in _for(name, before))
            and not any(_has(name, each, before) for each in _for(name, after))
        ]
        if names:
            found[change.key] = names
    return found


def _for(name: str, view: View) -> list[Entity]:
    """The certificates that say that they are for a hostname."""
    terms = [name, *filter(None, [wildcard_of(name)])]
    return [view[key] for term in terms for key in sorted(view.related(COVER, term))]


def _has(name: str, entity: Entity, before: View) -> bool:
    """Whether what it is served by is for a hostname, as far as is known."""
    file = entity.typed(Certificate).certificate
    if file is None:
        return False
    served = [before[key] for key in before.related(CONTENT, file.sha256 or "")]
    by_it = [each for each in served if each.key.kind == "certificate"]
    # What nobody was served by was looked at when it was read.
    return not by_it or not is_ordered(entity) or any(_says(name, each) for each in by_it)


def _says(name: str, entity: Entity) -> bool:
    said = hostnames(entity)
    return name in said or wildcard_of(name) in said
