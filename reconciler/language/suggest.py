"""Did you mean: the known word closest to a wrong one. Called wherever a name is unknown."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from heapq import nlargest

CANDIDATES_MAX = 20_000
"""Beyond this many names a guess costs more than it helps."""

COMPARED_MAX = 40
"""Of more names only those are compared, which takes long, that begin and end most alike."""

GUESSES_MAX = 50
"""For so many unknown names at a time it is said what was meant; nobody mends more at once."""

_CUTOFF = 0.6

_ELSEWHERE = {
    "algorithm": ("load_balancing",),
    "auth_response_headers": ("copy_headers",),
    "backend": ("cluster",),
    "balance": ("load_balancing",),
    "balancer": ("load_balancing",),
    "bind": ("address",),
    "cert": ("certificate",),
    "certs": ("certificates",),
    "allow_credentials": ("credentials",),
    "allow_from": ("allow",),
    "allow_headers": ("headers",),
    "allow_methods": ("methods",),
    "allow_origin": ("origins",),
    "allow_origins": ("origins",),
    "allowed_headers": ("headers",),
    "allowed_methods": ("methods",),
    "allowed_origins": ("origins",),
    "expose_headers": ("expose",),
    "chain": ("certificate",),
    "client_ip": ("client_addresses",),
    "client_ips": ("client_addresses",),
    "client_cidrs": ("client_addresses",),
    "crt": ("certificate",),
    "default_backend": ("cluster",),
    "domain": ("hostname",),
    "domains": ("hostnames", "hostname"),
    "fullchain": ("certificate",),
    "endpoints": ("backends",),
    "entrypoints": ("listeners",),
    "host": ("hostname",),
    "hosts": ("hostnames", "hostname"),
    "key": ("private_key",),
    "lb_method": ("load_balancing",),
    "lb_policy": ("load_balancing",),
    "listen": ("address",),
    "location": ("path",),
    "log": ("access_log",),
    "content_types": ("types",),
    "excluded_content_types": ("types",),
    "min_content_length": ("min_bytes",),
    "min_length": ("min_bytes",),
    "minimum_length": ("min_bytes",),
    "mime_types": ("types",),
    "maxconn": ("max_connections", "connections"),
    "port": ("address",),
    "proxy_pass": ("cluster", "backends"),
    "query_parameters": ("query",),
    "query_params": ("query",),
    "remote_addr": ("client_addresses",),
    "remote_ip": ("client_addresses",),
    "routers": ("frontends",),
    "routes": ("frontends",),
    "server_name": ("hostname",),
    "servers": ("backends", "clusters"),
    "server_names": ("hostnames",),
    "servername": ("hostname", "server_name"),
    "service": ("cluster", "backends"),
    "services": ("backends", "clusters"),
    "ssl": ("tls",),
    "ssl_certificate": ("certificate",),
    "ssl_certificate_key": ("private_key",),
    "source_ip": ("client_addresses",),
    "source_range": ("allow",),
    "src": ("client_addresses",),
    "strategy": ("load_balancing",),
    "target": ("cluster", "backends"),
    "targets": ("backends",),
    "upstream": ("cluster", "backends"),
    "upstreams": ("clusters",),
    "uri": ("path",),
    "users_file": ("users",),
    "url": ("path",),
    "use_backend": ("cluster", "backends"),
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
    return closest(word.lower(), known)


def closest(word: str, known: list[str]) -> str | None:
    """Return the name that is written most alike, or None. Capital letters are others."""
    if len(known) > CANDIDATES_MAX:
        return None
    close = get_close_matches(word, _most_alike(word, known), n=1, cutoff=_CUTOFF)
    return close[0] if close else None


def _most_alike(word: str, known: list[str]) -> list[str]:
    """Return the names that are worth a comparison; a slip leaves most of a name as it is."""
    if len(known) <= COMPARED_MAX:
        return known
    # By the cutoff no name may be much longer or shorter.
    least, most = len(word) * _CUTOFF / (2 - _CUTOFF), len(word) * (2 - _CUTOFF) / _CUTOFF
    fitting = (name for name in known if least <= len(name) <= most)
    return nlargest(COMPARED_MAX, fitting, key=lambda name: _shared(word, name))


def _shared(word: str, name: str) -> float:
    """How many letters are the same at both ends, less what is longer or shorter."""
    length = min(len(word), len(name))
    start = 0
    while start < length and word[start] == name[start]:
        start += 1
    end = 0
    while end < length - start and word[-1 - end] == name[-1 - end]:
        end += 1
    return start + end - abs(len(word) - len(name)) / 2


def did_you_mean(word: str, candidates: Iterable[str]) -> str | None:
    """Return the hint with the closest candidate, or None."""
    close = suggest(word, candidates)
    return f'did you mean "{close}"?' if close else None
