"""Which frontends may serve a request, found by their relations instead of by looking at all.

A superset of those that match: by listener, hostname and path, as the engine's tables find them,
and without methods and values. Called by `explain` and `ranking` of
`reconciler.reporting.explaining`.
"""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.catalog.relations import MATCH, PASSED, View, term
from schemas.entities.entity import EntityKey

_ELEMENTS_MAX = 100
"""A path of more is looked for under its hostname alone: each element costs two questions."""


def candidates(view: View, listener: str, hostname: str, path: str) -> set[EntityKey]:
    """Return the frontends of a listener that may serve a path, which is in its normal form."""
    found: set[EntityKey] = set()
    for name in covering(hostname):
        for prefix in _prefixes(listener, name, path):
            for keys in view.related_under(MATCH, prefix).values():
                found |= keys.keys()
    return found


def passes_tls_on(view: View, listener: str, hostname: str) -> bool:
    """Tell whether TLS for a name is passed on there: the more specific hostname decides."""
    for name in covering(hostname):
        if view.related(PASSED, term(listener, name)):
            return True
        if name != "*" and view.related_under(MATCH, term(listener, name, "")):
            return False
    return False


def covering(hostname: str) -> Iterator[str]:
    """Yield the hostnames under which a frontend may stand for one, the most specific first."""
    yield hostname
    parent = hostname
    while "." in parent and not hostname.startswith("["):
        parent = parent.partition(".")[2]
        yield f"*.{parent}"
    if hostname != "*":
        yield "*"


def _prefixes(listener: str, hostname: str, path: str) -> Iterator[str]:
    elements = path.strip("/").split("/")
    if len(elements) > _ELEMENTS_MAX:
        yield term(listener, hostname, "")
        return
    yield term(listener, hostname, "exact", path, "")
    yield term(listener, hostname, "regex", "")
    yield term(listener, hostname, "suffix", "")
    yield term(listener, hostname, "prefix", "/", "")
    for number in range(1, len(elements) + 1):
        above = "/" + "/".join(elements[:number])
        # One slash at the end means nothing.
        yield term(listener, hostname, "prefix", above, "")
        yield term(listener, hostname, "prefix", f"{above}/", "")
