"""Sets of keys without which requests get 503, from the time when a plan is applied.

A set that has been fetched on this machine is known by its hash. Where it is not known what has
been fetched (`is_here`), a set that somebody names already is taken for one that has. Pure. Called
by `consequences` beside.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from reconciler.catalog.policies import (
    Word,
    concerned,
    levels_of,
    merged,
    policies_of,
    words_of,
)
from reconciler.catalog.relations import FETCHED, View, term, users
from schemas.changes.change import Change
from schemas.entities.entity import Entity, EntityKey
from schemas.kinds.frontend import Frontend
from schemas.policies.jwt import Jwt

_Sets = dict[tuple[str, str | None], None]


def unfetched(
    changes: Iterable[Change], before: View, after: View, *, is_here: bool
) -> dict[EntityKey, list[str]]:
    """Return the URLs of sets that are asked for by a change, and have not been fetched."""
    found: dict[EntityKey, list[str]] = {}
    if not after.related_under(FETCHED, "", 1):
        return found
    for change in changes:
        missing = _missing(change.after, after)
        if missing:
            already = _missing(change.before, before)
            urls = [
                url
                for url, ca in missing
                if (url, ca) not in already
                and (is_here or not before.related(FETCHED, term(url, ca or "")))
            ]
            if urls:
                found[change.key] = list(dict.fromkeys(urls))
    return found


def _missing(entity: Entity | None, view: View) -> _Sets:
    """The sets that requests need by what an entity says, and that are not there."""
    found: _Sets = {}
    for word in _words(entity, view) if entity is not None else ():
        if isinstance(word.said, Jwt):
            keys = word.said.keys
            if keys.url is not None and keys.sha256 is None:
                found[keys.url, word.said.ca] = None
    return found


def _words(entity: Entity, view: View) -> Iterator[Word]:
    """What an entity says, or has said, of requests; nothing where none are concerned."""
    match entity.key.kind:
        case "frontend":
            for listener in entity.typed(Frontend).listeners:
                yield from merged(levels_of(entity, listener, view)).values()
        case "policy" if concerned(entity.key, view):
            yield from (word for _, word in words_of(entity))
        case "listener" if any(each.kind == "frontend" for each in users(view, entity.key)):
            for policy in policies_of(entity, view):
                yield from (word for _, word in words_of(policy))
