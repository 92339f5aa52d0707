"""What to say about words of other programs for what has another shape here.

Those of routes, backends and files, and of what is not there; what policies do is in `foreign`,
which alone asks for these.
"""

_SERVED_BY = (
    "backends stand in a cluster: write clusters: {NAME: {backends: {a: {address: …}}}} at the "
    "top of a file, and cluster: NAME in the frontend"
)
_NO_FILES = (
    "files are not served: a backend does that; respond: {file: …} answers by one committed file, "
    "and error_pages by texts"
)
_KEPT = (
    'write response_headers: {set: {Cache-Control: {text: "max-age=86400", answers: success}}}, '
    "in a frontend or a policy"
)
_ALL_MUST = (
    "whoever asks has to pass allow, deny, basic_auth, forward_auth and client_certificate, all of "
    "them: there is no any"
)
_IN_ONE = (
    "each way is a frontend by itself: its conditions are hostname, path, methods, headers, query, "
    "cookies and client_addresses, and cluster, split, redirect or respond says where it ends"
)
_HOST = "write rewrite: {hostname: …}, in a frontend"
_MIRRORED = "write mirror: {cluster: NAME, share: 10%}, in a frontend"
_CLIENTS = (
    "write tls: {client_ca: ca.pem, client_auth: required} in the listener; client_certificate: "
    "of a frontend or a policy says which of them may ask"
)
_BALANCED = "write load_balancing: least_connections, in the cluster"
_NO_CACHE = (
    "answers are not kept: put a cache before or behind; its word is Cache-Control as it comes"
)
_COOKIES = (
    'write set_cookie: {"*": {secure: true, http_only: true, same_site: lax}}, in a frontend or a '
    "policy; domain: and path: {/app: /} stand there too"
)
_SPEED = (
    "write bandwidth: {per_connection: 1MiB}, in a second and from the first byte on, in a "
    "frontend or a policy"
)
_NAMED_CONDITIONS = (
    "conditions have no names: hostname, path, methods, headers, query, cookies and "
    "client_addresses of a frontend are all of its conditions; allow: and deny: are for networks"
)
_IN_ORDER = (
    "each is a key of the frontend or of a policy: request_headers: {set: {NAME: VALUE}}, "
    "redirect, respond, rewrite, allow, deny, rate_limit and basic_auth, in an order that stays"
)
_TABLES = (
    "write rate_limit: {requests: 5, per: 1m} for how often, concurrency: {requests: 20} for how "
    "many at a time: each keeps a table of its own by client_address, header, cookie or frontend"
)

_SWITCHED = (
    "WebSocket passes as it is: upgrades: [websocket] is usual, and timeouts: {tunnel: 1h} says "
    "for how long nothing may come"
)
_GRPC = (
    "gRPC passes as it is: write protocol: h2 in the cluster; over TLS clients speak HTTP/2 anyhow"
)
_NO_MAPS = (
    "values are not computed: each case is a frontend by itself, by hostname, path, headers, "
    "query, cookies or client_addresses, with what holds for it"
)
_NO_BODIES = "bodies pass as they are: only a backend changes them"
_MAXIMA = (
    "write settings: {max_connections: …} for all, limits: {connections: …} in a listener, or "
    "concurrency: {requests: 20} in a frontend for requests in flight"
)
_TABLES_OR_STICKY = (
    "write split_by: {cookie: session} in a frontend with a split, so that a client stays on one "
    "side; for how often and how many see rate_limit and concurrency"
)
_NO_OPTIONS = (
    "there are no options by a word: forwarding fields are always written, the log is settings: "
    "{access_log: …}, and each other thing is a key of its own"
)
_NO_DIGEST = (
    "digests need passwords that can be read: write basic_auth: {realm: admin, users: "
    "admin.htpasswd} over TLS, or jwt: or forward_auth:, in a frontend or a policy"
)
_SHOWN_CERTIFICATE = (
    "a client's certificate is passed on as Client-Cert (RFC 9440) wherever one is asked for; "
    'request_headers: {set: {X-Subject: "{client_certificate_subject}"}} tells its subject'
)
_NO_BUFFERING = "bodies are passed on as they come, in both directions: leave it out"
_NO_PLUGINS = (
    "no code of others runs here: a backend that is asked first is forward_auth:, and what is done "
    "with requests is said by keys of the frontend and of policies"
)
_NO_FAULTS = "faults are not made: respond: {status: 503} answers all requests of a frontend"
_NO_CSRF = (
    "forms are protected by who makes them; set_cookie: {session: {same_site: lax}} keeps a cookie "
    "from requests of other sites, and cors: says which pages may ask"
)
_NO_TRACING = (
    "spans are not sent: traceparent passes as it is, and {request_id} and the access log name "
    "each request"
)

SENTENCES: dict[str, str] = {
    "acl": _NAMED_CONDITIONS,
    "http_request": _IN_ORDER,
    "try_files": _NO_FILES,
    "file_server": _NO_FILES,
    "root": _NO_FILES,
    "alias": _NO_FILES,
    "index": _NO_FILES,
    "expires": _KEPT,
    "satisfy": _ALL_MUST,
    "stick_table": _TABLES,
    "rule": _IN_ONE,
    "rules": _IN_ONE,
    "handle": _IN_ONE,
    "handle_path": _IN_ONE,
    "route": _IN_ONE,
    "virtual_hosts": _IN_ONE,
    "virtual_host": _IN_ONE,
    "match": _IN_ONE,
    "matches": _IN_ONE,
    "matchers": _IN_ONE,
    "route_config": _IN_ONE,
    "reverse_proxy": _SERVED_BY,
    "host_rewrite": _HOST,
    "host_rewrite_literal": _HOST,
    "pass_host_header": _HOST,
    "request_mirror_policies": _MIRRORED,
    "request_mirror": _MIRRORED,
    "mirroring": _MIRRORED,
    "ssl_verify_client": _CLIENTS,
    "ssl_client_certificate": _CLIENTS,
    "mtls": _CLIENTS,
    "cache": _NO_CACHE,
    "proxy_cache": _NO_CACHE,
    "http_cache": _NO_CACHE,
    "proxy_cookie_path": _COOKIES,
    "proxy_cookie_domain": _COOKIES,
    "proxy_cookie_flags": _COOKIES,
    "cookie_flags": _COOKIES,
    "same_site": _COOKIES,
    "limit_rate": _SPEED,
    "limit_rate_after": _SPEED,
    "bwlim": _SPEED,
    "bwlim_out": _SPEED,
    "bandwidth_limit": _SPEED,
    "websocket": _SWITCHED,
    "websockets": _SWITCHED,
    "upgrade": _SWITCHED,
    "upgrade_configs": _SWITCHED,
    "grpc": _GRPC,
    "grpc_pass": _GRPC,
    "map": _NO_MAPS,
    "geo": _NO_MAPS,
    "geoip": _NO_MAPS,
    "use_server": _IN_ONE,
    "sub_filter": _NO_BODIES,
    "replace_body": _NO_BODIES,
    "maxconn": _MAXIMA,
    "max_conn": _MAXIMA,
    "max_conns": _MAXIMA,
    "stick_on": _TABLES_OR_STICKY,
    "stick": _TABLES_OR_STICKY,
    "option": _NO_OPTIONS,
    "options": _NO_OPTIONS,
    "digest_auth": _NO_DIGEST,
    "pass_tlsclient_cert": _SHOWN_CERTIFICATE,
    "pass_tls_client_cert": _SHOWN_CERTIFICATE,
    "forward_client_cert_details": _SHOWN_CERTIFICATE,
    "buffering": _NO_BUFFERING,
    "proxy_buffering": _NO_BUFFERING,
    "proxy_request_buffering": _NO_BUFFERING,
    "plugin": _NO_PLUGINS,
    "lua": _NO_PLUGINS,
    "wasm": _NO_PLUGINS,
    "ext_proc": _NO_PLUGINS,
    "fault": _NO_FAULTS,
    "abort": _NO_FAULTS,
    "delay": _NO_FAULTS,
    "csrf": _NO_CSRF,
    "tracing": _NO_TRACING,
    "opentelemetry": _NO_TRACING,
}
SENTENCES_OF: dict[tuple[str, str], str] = {
    ("frontend", "chain"): _NO_PLUGINS,
    ("frontend", "servers"): _SERVED_BY,
    ("frontend", "upstreams"): _SERVED_BY,
    ("frontend", "backends"): _SERVED_BY,
    ("frontend", "balance"): _BALANCED,
    ("frontend", "services"): _SERVED_BY,
}
"""Where the same word means another thing in one kind."""
