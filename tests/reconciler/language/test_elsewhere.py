"""Words of nginx, HAProxy, Traefik, Caddy and Envoy for what has another shape here."""

from __future__ import annotations

import pytest

from reconciler.language.unknown import hint_for


@pytest.mark.parametrize(
    ("kind", "word", "said"),
    [
        ("frontend", "servers", "clusters: {NAME: {backends:"),
        ("cluster", "servers", 'did you mean "backends"?'),
        ("cluster", "services", 'did you mean "backends"?'),
        ("frontend", "backends", "cluster: NAME in the frontend"),
        ("frontend", "reverse_proxy", "cluster: NAME in the frontend"),
        ("frontend", "balance", "load_balancing"),
        ("frontend", "retry", "retry: {attempts: 2"),
        ("frontend", "retry_policy", "retry: {attempts: 2"),
        ("cluster", "option httpchk", "health_check: {http"),
        ("backend", "maxconn", "backend_requests: 100"),
        ("backend", "slowstart", "slow_start: 30s"),
        ("cluster", "max_fails", "ejection: {failures: 5"),
        ("cluster", "outlierDetection", "ejection: {failures: 5"),
        ("cluster", "circuit_breakers", "limits: {requests: 2000"),
        ("cluster", "healthCheck", 'did you mean "health_check"?'),
        ("cluster", "ip_hash", "rendezvous: {cookie"),
        ("backend", "srv", "srv:_http._tcp"),
        ("frontend", "acl", "conditions have no names"),
        ("frontend", "http-request", "redirect, respond"),
        ("frontend", "limit_rate", "bandwidth: {per_connection"),
        ("frontend", "try_files", "files are not served"),
        ("frontend", "expires", "answers: success"),
        ("frontend", "satisfy", "there is no any"),
        ("listener", "stick-table", "concurrency"),
        ("cluster", "session_affinity", "split_by"),
        ("cluster", "hash_policy", "maglev"),
        ("frontend", "rule", "hostname, path"),
        ("frontend", "handle", "hostname, path"),
        ("frontend", "handle_path", "hostname, path"),
        ("frontend", "route", "hostname, path"),
        ("frontend", "virtual_hosts", "hostname, path"),
        ("frontend", "host_rewrite_literal", "rewrite: {hostname"),
        ("frontend", "request_mirror_policies", "mirror: {cluster"),
        ("frontend", "circuitBreaker", "max_requests"),
        ("cluster", "circuit_breaker", "max_requests"),
        ("listener", "ssl_verify_client", "client_auth: required"),
        ("frontend", "stripprefix", "rewrite: {path"),
        ("frontend", "servername", 'did you mean "hostname"?'),
        ("frontend", "cache", "answers are not kept"),
        ("frontend", "proxy_cookie_path", "set_cookie"),
        ("frontend", "proxy_cookie_flags", "set_cookie"),
    ],
)
def test_a_word_of_others_has_an_answer(kind: str, word: str, said: str) -> None:
    hint = hint_for(kind, (word,), "x")
    assert said in hint
    assert not hint.startswith("known here")
