"""What to say about words of other programs for how backends are chosen, looked after and spared.

Each names the key of ours; while that does not work yet, the sentence says so, and what there is
until then. Only `foreign` asks for these.
"""

from __future__ import annotations

from typing import NamedTuple

from schemas.base import later_of
from schemas.kinds.registry import field_at


class _Said(NamedTuple):
    """What to write, with the key of ours that it is about."""

    kind: str
    loc: tuple[str, ...]
    text: str


_CHECKED = _Said(
    "cluster",
    ("health_check",),
    "write health_check: {http: {path: /healthz, status: [200]}, interval: 2s, timeout: 1s, "
    "healthy_after: 2, unhealthy_after: 3} in the cluster",
)
_EJECTED = _Said(
    "cluster",
    ("ejection",),
    "write ejection: {failures: 5, within: 10s, pause: 30s, largest_share: 50%} in the cluster",
)
_BOUNDED = _Said(
    "cluster",
    ("limits", "requests"),
    "write limits: {requests: 2000, backend_requests: 100, queue: 500, queue_timeout: 1s} in the "
    "cluster",
)
_RETRIED = _Said(
    "cluster",
    ("retry",),
    "write retry: {attempts: 2, when: {errors: [connect, reset], statuses: [502, 503]}, per_try: "
    "2s, budget: 20%, backoff: 25ms} in the cluster",
)
_STUCK = _Said(
    "cluster",
    ("sticky",),
    "write sticky: {cookie: KAKEHI, max_age: 1h} in the cluster",
)
_HASHED = _Said(
    "cluster",
    ("load_balancing",),
    "write load_balancing: {rendezvous: {cookie: session}} in the cluster, or {maglev: "
    "client_address}; a header, a query parameter and path stand there too",
)
_SLOW = _Said("cluster", ("slow_start",), "write slow_start: 30s in the cluster")
_FALLEN_BACK = _Said(
    "cluster",
    ("fallback",),
    "write fallback: {cluster: NAME} in the cluster, or fallback: {respond: {status: 503}}",
)
_BACKUP = _Said("backend", ("backup",), "write backup: true in the backend")
_PANIC = _Said("cluster", ("panic",), "write panic: 30% in the cluster")
_RESOLVED = _Said(
    "backend",
    ("address",),
    'write address: "app.internal:8080" in a backend: all addresses of the name; resolver: under '
    "settings: says who is asked",
)
_RECORDED = _Said(
    "backend",
    ("address",),
    'write address: "srv:_http._tcp.app.internal" in a backend',
)
_UDP = _Said(
    "listener",
    ("udp",),
    "write protocol: udp and udp: {answers: 1, idle: 30s} in the listener",
)
_BYTES = _Said("listener", ("protocol",), "write protocol: tcp in the listener, or tls or udp")

_WORDS: dict[str, _Said] = {
    # HAProxy
    "httpchk": _CHECKED,
    "option_httpchk": _CHECKED,
    "http_check": _CHECKED,
    "tcp_check": _CHECKED,
    "option_tcp_check": _CHECKED,
    "inter": _CHECKED,
    "rise": _CHECKED,
    "fall": _CHECKED,
    "observe": _EJECTED,
    "on_error": _EJECTED,
    "error_limit": _EJECTED,
    "maxqueue": _BOUNDED,
    "fullconn": _BOUNDED,
    "slowstart": _SLOW,
    "option_redispatch": _RETRIED,
    "redispatch": _RETRIED,
    "retry_on": _RETRIED,
    "hash_type": _HASHED,
    "hash_balance_factor": _HASHED,
    "server_template": _RESOLVED,
    "resolvers": _RESOLVED,
    "mode": _BYTES,
    # nginx
    "max_fails": _EJECTED,
    "fail_timeout": _EJECTED,
    "max_conns": _BOUNDED,
    "queue": _BOUNDED,
    "proxy_next_upstream": _RETRIED,
    "proxy_next_upstream_tries": _RETRIED,
    "proxy_next_upstream_timeout": _RETRIED,
    "hash": _HASHED,
    "ip_hash": _HASHED,
    "consistent_hash": _HASHED,
    "sticky_cookie": _STUCK,
    "sticky_route": _STUCK,
    "resolve": _RESOLVED,
    "proxy_responses": _UDP,
    # Envoy
    "health_checks": _CHECKED,
    "outlier_detection": _EJECTED,
    "circuit_breakers": _BOUNDED,
    "circuit_breaker": _BOUNDED,
    "thresholds": _BOUNDED,
    "max_pending_requests": _BOUNDED,
    "max_requests_per_backend": _BOUNDED,
    "retry_policy": _RETRIED,
    "retry_budget": _RETRIED,
    "num_retries": _RETRIED,
    "hash_policy": _HASHED,
    "ring_hash_lb_config": _HASHED,
    "maglev_lb_config": _HASHED,
    "slow_start_config": _SLOW,
    "healthy_panic_threshold": _PANIC,
    "panic_threshold": _PANIC,
    "dns_lookup_family": _RESOLVED,
    "dns_refresh_rate": _RESOLVED,
    # Traefik, Caddy and others
    "passive_health_check": _EJECTED,
    "health_uri": _CHECKED,
    "health_interval": _CHECKED,
    "session_affinity": _STUCK,
    "session_persistence": _STUCK,
    "stick": _STUCK,
    "affinity": _STUCK,
    "failover": _FALLEN_BACK,
    "backup_servers": _BACKUP,
    "lb_retries": _RETRIED,
    "lb_try_duration": _RETRIED,
    "max_fail": _EJECTED,
    "fail_duration": _EJECTED,
    "dynamic": _RESOLVED,
}
_WORDS_OF: dict[tuple[str, str], _Said] = {
    ("cluster", "maxconn"): _BOUNDED,
    ("cluster", "max_connections"): _BOUNDED,
    ("cluster", "max_requests"): _BOUNDED,
    ("cluster", "backup"): _BACKUP,
    ("cluster", "check"): _CHECKED,
    ("cluster", "cookie"): _STUCK,
    ("cluster", "default_backend"): _FALLEN_BACK,
    ("cluster", "default"): _FALLEN_BACK,
    ("cluster", "resolver"): _RESOLVED,
    ("backend", "check"): _CHECKED,
    ("backend", "health_check"): _CHECKED,
    ("backend", "cookie"): _STUCK,
    ("backend", "maxconn"): _BOUNDED,
    ("backend", "max_connections"): _BOUNDED,
    ("backend", "slow_start"): _SLOW,
    ("backend", "service"): _RECORDED,
    ("backend", "srv"): _RECORDED,
    ("frontend", "health_check"): _CHECKED,
    ("frontend", "retries"): _RETRIED,
    ("frontend", "retry"): _RETRIED,
    ("frontend", "sticky"): _STUCK,
    ("health_check", "uri"): _Said(
        "cluster",
        ("health_check",),
        "one of http, https, h2, grpc and tcp says how: {http: {path: /healthz}}",
    ),
    ("health_check", "path"): _Said(
        "cluster",
        ("health_check",),
        "one of http, https, h2, grpc and tcp says how: {http: {path: /healthz}}",
    ),
    ("health_check", "host"): _Said(
        "cluster",
        ("health_check",),
        "write hostname: NAME; a check is of the backend itself, at port: if that is another",
    ),
    ("health_check", "fall"): _Said(
        "cluster", ("health_check",), 'did you mean "unhealthy_after"?'
    ),
    ("health_check", "rise"): _Said("cluster", ("health_check",), 'did you mean "healthy_after"?'),
    ("sticky", "name"): _Said("cluster", ("sticky",), 'did you mean "cookie"?'),
    ("retry", "codes"): _Said("cluster", ("retry",), "write when: {statuses: [502, 503]}"),
    ("retry", "num_retries"): _Said("cluster", ("retry",), 'did you mean "attempts"?'),
    ("retry", "retry_on"): _Said("cluster", ("retry",), "write when: {errors: [connect, reset]}"),
}
"""Where the same word means another thing in one kind, or within a key."""


def sentence(word: str, place: str) -> str | None:
    """Return what to say about a word in the form of ours; None where it is of something else."""
    said = _WORDS_OF.get((place, word)) or _WORDS.get(word)
    if said is None:
        return None
    later = until_then(said.kind, said.loc)
    return f"{said.text.removesuffix('?')}{later}" if later else said.text


def until_then(kind: str, loc: tuple[int | str, ...], *, wholly: bool = False) -> str:
    """Return what follows the name of a key that does not work yet; nothing for others.

    `wholly`: nor of those some of whose values work.
    """
    field = field_at(kind, loc)
    mark = later_of(field) if field is not None else None
    if wholly and mark is not None and mark.has is not None:
        return ""
    return "" if mark is None else f", which is not there yet: {mark.meanwhile}"
