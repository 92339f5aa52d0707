"""Configurations made by hypothesis: raw values as in YAML, entities, and whole directories."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from schemas.entities.entity import Entity, EntityKey, Provenance
from schemas.kinds.registry import MODELS

NAMES = st.sampled_from(["a", "b", "shop", "web-1", "x.y_z", "0"])
DURATIONS = st.one_of(
    st.integers(1, 10_000).map("{}ms".format), st.integers(1, 168).map("{}h".format)
)
TEXTS = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=8)
PORTS = st.integers(1, 65_535)
ADDRESSES = st.one_of(
    st.tuples(st.ip_addresses(v=4), PORTS).map(lambda pair: f"{pair[0]}:{pair[1]}"),
    st.tuples(st.integers(1, 0xFFFF), PORTS).map(lambda pair: f"[2001:db8::{pair[0]:x}]:{pair[1]}"),
)
# No connection comes to those of many hosts.
LISTENED = ADDRESSES.filter(lambda address: not address.startswith(("22", "23", "255.255.255.255")))
SEGMENTS = st.lists(st.sampled_from(["api", "v1", "a-b", "caf%C3%A9"]), max_size=3)
PATHS = SEGMENTS.map(lambda segments: "/" + "/".join(segments))
MATCHES = st.one_of(
    TEXTS,
    TEXTS.map(lambda text: {"exact": text}),
    TEXTS.map(lambda text: {"exact": text, "not": True}),
    st.sampled_from([{"regex": "[0-9]+"}, {"present": True}, {"present": False, "not": False}]),
)


def _optional(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=fields)


SOCKETS = st.sampled_from(["unix:/run/app.sock", "unix:/" + "a" * 106, "unix:/run/App-é/1"])
BACKENDS = st.fixed_dictionaries(
    {"address": st.one_of(ADDRESSES, SOCKETS)},
    optional={"weight": st.integers(0, 65_535), "backup": st.booleans()},
)
LISTENERS = st.fixed_dictionaries(
    {"address": LISTENED},
    optional={
        "protocol": st.just("http"),
        "timeouts": _optional(keep_alive=DURATIONS, request_head=DURATIONS),
        "limits": _optional(
            connections=st.integers(1, 1_000_000),
            body_bytes=st.one_of(st.none(), st.integers(0, 1000).map("{}KiB".format)),
        ),
        "error_pages": st.dictionaries(
            st.integers(400, 599).map(str), st.fixed_dictionaries({"body": TEXTS})
        ),
        "policies": st.lists(NAMES, max_size=1),
        "proxy_protocol": st.lists(st.sampled_from(["10.0.0.0/8", "::1"]), max_size=2),
        "trusted_proxies": st.lists(st.sampled_from(["10.0.0.0/8", "::1", "fd00::/8"]), max_size=3),
    },
)
CLUSTERS = _optional(
    load_balancing=st.sampled_from(["round_robin", "random", "least_connections", "power_of_two"]),
    retries=st.integers(0, 10),
    timeouts=_optional(connect=DURATIONS, tunnel=DURATIONS),
)
TEMPLATES = st.sampled_from(["x", "{client_address}", "{{{header:X-A}}}", "é{path}?{query}"])
LINES = st.dictionaries(
    st.sampled_from(["X-A", "x_b", "Vary"]), st.one_of(TEMPLATES, st.none()), max_size=2
)
ANSWER_LINES = st.dictionaries(
    st.sampled_from(["X-A", "x_b", "Cache-Control"]),
    st.one_of(
        TEMPLATES,
        st.none(),
        st.fixed_dictionaries({"answers": st.sampled_from(["all", "success"]), "text": TEMPLATES}),
    ),
    max_size=2,
)
EDITS = _optional(remove=st.sets(st.sampled_from(["Server", "x-c"])).map(list), set=LINES)
ANSWER_EDITS = _optional(
    remove=st.sets(st.sampled_from(["Server", "x-c"])).map(list), set=ANSWER_LINES
)
PLACES = st.fixed_dictionaries(
    {"hostname": st.sampled_from(["a.test", "www.{hostname}", "Ä.example", "[2001:DB8::1]"])},
    optional={"path": st.sampled_from([{"full": "/{path}"}, {"full": "/a%2fb/{header:x}"}])},
)
REDIRECTS = st.tuples(
    PLACES,
    _optional(
        port=PORTS,
        query=st.sampled_from(["keep", "drop"]),
        scheme=st.sampled_from(["http", "https"]),
        status=st.sampled_from([301, 302, 303, 307, 308]),
    ),
).map(lambda pair: {**pair[0], **pair[1]})
RESPONSES = st.one_of(
    st.just({"close": True}),
    st.fixed_dictionaries(
        {"status": st.sampled_from([200, 404, 599])},
        optional={"body": TEXTS, "content_type": st.just("application/json")},
    ),
)
ENDS = st.one_of(
    NAMES.map(lambda name: {"cluster": name}),
    st.tuples(NAMES, EDITS, PLACES).map(
        lambda made: {"cluster": made[0], "request_headers": made[1], "rewrite": made[2]}
    ),
    st.tuples(NAMES, st.integers(1, 100)).map(
        lambda made: {
            "cluster": made[0],
            "mirror": {"cluster": f"{made[0]}-too", "share": f"{made[1]}%"},
        }
    ),
    st.tuples(NAMES, st.integers(1, 4)).map(
        lambda made: {
            "cluster": made[0],
            "mirror": [
                {"cluster": f"{made[0]}-{at}", "share": f"{at}%"} for at in range(1, made[1] + 1)
            ],
        }
    ),
    REDIRECTS.map(lambda place: {"redirect": place}),
    st.tuples(
        st.dictionaries(NAMES, st.integers(1, 65_535), min_size=1, max_size=3),
        st.sampled_from([None, "client_address", {"cookie": "a"}, {"header": "X-A"}]),
    ).map(lambda split: {"split": split[0], "split_by": split[1]}),
    RESPONSES.map(lambda answer: {"respond": answer}),
)
COOKIES_SET = st.dictionaries(
    st.sampled_from(["*", "session", "__Secure-a"]),
    st.sampled_from(
        [
            None,
            {"secure": True},
            {"http_only": True, "same_site": "lax", "domain": "drop"},
            {"secure": True, "same_site": "none", "path": {"/app/": "/", "/": "/x"}},
            {"domain": ".Example.com", "same_site": "strict"},
        ]
    ),
)
HSTS = st.sampled_from(
    [
        {"max_age_days": 1},
        {"max_age_days": 365, "preload": True, "include_subdomains": True},
        "inherit",
        None,
    ]
)
PAGES = st.dictionaries(
    st.integers(400, 599).map(str),
    st.one_of(st.none(), st.fixed_dictionaries({"body": TEXTS})),
    max_size=2,
)
# Of several it would have to be known whether they contradict each other.
NAMED_POLICIES = st.lists(NAMES, max_size=1)
ASKED_FIRST = st.fixed_dictionaries(
    {"cluster": NAMES},
    optional={
        "cache": st.sampled_from(
            [
                None,
                {"headers": ["Cookie", "authorization"], "ttl": "1s"},
                {"headers": ["X-Key"], "ttl": "1h"},
            ]
        ),
        "copy_headers": st.sets(st.sampled_from(["X-User", "x-groups", "A_b"])).map(list),
        "path": st.sampled_from(["/", "/verify?a=%2f", "/" + "a" * 1023]),
        "timeout": st.sampled_from(["1ms", "60s", "5s"]),
    },
)
WITHIN = st.sets(st.sampled_from(["10.1.0.0/16", "192.0.2.7", "2001:db8::/32"]), min_size=1).map(
    list
)
APART = st.sets(st.sampled_from(["10.2.0.0/16", "::1", "0.0.0.0/8"]), min_size=1).map(list)
CORS = st.one_of(
    st.sampled_from(["inherit", None, {"origins": ["*"], "methods": ["*"]}]),
    st.fixed_dictionaries(
        {
            "origins": st.sampled_from(
                [["https://a.test"], ["http://*.a.test:81", "https://[::1]:82"]]
            )
        },
        optional={
            "credentials": st.booleans(),
            "expose": st.just(["X-A", "x-b"]),
            "headers": st.just(["Content-Type"]),
            "max_age": st.sampled_from([None, "1s", "24h"]),
            "methods": st.just(["PUT", "M-SEARCH"]),
        },
    ),
)


def _with_networks(limit: dict[str, object]) -> dict[str, object]:
    """Have what goes by addresses go by networks of other sizes in some cases."""
    by_networks = limit.get("by", "client_address") == "client_address"
    return {**limit, "ipv6_prefix": 48} if by_networks and limit.get("dry_run") else limit


RATE = st.fixed_dictionaries(
    {"requests": st.integers(1, 1_000_000)},
    optional={
        "burst": st.one_of(st.none(), st.integers(1, 1_000_000)),
        "by": st.sampled_from(
            [
                "client_address",
                "frontend",
                {"header": "X-Api-Key"},
                {"cookie": "sid"},
                ["client_address", {"header": "X-Api-Key"}],
                [{"cookie": "sid"}, "frontend", {"header": "x"}],
                [{"header": "X-Api-Key"}],
            ]
        ),
        "dry_run": st.booleans(),
        "fields": st.sampled_from(["all", "none", "refused"]),
        "when_full": st.sampled_from(["evict", "refuse"]),
        "name": st.sampled_from([None, "all", "a_b-c"]),
        "per": st.sampled_from(["1s", "1m", "24h"]),
        "status": st.sampled_from([429, 400, 503, 599]),
    },
).map(_with_networks)


def _called(rate: dict[str, Any]) -> str:
    """Whichever way it is written: one in a list, in another order, in other letters."""
    by = rate.get("by", "client_address")
    each = by if isinstance(by, list) else [by]
    return str(rate.get("name") or sorted(str(one).lower() for one in each))


RATES = st.one_of(
    RATE,
    st.lists(
        RATE,
        min_size=1,
        max_size=4,
        unique_by=_called,
    ),
)
COMPRESSION = st.one_of(
    st.sampled_from(["inherit", None]),
    _optional(
        levels=_optional(br=st.integers(1, 6), gzip=st.integers(1, 9), zstd=st.integers(1, 12))
    ),
    _optional(
        encodings=st.lists(
            st.sampled_from(["br", "gzip", "zstd"]), min_size=1, max_size=3, unique=True
        ),
        min_bytes=st.integers(1, 999).map("{}KiB".format),
        private=st.booleans(),
        types=st.lists(
            st.sampled_from(["text/*", "application/json", "image/svg+xml"]), min_size=1
        ),
    ),
)
INTERCEPT = st.one_of(
    st.sampled_from(["inherit", None]), st.lists(st.integers(400, 599), min_size=1, max_size=5)
)
CONCURRENCY = st.fixed_dictionaries(
    {"requests": st.integers(1, 1_000_000)},
    optional={
        "by": st.sampled_from(["frontend", {"cookie": "sid"}, [{"cookie": "sid"}, "frontend"]]),
        "dry_run": st.booleans(),
    },
).map(_with_networks)
LIMITS = _optional(body_bytes=st.integers(0, 999).map("{}MiB".format))
PAUSES = st.one_of(st.sampled_from(["inherit", None]), DURATIONS)
BANDWIDTHS = st.fixed_dictionaries(
    {"total": st.integers(1, 999).map("{}KiB".format)},
    optional={"per_connection": st.sampled_from([None, "1KiB", "1TiB"])},
)
TIMEOUTS = _optional(request=PAUSES, request_body=PAUSES, response_head=PAUSES, tunnel=PAUSES)
POLICIES = _optional(
    allow=WITHIN,
    bandwidth=BANDWIDTHS,
    compression=COMPRESSION,
    concurrency=CONCURRENCY,
    cors=CORS,
    deny=APART,
    error_pages=PAGES,
    forward_auth=ASKED_FIRST,
    hsts=HSTS,
    intercept=INTERCEPT,
    limits=LIMITS,
    overridable=st.booleans(),
    rate_limit=RATES,
    request_headers=EDITS,
    response_headers=ANSWER_EDITS,
    set_cookie=COOKIES_SET,
    timeouts=TIMEOUTS,
)
MATCHING = st.fixed_dictionaries(
    {"listeners": st.lists(NAMES, min_size=1, max_size=3)},
    optional={
        "allow": WITHIN,
        "deny": APART,
        "hostname": st.sampled_from(["*", "shop.example.com", "*.example.com", "Ä.example."]),
        "path": st.one_of(
            PATHS.map(lambda path: {"prefix": path}),
            PATHS.map(lambda path: {"exact": path}),
            st.just({"regex": "/item/[0-9]+"}),
            st.sampled_from([{"suffix": ".php"}, {"suffix": "/a%2fB", "ignore_case": True}]),
        ),
        "methods": st.lists(st.sampled_from(["GET", "POST", "M-SEARCH"]), max_size=3),
        "headers": st.dictionaries(st.sampled_from(["X-A", "x-b", "__private"]), MATCHES),
        "client_certificate": st.sampled_from(["required", {"subjects": ["CN=a"]}]),
        "early_data": st.booleans(),
        "error_pages": PAGES,
        "forward_auth": ASKED_FIRST,
        "compression": COMPRESSION,
        "hsts": HSTS,
        "limits": LIMITS,
        "rate_limit": RATES,
        "policies": NAMED_POLICIES,
        "query": st.dictionaries(TEXTS, MATCHES, max_size=2),
        "cookies": st.dictionaries(
            st.sampled_from(["a", "__Host-b"]),
            st.sampled_from(["1", {"regex": "[a-z]", "not": True}, {"present": True}]),
        ),
        "client_addresses": st.sets(
            st.sampled_from(["10.0.0.0/8", "192.0.2.7", "2001:db8::/32"]), min_size=1
        ).map(list),
        "response_headers": ANSWER_EDITS,
    },
)
OF_CLUSTERS = _optional(
    concurrency=CONCURRENCY,
    intercept=INTERCEPT,
    set_cookie=COOKIES_SET,
    redirect=st.sampled_from(["https", None]),
    timeouts=TIMEOUTS,
    upgrades=st.lists(st.sampled_from(["websocket", "tcp", "X/1"]), max_size=2),
)


SEVERAL = st.sets(st.sampled_from(["a.test", "*.a.test", "Ä.example", "[::1]"])).map(list)


def _frontend(
    parts: tuple[dict[str, Any], list[str], dict[str, Any], dict[str, Any]],
) -> dict[str, Any]:
    matching, several, end, of_clusters = parts
    if several and "hostname" not in matching:
        matching = {**matching, "hostnames": several}
    return {**matching, **(of_clusters if "cluster" in end else {}), **end}


FRONTENDS = st.tuples(MATCHING, SEVERAL, ENDS, OF_CLUSTERS).map(_frontend)
SETTINGS = _optional(
    access_log=st.sampled_from(["stdout", "off", "/var/log/kakehi.log"]),
    admin=st.one_of(st.none(), LISTENED),
    accept_by_core=st.booleans(),
    drain_idle_timeout=st.integers(0, 9).map("{}s".format),
    drain_timeout=st.integers(0, 24).map("{}h".format),
    generation_header=st.booleans(),
    max_buffered_bytes=st.integers(1, 1024).map("{}MiB".format),
    max_counted_entities=st.integers(1, 4_000_000),
    max_expression_bytes=st.integers(1, 1024).map("{}MiB".format),
    metrics_entities=st.integers(0, 1_000_000),
    via=st.one_of(st.none(), st.sampled_from(["edge-1", "a", "!#$%&'*+-.^_`|~" + "z" * 49])),
    workers=st.one_of(st.just("auto"), st.integers(1, 1024)),
)
RAW: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "settings": SETTINGS,
    "listener": LISTENERS,
    "cluster": CLUSTERS,
    "backend": BACKENDS,
    "frontend": FRONTENDS,
    "policy": POLICIES,
}


@st.composite
def entities(draw: st.DrawFn) -> Entity:
    """One entity of any kind, as the validator would make it."""
    kind = draw(st.sampled_from(sorted(RAW)))
    name = "settings" if kind == "settings" else draw(NAMES)
    name = f"{draw(NAMES)}/{name}" if kind == "backend" else name
    value = MODELS[kind].model_validate(draw(RAW[kind])).value()
    place = Provenance(draw(st.sampled_from(["a.yaml", "b.yaml"])), draw(st.integers(1, 99)), 3)
    return Entity(EntityKey(kind, name), value, place)


ENTITY_MAPS = st.lists(entities(), max_size=8).map(
    lambda found: {entity.key: entity for entity in found}
)


def file_of(document: dict[str, Any]) -> bytes:
    """Write a document as a file. JSON is YAML, if only its characters are not escaped."""
    return json.dumps(document, ensure_ascii=False).encode()


DOCUMENTS = _optional(
    listeners=st.dictionaries(NAMES, LISTENERS, max_size=3),
    clusters=st.dictionaries(
        NAMES,
        st.tuples(CLUSTERS, st.dictionaries(NAMES, BACKENDS, max_size=3)).map(
            lambda pair: {**pair[0], "backends": pair[1]}
        ),
        max_size=3,
    ),
    frontends=st.dictionaries(NAMES, FRONTENDS, max_size=4),
    policies=st.dictionaries(NAMES, POLICIES, max_size=2),
    settings=SETTINGS,
)
DIRECTORIES = st.dictionaries(
    st.sampled_from(["a.yaml", "b.yaml", "team/c.yaml"]), DOCUMENTS.map(file_of), max_size=3
)
