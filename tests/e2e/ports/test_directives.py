"""Which test holds each directive of the originals, and which stand in none, with the reason.

A directive that is written into an original without either fails here, and so does a test that is
gone. What is not ported, or is nothing that a request shows, is told by its row of the document.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.e2e.ports.side_by_side import PORTING

HERE = Path(__file__).parent
UNSEEN = "seen in no request"
NOT_YET = "not yet"
NGINX = {
    "access_log": UNSEEN,
    "add_header": "test_nginx.test_both_do_the_same",
    "allow": "test_nginx.test_both_do_the_same",
    "auth_basic": "test_nginx.test_both_do_the_same",
    "auth_basic_user_file": "test_nginx.test_both_do_the_same",
    "auth_request": "test_nginx.test_both_differ",
    "auth_request_set": "test_nginx.test_both_differ",
    "client_max_body_size": "test_nginx.test_bodies_that_are_too_large",
    "default_type": "test_nginx.test_both_do_the_same",
    "deny": "test_nginx.test_both_do_the_same",
    "error_page": "test_nginx.test_how_long_errors_may_be_kept_is_not_said",
    "events": UNSEEN,
    "expires": "test_nginx.test_how_long_errors_may_be_kept_is_not_said",
    "geo": "test_nginx.test_both_do_the_same",
    "grpc_pass": UNSEEN,
    "gzip": "test_nginx.test_both_compress_alike",
    "gzip_min_length": "test_nginx.test_both_compress_alike",
    "gzip_types": "test_nginx.test_both_compress_alike",
    "gzip_vary": "test_nginx.test_both_compress_alike",
    "hash": NOT_YET,
    "http": UNSEEN,
    "if": "test_nginx.test_methods_are_asked_for_here",
    "internal": "test_nginx.test_both_do_the_same",
    "ip_hash": NOT_YET,
    "keepalive": UNSEEN,
    "keepalive_timeout": UNSEEN,
    "least_conn": UNSEEN,
    "limit_conn": UNSEEN,
    "limit_conn_zone": UNSEEN,
    "limit_req": "test_nginx.test_what_is_limited_for_a_server_is_for_each_of_its_locations",
    "limit_req_status": "test_nginx.test_a_login_is_asked_for_a_few_times_only",
    "limit_req_zone": "test_nginx.test_a_login_is_asked_for_a_few_times_only",
    "listen": "test_nginx.test_nobody_else_gets_an_answer",
    "location": "test_forms.test_nginx_does_the_same",
    "log_format": UNSEEN,
    "map": "test_nginx.test_both_differ",
    "mirror": "test_nginx.test_a_mirror_gets_a_copy",
    "proxy_connect_timeout": UNSEEN,
    "proxy_hide_header": "test_nginx.test_both_do_the_same",
    "proxy_http_version": UNSEEN,
    "proxy_next_upstream": NOT_YET,
    "proxy_next_upstream_timeout": NOT_YET,
    "proxy_next_upstream_tries": NOT_YET,
    "proxy_pass": "test_nginx.test_both_do_the_same",
    "proxy_pass_request_body": "test_nginx.test_both_differ",
    "proxy_read_timeout": UNSEEN,
    "proxy_request_buffering": "test_nginx.test_bodies_that_are_too_large",
    "proxy_responses": NOT_YET,
    "proxy_set_header": "test_nginx.test_both_do_the_same",
    "proxy_timeout": NOT_YET,
    "return": "test_nginx.test_both_do_the_same",
    "rewrite": "test_forms.test_nginx_does_the_same",
    "root": "test_nginx.test_both_do_the_same",
    "satisfy": "test_nginx.test_both_do_the_same",
    "server": "test_nginx.test_without_a_hostname_in_the_handshake_it_is_the_first_server",
    "server_name": "test_forms.test_nginx_does_the_same",
    "server_tokens": UNSEEN,
    "split_clients": UNSEEN,
    "ssl_certificate": "test_nginx.test_without_a_hostname_in_the_handshake_it_is_the_first_server",
    "ssl_certificate_key": UNSEEN,
    "ssl_protocols": UNSEEN,
    "ssl_session_tickets": UNSEEN,
    "ssl_session_timeout": UNSEEN,
    "stream": NOT_YET,
    "upstream": "test_nginx.test_both_do_the_same",
    "user": UNSEEN,
    "worker_connections": UNSEEN,
    "worker_processes": UNSEEN,
}
HAPROXY = {
    "acl": "test_haproxy.test_both_do_the_same",
    "backend": "test_haproxy.test_both_do_the_same",
    "balance": NOT_YET,
    "bind": "test_haproxy.test_both_do_the_same_where_tls_is_told_apart",
    "compression": "test_haproxy.test_both_compress_what_is_static",
    "cookie": NOT_YET,
    "default-server": NOT_YET,
    "default_backend": "test_haproxy.test_both_do_the_same",
    "defaults": UNSEEN,
    "errorfile": UNSEEN,
    "frontend": "test_haproxy.test_both_do_the_same",
    "global": UNSEEN,
    "hash-balance-factor": NOT_YET,
    "hash-type": NOT_YET,
    "hold": NOT_YET,
    "http-check": NOT_YET,
    "http-request auth": "test_haproxy.test_both_do_the_same",
    "http-request del-header": "test_haproxy.test_both_do_the_same",
    "http-request deny": "test_haproxy.test_both_do_the_same",
    "http-request redirect": "test_haproxy.test_in_clear_text_all_are_sent_to_tls",
    "http-request return": "test_haproxy.test_both_do_the_same",
    "http-request set-header": "test_haproxy.test_both_do_the_same",
    "http-request set-path": "test_haproxy.test_both_do_the_same",
    "http-request track-sc0": UNSEEN,
    "http-request use-service": UNSEEN,
    "http-response del-header": "test_haproxy.test_both_do_the_same",
    "http-response set-header": "test_haproxy.test_both_do_the_same",
    "http-reuse": UNSEEN,
    "log": UNSEEN,
    "maxconn": UNSEEN,
    "mode": "test_haproxy.test_both_do_the_same_where_tls_is_told_apart",
    "nameserver": NOT_YET,
    "option dontlognull": UNSEEN,
    "option forwardfor": "test_haproxy.test_both_differ",
    "option http-server-close": UNSEEN,
    "option httpchk": NOT_YET,
    "option httplog": UNSEEN,
    "option redispatch": UNSEEN,
    "option smtpchk": NOT_YET,
    "resolvers": NOT_YET,
    "retries": UNSEEN,
    "retry-on": NOT_YET,
    "server": "test_haproxy.test_both_do_the_same",
    "server-template": NOT_YET,
    "ssl-default-bind-options": UNSEEN,
    "stats": UNSEEN,
    "stick-table": UNSEEN,
    "tcp-request": "test_haproxy.test_both_do_the_same_where_tls_is_told_apart",
    "timeout": UNSEEN,
    "tune.ssl.default-dh-param": UNSEEN,
    "use_backend": "test_haproxy.test_both_do_the_same",
    "user": "test_haproxy.test_both_do_the_same",
    "userlist": "test_haproxy.test_both_do_the_same",
}


def of_nginx() -> set[str]:
    """Every directive of the original."""
    text = re.sub(r"#.*|'[^']*'|\"[^\"]*\"", "", (PORTING / "nginx.conf").read_text())
    text = re.sub(r"map [^{]*\{[^}]*\}", "map;", re.sub(r"geo [^{]*\{[^}]*\}", "geo;", text))
    text = re.sub(r"split_clients\s*\S*\s*\{[^}]*\}", "split_clients;", text)
    return set(re.findall(r"(?:^|[;{}])\s*([a-z_]+)(?=[ ;{])", text))


def of_haproxy() -> set[str]:
    """Every keyword of the original."""
    lines = [line.split() for line in (PORTING / "haproxy.cfg").read_text().splitlines()]
    return {
        " ".join(words[:2]) if words[0] in ("http-request", "http-response", "option") else words[0]
        for words in lines
        if words and not words[0].startswith("#")
    }


@pytest.mark.parametrize("product", ["nginx", "haproxy"])
def test_each_is_held_by_a_test_or_told_why_not(product: str) -> None:
    directives, held = (of_nginx(), NGINX) if product == "nginx" else (of_haproxy(), HAPROXY)
    assert held.keys() == directives
    document = (PORTING / f"{product}.md").read_text()
    assert not {each for each in directives if f"`{each}" not in document}
    tests = {name for name in held.values() if name not in (UNSEEN, NOT_YET)}
    for module, test in (name.split(".") for name in tests):
        assert f"\ndef {test}(" in (HERE / f"{module}.py").read_text(), test
    rows = document.splitlines()
    for each in (name for name, how in held.items() if how == NOT_YET):
        named = [row for row in rows if row.startswith("|") and f"`{each}" in row.split("|")[1]]
        assert any("not yet" in row for row in named), each
