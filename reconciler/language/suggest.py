"""Did you mean: the known word closest to a wrong one. Called wherever a name is unknown."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

CANDIDATES_MAX = 20_000
"""Beyond this many names a guess costs more than it helps: a quarter of a second each."""

_CUTOFF = 0.6

_ELSEWHERE = {
    "algorithm": ("load_balancing",),
    "backend": ("cluster",),
    "balance": ("load_balancing",),
    "balancer": ("load_balancing",),
    "bind": ("address",),
    "cert": ("certificate",),
    "certs": ("certificates",),
    "crt": ("certificate",),
    "default_backend": ("cluster",),
    "domain": ("hostname",),
    "domains": ("hostname",),
    "endpoints": ("backends",),
    "entrypoints": ("listeners",),
    "host": ("hostname",),
    "hosts": ("hostname",),
    "key": ("private_key",),
    "lb_method": ("load_balancing",),
    "lb_policy": ("load_balancing",),
    "listen": ("address",),
    "location": ("path",),
    "log": ("access_log",),
    "maxconn": ("max_connections", "connections"),
    "port": ("address",),
    "proxy_pass": ("cluster",),
    "routers": ("frontends",),
    "routes": ("frontends",),
    "server_name": ("hostname",),
    "servers": ("backends", "clusters"),
    "service": ("cluster",),
    "services": ("clusters",),
    "ssl": ("tls",),
    "ssl_certificate": ("certificate",),
    "ssl_certificate_key": ("private_key",),
    "strategy": ("load_balancing",),
    "target": ("cluster",),
    "targets": ("backends",),
    "upstream": ("cluster",),
    "upstreams": ("clusters",),
    "uri": ("path",),
    "url": ("path",),
    "use_backend": ("cluster",),
    "vhosts": ("frontends",),
    "virtual_hosts": ("frontends",),
    "worker_processes": ("workers",),
}
"""What the thing is called in other proxies: not close in letters, and what people write."""


def suggest(word: str, candidates: Iterable[str], *, words: bool = True) -> str | None:
    """Return the candidate that was most likely meant, or None.

    Without `words` only the letters count, not what things are called elsewhere.
    """
    known = list(candidates)
    for ours in _ELSEWHERE.get(word.lower().replace("-", "_"), ()) if words else ():
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
