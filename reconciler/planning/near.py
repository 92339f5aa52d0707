"""Which frontends may share requests with another one, by what hostnames and paths say alone.

Pure: asks two views. Called by `heirs`, which tries requests on what is found here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from typing import NamedTuple

from reconciler.catalog.candidates import covering
from reconciler.catalog.relations import MATCH, View, is_wide, listeners_of, term
from schemas.entities.entity import Entity, EntityKey
from schemas.kinds.frontend import Frontend
from schemas.record import record
from schemas.routes.match import PathMatch
from schemas.values.regex import literal_prefix

NEAR_MAX = 24
"""So many frontends of each kind that share a hostname are looked at."""
ALL_NEAR_MAX = 48
SCANNED_MAX = 500
"""So many expressions of a hostname are compared by how they begin."""
ELEMENTS_MAX = 100
"""So many elements of a path others may end at."""
_ASKING = {"client_addresses", "cookies", "headers", "methods", "query"}


@record
class Moved:
    """The frontends that are added, changed and removed."""

    keys: Mapping[str, Sequence[EntityKey]]
    """By hostname."""
    below: Mapping[str, Sequence[str]]
    """Their hostnames, by each wildcard that covers them."""


def near_to(
    frontend: Entity, listener: str, hostname: str, views: tuple[View, View], moved: Moved
) -> tuple[dict[EntityKey, str], bool]:
    """Return frontends that may match some of its requests for a hostname, and whether it is all.

    With the wildcard under which they stand, "" for the hostname itself. All: those of the second
    view, which may take something over.
    """
    own = frontend.typed(Frontend)
    area = area_of(own.path)
    found: dict[EntityKey, str] = {}
    whole = True
    for name in covering(hostname):
        mark = name if is_wide(name) else ""
        for view in reversed(views):
            every, below, cut = _sharing(view, term(listener, name), area)
            some = [
                key for key in moved.keys.get(name, ()) if is_at(listener, [name], view.get(key))
            ]
            new = [key for key in dict.fromkeys((*every, *some)) if key not in found]
            found |= dict.fromkeys(new[:ALL_NEAR_MAX], mark)
            kept = [key for key in below if key not in found][: ALL_NEAR_MAX - len(found)]
            found |= dict.fromkeys(kept, mark)
            if view is views[0]:
                continue
            # What is more specific than a prefix has had its requests before as well.
            if own.path.prefix is None or name not in own.names:
                cut |= not below.keys() <= found.keys()
            whole &= not cut and len(new) <= ALL_NEAR_MAX
            # Who is under a wider hostname gets nothing beside one that takes all.
            if any(_takes_all(view[key], area) for key in (*new, *kept)):
                return found, whole
    return found, whole


def is_at(listener: str, names: Collection[str], frontend: Entity | None) -> bool:
    """Tell whether a frontend stands there under one of some hostnames: one that moves may not."""
    if frontend is None or listener not in listeners_of(frontend):
        return False
    return any(name in names for name in frontend.typed(Frontend).names)


class Area(NamedTuple):
    """Where paths lie: all begin so, and by whole elements or not."""

    beginning: str
    whole: bool

    def may_share(self, other: Area) -> bool:
        """Tell whether some path may lie in both."""
        one, two = self.beginning, other.beginning
        return one.startswith(two) or two.startswith(one)


@lru_cache(maxsize=4 * SCANNED_MAX)
def area_of(match: PathMatch) -> Area:
    """Return where the paths lie that are matched."""
    kind, text = match.given()
    if kind == "suffix" or match.ignore_case:
        return Area("", whole=False)
    if kind == "regex":
        return Area(literal_prefix(text), whole=False)
    return Area(text, whole=True)


def _takes_all(frontend: Entity, area: Area) -> bool:
    """Tell whether a frontend matches each request of an area, whatever else it asks for."""
    asked = frontend.typed(Frontend)
    kind, path = asked.path.given()
    if kind != "prefix" or frontend.value.keys() & _ASKING or asked.passthrough:
        return False
    below = f"{path.rstrip('/')}/"
    return area.beginning.startswith(below) or (area.whole and area.beginning == path)


def _sharing(
    view: View, under: str, area: Area
) -> tuple[dict[EntityKey, None], dict[EntityKey, None], bool]:
    """Return the frontends of a hostname that may share a path with an area.

    Apart from others those with an exact path or a prefix that lies in it, one more at most than is
    looked at; and whether there are too many others.
    """
    elements = area.beginning.split("/")[:ELEMENTS_MAX]
    above = dict.fromkeys("/".join(elements[: each + 1]) or "/" for each in range(len(elements)))
    every = _keys(view, (term(under, "prefix", each, "") for each in above), NEAR_MAX)
    every |= (suffixes := _keys(view, [term(under, "suffix", "")], NEAR_MAX + 1))
    regexes = _keys(view, [term(under, "regex", "")], SCANNED_MAX)
    for key in regexes:
        if area.may_share(area_of(view[key].typed(Frontend).path)):
            every[key] = None
    begun = f"{area.beginning.rstrip('/')}/" if area.whole else area.beginning
    inside = [term(under, "exact", begun), term(under, "prefix", begun)]
    if area.whole:
        inside.append(term(under, "exact", area.beginning, ""))
    below = _keys(view, inside, NEAR_MAX + 1)
    cut = len(suffixes) > NEAR_MAX or len(regexes) == SCANNED_MAX
    return every, {key: None for key in below if key not in every}, cut


def _keys(view: View, prefixes: Iterable[str], most: int) -> dict[EntityKey, None]:
    """Return so many frontends that stand under each beginning of a term."""
    found: dict[EntityKey, None] = {}
    for each in prefixes:
        under = view.related_under(MATCH, each, most)
        found |= dict.fromkeys(islice((key for keys in under.values() for key in keys), most))
    return found
