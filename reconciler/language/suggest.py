"""Did you mean: the known word closest to a wrong one. Called wherever a name is unknown."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

CANDIDATES_MAX = 20_000
"""Beyond this many names a guess costs more than it helps: a quarter of a second each."""

_CUTOFF = 0.6

_ELSEWHERE = {
    "balance": ("load_balancing",),
    "bind": ("address",),
    "endpoints": ("backends",),
    "entrypoints": ("listeners",),
    "host": ("hostname",),
    "hosts": ("hostname",),
    "lb_policy": ("load_balancing",),
    "listen": ("address",),
    "port": ("address",),
    "routers": ("frontends",),
    "routes": ("frontends",),
    "servers": ("backends", "clusters"),
    "services": ("clusters",),
    "targets": ("backends",),
    "upstream": ("cluster",),
    "upstreams": ("clusters",),
}
"""What the thing is called in other proxies: not close in letters, and what people write."""


def suggest(word: str, candidates: Iterable[str]) -> str | None:
    """Return the candidate that was most likely meant, or None."""
    known = list(candidates)
    for ours in _ELSEWHERE.get(word.lower(), ()):
        if ours in known:
            return ours
    if len(known) > CANDIDATES_MAX:
        return None
    close = get_close_matches(word.lower(), known, n=1, cutoff=_CUTOFF)
    return close[0] if close else None


def did_you_mean(word: str, candidates: Iterable[str]) -> str | None:
    """Return the hint with the closest candidate, or None."""
    close = suggest(word, candidates)
    return f'did you mean "{close}"?' if close else None
