"""What a configuration means, worked out without any of our code.

Defaults and the digest's formula are written out here from the reference of the language, so that
a change of either is noticed. Used by `test_daemon_model`.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

BASE = "base.yaml"
STYLES = ("json", "block", "commented")
FAULTS = {
    "syntax": "{ this is: [no YAML\n",
    "unknown key": "clusters:\n  faulty: {retreis: 1}\n",
    "wrong type": "clusters:\n  faulty: {retries: many}\n",
    "dangling": "frontends:\n  faulty: {listeners: [main], hostname: f.test, cluster: nowhere}\n",
    "unknown kind": "clutsers: {}\n",
    "two documents": "clusters: {}\n---\nclusters: {}\n",
}

# (kind, name) → (value, file)
Entities = dict[tuple[str, str], tuple[dict[str, Any], str]]


@dataclass(frozen=True)
class Cluster:
    """Backend's name → (who answers there, weight)."""

    backends: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    retries: int = 2


@dataclass(frozen=True)
class File:
    """Clusters by name; frontends by name: (label of the host, cluster, policies).

    Policies by name: what they have answers say in `X-Said`. A fault replaces all.
    """

    clusters: Mapping[str, Cluster] = field(default_factory=dict)
    frontends: Mapping[str, tuple[str, str, tuple[str, ...]]] = field(default_factory=dict)
    policies: Mapping[str, str] = field(default_factory=dict)
    style: str = "json"
    fault: str = ""

    def content(self, addresses: Mapping[str, str]) -> str:
        if self.fault:
            return FAULTS[self.fault]
        document = {
            "clusters": {
                name: {
                    "retries": cluster.retries,
                    "backends": {
                        backend: {"address": addresses[who], "weight": weight}
                        for backend, (who, weight) in cluster.backends.items()
                    },
                }
                for name, cluster in self.clusters.items()
            },
            "frontends": {
                name: {
                    "listeners": ["main"],
                    "hostname": f"{host}.test",
                    "cluster": cluster,
                    **({"policies": sorted(policies, reverse=True)} if policies else {}),
                }
                for name, (host, cluster, policies) in self.frontends.items()
            },
            "policies": {
                name: {"response_headers": {"set": {"X-Said": text}}}
                for name, text in self.policies.items()
            },
        }
        return _write(document, self.style)


class Tree(dict[str, File]):
    """All files but the base, by path."""

    def with_file(self, path: str, **changes: Any) -> Tree:
        return Tree({**self, path: replace(self.get(path, File()), **changes)})

    def without(self, path: str) -> Tree:
        return Tree({name: file for name, file in self.items() if name != path})

    def where(self, kind: str, name: str) -> str | None:
        """The file that holds a cluster or a frontend."""
        return next((path for path, file in self.items() if name in getattr(file, kind)), None)

    def is_valid(self) -> bool:
        if any(file.fault for file in self.values()):
            return False
        clusters = Counter(name for file in self.values() for name in file.clusters)
        frontends = Counter(name for file in self.values() for name in file.frontends)
        routes = [route for file in self.values() for route in file.frontends.values()]
        hosts = Counter(host for host, _, _ in routes)
        policies = Counter(name for file in self.values() for name in file.policies)
        counts = [clusters, frontends, hosts, policies]
        said = self._said()
        return (
            max((count for each in counts for count in each.values()), default=1) == 1
            and {cluster for _, cluster, _ in routes} <= clusters.keys()
            and {name for _, _, names in routes for name in names} <= policies.keys()
            # Two of one list are not to differ.
            and all(len({said[name] for name in names}) <= 1 for _, _, names in routes)
        )

    def _said(self) -> dict[str, str]:
        """What each policy says."""
        return {name: text for file in self.values() for name, text in file.policies.items()}

    def entities(self, base: Entities, addresses: Mapping[str, str]) -> Entities:
        found = dict(base)
        for path, file in self.items():
            for name, cluster in file.clusters.items():
                found["cluster", name] = _cluster(cluster), path
                for backend, (who, weight) in cluster.backends.items():
                    value = {"address": addresses[who], "backup": False, "weight": weight}
                    found["backend", f"{name}/{backend}"] = value, path
            for name, (host, cluster_name, policies) in file.frontends.items():
                value = {**_frontend(host, cluster_name), "policies": sorted(policies)}
                found["frontend", name] = value, path
            for name, text in file.policies.items():
                found["policy", name] = _policy(text), path
        return found

    def answers(self, host: str) -> set[str]:
        """What a client may get for a host: names of backends, or a status."""
        clusters = {name: c for file in self.values() for name, c in file.clusters.items()}
        for file in self.values():
            for label, cluster, _ in file.frontends.values():
                if label == host:
                    serving = {
                        who for who, weight in clusters[cluster].backends.values() if weight > 0
                    }
                    return serving or {"503"}
        return {"404"}

    def said(self, host: str) -> list[str]:
        """What policies have the answers for a host say."""
        routes = [route for file in self.values() for route in file.frontends.values()]
        names = [name for label, _, names in routes if label == host for name in names]
        return sorted({self._said()[name] for name in names})


def base_entities(settings: Mapping[str, Any], address: str) -> Entities:
    """The settings and the one listener."""
    listener = {
        "address": address,
        "error_pages": {},
        "limits": {
            "body_bytes": None,
            "connections": 10000,
            "head_bytes": 32768,
            "header_count": 100,
        },
        "h2c": False,
        "merge_slashes": True,
        "policies": [],
        "protocol": "http",
        "proxy_protocol": [],
        "timeouts": {
            "keep_alive": 60000,
            "request_body": 30000,
            "request_head": 10000,
            "response_write": 30000,
        },
        "tls": None,
        "trusted_proxies": [],
        "underscores_in_headers": True,
    }
    defaults: dict[str, Any] = {
        "access_log": "stdout",
        "admin": None,
        "accept_by_core": False,
        "drain_idle_timeout": 1000,
        "drain_timeout": 30000,
        "error_pages": {},
        "generation_header": False,
        "max_buffered_bytes": 1073741824,
        "max_compression_bytes": 64 << 20,
        "max_connections": 10000,
        "max_counted_entities": 1000000,
        "max_expression_bytes": 256 << 20,
        "max_requests": 10000,
        "metrics_entities": 1500,
        "via": None,
        "workers": "auto",
    }
    return {
        ("settings", "settings"): ({**defaults, **settings}, BASE),
        ("listener", "main"): (listener, BASE),
    }


def digest(entities: Entities) -> str:
    usual: dict[str, dict[str, Any]] = {
        "settings": base_entities({}, "")["settings", "settings"][0],
        "listener": base_entities({}, "")["listener", "main"][0],
        "cluster": _cluster(Cluster()),
        "backend": {"backup": False, "weight": 100},
        "frontend": {**_frontend("", ""), "hostname": "*", "listeners": []},
        "policy": _policy(None),
    }
    total = 0
    for (kind, name), (value, _) in entities.items():
        # What is at its default is not in it; no map within has anything else here.
        said = {key: each for key, each in value.items() if usual[kind].get(key, ...) != each}
        if kind == "policy":
            said["response_headers"] = {"set": value["response_headers"]["set"]}
        canonical = json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        content = f"{kind}\0{name}\0{canonical}".encode()
        total += int.from_bytes(hashlib.blake2b(content, digest_size=16).digest(), "big")
    return f"{total % (1 << 128):032x}"


def _cluster(cluster: Cluster) -> dict[str, Any]:
    return {
        "fallback": None,
        "health_check": None,
        "keep_alive_connections": 1024,
        "limits": {"head_bytes": 65_536, "header_count": 256},
        "load_balancing": "round_robin",
        "panic": None,
        "protocol": "http",
        "proxy_protocol": None,
        "retries": cluster.retries,
        "retry": None,
        "timeouts": {
            "connect": 3000,
            "keep_alive": 50000,
            "response_body": 300000,
            "response_head": 60000,
            "tunnel": 3600000,
        },
        "tls": None,
    }


def _frontend(host: str, cluster: str) -> dict[str, Any]:
    # Of what adds up it is not told that nothing is said: no null may be written there.
    return {
        "client_addresses": None,
        "cluster": cluster,
        "compression": "inherit",
        "cookies": {},
        "cors": "inherit",
        "early_data": False,
        "error_pages": {},
        "headers": {},
        "hostname": f"{host}.test",
        "hostnames": None,
        "hsts": "inherit",
        "intercept": "inherit",
        "limits": {},
        "listeners": ["main"],
        "methods": [],
        "mirror": None,
        "passthrough": False,
        "path": {"prefix": "/"},
        "policies": [],
        "query": {},
        "redirect": None,
        "request_headers": {"add": {}, "remove": [], "set": {}},
        "respond": None,
        "response_headers": {"add": {}, "remove": [], "set": {}},
        "rewrite": None,
        "set_cookie": {},
        "split": {},
        "split_by": None,
        "timeouts": dict.fromkeys(
            ("request", "request_body", "response_body", "response_head", "tunnel"), "inherit"
        ),
        "upgrades": ["websocket"],
    }


# What may stand in a policy may stand in a frontend too.
_SHARED = (
    "compression",
    "cors",
    "error_pages",
    "hsts",
    "intercept",
    "limits",
    "request_headers",
    "response_headers",
    "set_cookie",
    "timeouts",
)


def _policy(text: str | None) -> dict[str, Any]:
    shared = {key: value for key, value in _frontend("", "").items() if key in _SHARED}
    said = {} if text is None else {"X-Said": text}
    return {
        **shared,
        "overridable": False,
        "response_headers": {"add": {}, "remove": [], "set": said},
    }


def _write(document: dict[str, Any], style: str) -> str:
    if style == "json":
        return json.dumps(document) + "\n"
    lines = list(_block(document, 0))
    if style == "commented":
        lines = [line for each in lines for line in (f"# {each.strip()}", each, "")]
    return "\n".join(lines) + "\n"


def _block(value: dict[str, Any], depth: int) -> Iterator[str]:
    for key, inner in value.items():
        indent = "  " * depth
        if isinstance(inner, dict) and inner:
            yield f"{indent}{key}:"
            yield from _block(inner, depth + 1)
        else:
            yield f"{indent}{key}: {json.dumps(inner)}"
