"""What people write who know other programs: their words, their files, their templates.

The words that have one of ours are in `suggest`; here is what takes a sentence. Pure; called by the
validator and by whoever reads a path.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from reconciler.language import upstreams
from reconciler.language.elsewhere import SENTENCES, SENTENCES_OF
from schemas.base import shown
from schemas.kinds.registry import MODELS, SECTIONS, fields_at, inner_model

EXPANDED_BEFORE = (
    "variables and templates are not expanded: write the value itself, or have the file generated "
    "before it is committed"
)
EVERY_FILE = "leave it out: every *.yaml file in the directory and below it is read"

_MARKED = (
    r"\$\{|\$\(|\$\[|#\{|\{\{|\{%|<%|%\{|%\(\w+\)[a-z]|@@?[A-Za-z_]\w*@|\[\[ *[A-Za-z_][\w.]* *\]\]"
)
"""How a place to be filled in begins, wherever it stands."""
_WHOLE = (
    r"\$[A-Za-z_]\w*(?=$|[:/.-])|%[A-Za-z_]\w*%|\(\([\w./-]+\)\)$"
    r"|<[A-Za-z_][\w.-]*(?: [\w.-]+)*>(?=$|:)"
)
"""What is one as a value only, or at its beginning: within a text it may be anything."""
_TEMPLATE = re.compile(rf"{_MARKED}|^(?:{_WHOLE})")
_IN_A_LINE = re.compile(
    rf"""("(?:\\.|[^"\\])*"|'[^']*')|{_MARKED}|(?<![^\s:,\[{{])(?:%[A-Za-z_]\w*%|\$[A-Za-z_]\w*)"""
)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")

_SPLIT = "write split: {CLUSTER: 95, OTHER: 5}, in a frontend in place of cluster"
_RATES = (
    "write rate_limit: {requests: 5, per: 1m, burst: 5, by: client_address}, in a frontend or a "
    "policy"
)
_NO_MIDDLEWARES = (
    "there are no middlewares: what is done with requests is said by keys of the frontend, such as "
    "redirect, rewrite, request_headers and response_headers; what several have alike stands under "
    "policies:"
)
_NO_VARIABLES = EXPANDED_BEFORE
_REWRITTEN = (
    "write rewrite: {path: {prefix: /}}, which stands in place of the prefix that the frontend "
    "matches, or rewrite: {path: {full: /…}}"
)
_ANSWERED = (
    "write respond: {status: 200, body: …}, or redirect: {path: {full: /…}, status: 301} for "
    "another place, in a frontend without a cluster"
)
_BY_GROUPS = (
    'write path: {regex: "/old/(?<id>[0-9]+)"} and redirect: {path: {full: "/new/{id}"}, status: '
    "301}, in a frontend without a cluster"
)
_NETWORKS = (
    "write allow: [10.0.0.0/8] for the networks that may ask, or deny: [192.0.2.0/24] for those "
    "that may not, in a frontend or a policy"
)
_BODIES = "write limits: {body_bytes: 10MiB}, in a frontend, a policy or a listener"
_TIMES = (
    "write timeouts: {request: 5m, response_head: 60s, response_body: 5m, request_body: 30s, "
    "tunnel: 1h}, in a frontend or a policy; those of listeners and clusters hold where nobody "
    "says more"
)
_CORS = (
    'write cors: {origins: ["https://app.example.com"], methods: [PUT], headers: [content-type]}, '
    "in a frontend or a policy"
)
_USERS = (
    "write basic_auth: {realm: admin, users: /etc/kakehi/admin.htpasswd}, in a frontend or a policy"
)
_CROWDS = "write concurrency: {requests: 20, by: client_address}, in a frontend or a policy"
_COMPRESSED = (
    'write compression: {encodings: [zstd, gzip], types: ["text/*", application/json]}, in a '
    "frontend or a policy; {} has all defaults"
)
_LEVELS = "each coding has its own: levels: {gzip: 6, zstd: 3, br: 4}"
_INTERCEPTED = (
    "write intercept: [502, 503], and error_pages: {503: {body: …}}, in a frontend or a policy"
)
_EDITED = (
    "write request_headers: {set: {NAME: VALUE}} for what a backend gets, response_headers: for "
    "what a client gets; add: and remove: stand there too"
)
_ASKED_FIRST = (
    "write forward_auth: {cluster: …, path: /verify, copy_headers: [X-User]} in a frontend or a "
    "policy; the cluster has the address of who is asked"
)
_SESSIONS = (
    "logins and sessions are kept by a server of yours, which is asked first: write forward_auth: "
    "{cluster: …, path: /verify, copy_headers: [X-User]} in a frontend or a policy; tokens that "
    "come with requests are looked at by jwt:"
)
_TOKENS = (
    'write jwt: {issuer: "https://id.example.com/", audiences: [shop], keys: '
    '"https://id.example.com/jwks.json", headers: {X-User: sub}}, in a frontend or a policy'
)
_KEYS = (
    "keys names them: a file with a JWK Set, or the https URL of one; secrets that both sides know "
    "(HS256) are not taken"
)
_BY_KEYS = "each key says which algorithm it is used with (alg, or by its curve), and no token does"
_MATCHED_CLAIMS = "claims: {role: [admin]} asks for claims, and scopes: [read] for scopes"
_TOLD_CLAIMS = "headers: {X-User: sub} tells the backend what a token says"
_ELSEWHERE = "from: {header: x-token} or from: {cookie: session} says where it stands"
_ASKED_BY_CLUSTER = (
    "write forward_auth: {cluster: …, path: /verify}: the cluster has the address of who is asked, "
    "and path what stands behind it"
)
_MOST_SPECIFIC = (
    "frontends have no order to give: the most specific match wins, wherever it is written"
)
_ONE_ADDRESS = 'IP address and port are one text: address: "10.0.0.1:8080"'

_SENTENCES: dict[str, str] = {
    "auth_request": _ASKED_FIRST,
    "auth_request_set": _ASKED_FIRST,
    "auth_url": _ASKED_FIRST,
    "auth_jwt": _TOKENS,
    "auth_jwt_claim_set": _TOKENS,
    "auth_jwt_key_file": _TOKENS,
    "auth_jwt_key_request": _TOKENS,
    "auth_jwt_require": _TOKENS,
    "authentication": _SESSIONS,
    "ext_auth": _ASKED_FIRST,
    "ext_authz": _ASKED_FIRST,
    "external_auth": _ASKED_FIRST,
    "bearer": _TOKENS,
    "jwt_auth": _TOKENS,
    "jwt_authn": _TOKENS,
    "jwt_verify": _TOKENS,
    "jwtauth": _TOKENS,
    "request_authentication": _TOKENS,
    "oauth": _SESSIONS,
    "oauth2": _SESSIONS,
    "oidc": _SESSIONS,
    "openid_connect": _SESSIONS,
    "add_header": _EDITED,
    "custom_request_headers": _EDITED,
    "custom_response_headers": _EDITED,
    "header_down": _EDITED,
    "header_up": _EDITED,
    "http_response": _EDITED,
    "more_clear_headers": _EDITED,
    "more_set_headers": _EDITED,
    "proxy_hide_header": _EDITED,
    "proxy_set_header": _EDITED,
    "request_headers_to_add": _EDITED,
    "response_headers_to_add": _EDITED,
    "direct_response": _ANSWERED,
    "redirect_regex": _BY_GROUPS,
    "redirect_scheme": _ANSWERED,
    "return": _ANSWERED,
    "add_prefix": _REWRITTEN,
    "path_rewrite": _REWRITTEN,
    "prefix_rewrite": _REWRITTEN,
    "replace_path": _REWRITTEN,
    "replace_path_regex": _REWRITTEN,
    "strip_path": _REWRITTEN,
    "addprefix": _REWRITTEN,
    "replacepath": _REWRITTEN,
    "stripprefix": _REWRITTEN,
    "url_rewrite": _REWRITTEN,
    "strip_prefix": _REWRITTEN,
    "strip_prefix_regex": _REWRITTEN,
    "split_clients": _SPLIT,
    "weighted": _SPLIT,
    "weighted_clusters": _SPLIT,
    "allow_list": _NETWORKS,
    "allowlist": _NETWORKS,
    "blacklist": _NETWORKS,
    "block_list": _NETWORKS,
    "deny_list": _NETWORKS,
    "denylist": _NETWORKS,
    "ip_allow_list": _NETWORKS,
    "ip_allowlist": _NETWORKS,
    "ip_blacklist": _NETWORKS,
    "ip_deny_list": _NETWORKS,
    "ip_denylist": _NETWORKS,
    "ip_restriction": _NETWORKS,
    "ip_white_list": _NETWORKS,
    "ip_whitelist": _NETWORKS,
    "white_list": _NETWORKS,
    "whitelist": _NETWORKS,
    "whitelist_source_range": _NETWORKS,
    "access_control_allow_headers": _CORS,
    "access_control_allow_methods": _CORS,
    "access_control_allow_origin": _CORS,
    "access_control_allow_origin_list": _CORS,
    "cors_policy": _CORS,
    "auth_basic": _USERS,
    "auth_basic_user_file": _USERS,
    "basicauth": _USERS,
    "http_auth": _USERS,
    "userlist": _USERS,
    "in_flight_req": _CROWDS,
    "limit_conn": _CROWDS,
    "limit_conn_zone": _CROWDS,
    "brotli": _COMPRESSED,
    "brotli_types": _COMPRESSED,
    "compress": _COMPRESSED,
    "compress_response": _COMPRESSED,
    "compressor": _COMPRESSED,
    "encode": _COMPRESSED,
    "gzip": _COMPRESSED,
    "gzip_min_length": _COMPRESSED,
    "gzip_proxied": _COMPRESSED,
    "gzip_types": _COMPRESSED,
    "zstd": _COMPRESSED,
    "zstd_types": _COMPRESSED,
    "handle_errors": _INTERCEPTED,
    "intercept_errors": _INTERCEPTED,
    "proxy_intercept_errors": _INTERCEPTED,
    "client_max_body_size": _BODIES,
    "max_body_size": _BODIES,
    "max_request_body_bytes": _BODIES,
    "request_body_limit": _BODIES,
    "client_body_timeout": _TIMES,
    "proxy_read_timeout": _TIMES,
    "proxy_send_timeout": _TIMES,
    "read_timeout": _TIMES,
    "request_timeout": _TIMES,
    "response_header_timeout": _TIMES,
    "response_timeout": _TIMES,
    "order": _MOST_SPECIFIC,
    "priority": _MOST_SPECIFIC,
    "filters": _NO_MIDDLEWARES,
    "middleware": _NO_MIDDLEWARES,
    "middlewares": _NO_MIDDLEWARES,
    "plugins": _NO_MIDDLEWARES,
    "limit_req": _RATES,
    "limit_req_zone": _RATES,
    "local_rate_limit": _RATES,
    "rate_limiting": _RATES,
    "rate_limits": _RATES,
    "ratelimit": _RATES,
    "import": EVERY_FILE,
    "imports": EVERY_FILE,
    "include": EVERY_FILE,
    "includes": EVERY_FILE,
    "variables": _NO_VARIABLES,
    "vars": _NO_VARIABLES,
}
_SENTENCES_OF: dict[tuple[str, str], str] = {
    ("forward_auth", "address"): _ASKED_BY_CLUSTER,
    ("forward_auth", "server"): _ASKED_BY_CLUSTER,
    ("forward_auth", "url"): _ASKED_BY_CLUSTER,
    ("compression", "compression_level"): _LEVELS,
    ("compression", "gzip_comp_level"): _LEVELS,
    ("compression", "quality"): _LEVELS,
    ("jwt", "algorithm"): _BY_KEYS,
    ("jwt", "algorithms"): _BY_KEYS,
    ("jwt", "cookie"): _ELSEWHERE,
    ("jwt", "cookie_name"): _ELSEWHERE,
    ("jwt", "claim_to_headers"): _TOLD_CLAIMS,
    ("jwt", "clock_skew"): 'leeway says by how much clocks may differ: leeway: "60s"',
    ("jwt", "clock_skew_seconds"): 'leeway says by how much clocks may differ: leeway: "60s"',
    ("jwt", "forward"): "forward_token: false keeps the token from the backend",
    ("jwt", "forward_headers"): _TOLD_CLAIMS,
    ("jwt", "from_cookies"): _ELSEWHERE,
    ("jwt", "from_headers"): _ELSEWHERE,
    ("jwt", "jwks"): _KEYS,
    ("jwt", "jwks_file"): _KEYS,
    ("jwt", "jwks_uri"): _KEYS,
    ("jwt", "jwks_url"): _KEYS,
    ("jwt", "local_jwks"): _KEYS,
    ("jwt", "public_key"): _KEYS,
    ("jwt", "remote_jwks"): _KEYS,
    ("jwt", "require"): _MATCHED_CLAIMS,
    ("jwt", "required_claims"): _MATCHED_CLAIMS,
    ("jwt", "secret"): _KEYS,
    ("jwt", "signing_secret"): _KEYS,
    ("jwt", "token"): f'did you mean "from"? {_ELSEWHERE}',
    ("backend", "host"): _ONE_ADDRESS,
    ("backend", "ip"): _ONE_ADDRESS,
    ("backend", "port"): _ONE_ADDRESS,
    ("listener", "host"): _ONE_ADDRESS,
    ("listener", "ip"): _ONE_ADDRESS,
    ("listener", "port"): _ONE_ADDRESS,
}
"""Where the same word means another thing in one kind, or within a key of whatever kind."""


def is_template(value: object) -> bool:
    """Tell whether a value waits to be filled in by another program."""
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], list):
        # `[[ x ]]` without quotes.
        return len(value[0]) == 1 and isinstance(value[0][0], str)
    return isinstance(value, str) and _TEMPLATE.search(value) is not None


def template_in(line: str) -> int | None:
    """Return where the first template without quotes begins in a line of a file."""
    found = (each.start() for each in _IN_A_LINE.finditer(line) if each[1] is None)
    return next(found, None)


def normal(word: str) -> str:
    """Return a word in the form of ours: `rateLimit`, `rate-limit`, `rate limit` → `rate_limit`."""
    return _CAMEL.sub("_", word).replace("-", "_").replace(" ", "_").lower()


def sentence(word: str, kind: str = "", loc: tuple[int | str, ...] = ()) -> str | None:
    """Return what to say about a word that has none of ours."""
    plain = normal(word)
    place = str(loc[-1]) if loc else kind
    of_place = _SENTENCES_OF.get((place, plain)) or SENTENCES_OF.get((place, plain))
    upstream = upstreams.sentence(plain, place)
    return of_place or upstream or _SENTENCES.get(plain) or SENTENCES.get(plain)


def belongs(key: str, kind: str, loc: tuple[int | str, ...]) -> str | None:
    """Return where an unknown key is known: a level further in, or in another kind."""
    plain = normal(key)
    # Elsewhere the names of timeouts say so: `connect_timeout`.
    for word in dict.fromkeys((plain, plain.removesuffix("_timeout"))):
        inner = [
            name
            for name, field in fields_at(kind, loc).items()
            if (model := inner_model(field)) is not None
            and word in model.model_fields
            and not _is_by_name(kind, (*loc, name))
        ]
        if inner:
            return f"it belongs into {' or '.join(inner)}: {inner[0]}: {{{word}: …}}"
    there = [other for other in MODELS if other != kind and _has(other, loc, plain)]
    if loc and there:
        return f"it is a key of {'.'.join(map(str, loc))} in {_kinds(there)}"
    kinds = [other for other in MODELS if other != kind and plain in MODELS[other].model_fields]
    return f"it is a key of {_kinds(kinds, ' and of ')}" if kinds else None


def _has(kind: str, loc: tuple[int | str, ...], key: str) -> bool:
    """Tell whether a kind has the same map, with a key that another kind has not."""
    fields = MODELS[kind].model_fields
    for step in loc:
        model = inner_model(fields[step]) if step in fields else None
        if model is None or "dict" in str(fields[str(step)].annotation):
            return False
        fields = model.model_fields
    return key in fields


def _kinds(kinds: list[str], between: str = " and ") -> str:
    """Return how kinds are named, with the sections that have them."""
    sections = {of: section for section, of in SECTIONS.items()}
    return between.join(
        f"{'a' if other != 'settings' else 'the'} {other}"
        + (f" ({sections[other]}:)" if other in sections and other != "settings" else "")
        for other in kinds
    )


def is_another_file(keys: Iterable[str], is_like_ours: Iterable[bool]) -> bool:
    """Tell whether a file is for another program, by the keys at its top."""
    known = [key in SECTIONS or sentence(key) is not None for key in keys]
    return bool(known) and not any(known) and not any(is_like_ours)


def another_file(keys: list[str]) -> tuple[str, str]:
    """Return what to say about a file that is for another program."""
    named = ", ".join(shown(key) for key in keys[:3]) + (", …" if len(keys) > 3 else "")
    message = f"this file is no Kakehi configuration: it begins with {named}"
    *most, last = SECTIONS
    hint = (
        f"a configuration has {', '.join(most)} or {last} at the top; name files that are for "
        "something else in .kakehiignore"
    )
    return message, hint


def _is_by_name(kind: str, loc: tuple[int | str, ...]) -> bool:
    """Tell whether a map has names that people choose as its keys (headers, error pages)."""
    return "dict" in str(fields_at(kind, loc[:-1])[str(loc[-1])].annotation)
