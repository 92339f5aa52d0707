"""Which frontend refuses how many: its answers by the statuses of those who may not."""

from __future__ import annotations

import urllib.request
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.http.test_basic_auth import SHA256, lines
from tests.harness import ports, rawclient, wire
from tests.harness.rawbackend import RawBackend, answer
from tests.harness.site import Site

FRONTENDS: dict[str, dict[str, Any]] = {
    "users": {"basic_auth": {"realm": "r", "users": "users.htpasswd"}},
    "denied": {"deny": ["127.0.0.0/8"]},
    "short": {"limits": {"body_bytes": "1B"}},
    "rated": {"rate_limit": {"requests": 1, "per": "1h", "by": "frontend"}},
    "theirs": {},
    "closed": {"respond": {"close": True}},
}


def told(admin: str) -> tuple[dict[tuple[str, str], float], dict[tuple[str, str], float]]:
    """By frontend and status, and by frontend and class: what is not 0."""
    with urllib.request.urlopen(f"http://{admin}/metrics", timeout=15) as response:
        text = response.read().decode()
    found: dict[str, dict[tuple[str, str], float]] = {"status": {}, "class": {}}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name.startswith("kakehi_frontend_responses") and sample.value:
                label = "status" if "status" in sample.labels else "class"
                key = sample.labels["frontend"], sample.labels[label]
                found[label][key] = sample.value
    return found["status"], found["class"]


def test_refusals_are_told_by_frontend_and_status(tmp_path: Path) -> None:
    site, admin = Site(tmp_path, workers=1), ports.address()
    backend = RawBackend(answer(wire.response(b"no", status="429 Too Many Requests")))
    document: Any = site.document({"raw": [backend.address]}, {})
    document["settings"]["admin"] = admin
    document["frontends"] = {
        name: {"listeners": ["main"], "hostname": f"{name}.test"}
        | ({} if "respond" in keys else {"cluster": "raw"})
        | keys
        for name, keys in FRONTENDS.items()
    }
    with site:
        site.start({"kakehi.yaml": document, "users.htpasswd": lines({"a": SHA256})})
        for name, status in (
            *(("users", 401), ("denied", 403), ("denied", 403), ("rated", 429), ("rated", 429)),
            ("theirs", 429),
        ):
            with rawclient.Connection(site.address) as client:
                assert client.get(f"{name}.test", "/").status == status, name
        with rawclient.Connection(site.address) as client:
            length = "POST / HTTP/1.1\r\nHost: short.test\r\nContent-Length: 2\r\n\r\nab"
            client.send(length.encode())
            assert client.read_response("POST").status == 413
        with rawclient.Connection(site.address) as client:
            client.send(b"GET / HTTP/1.1\r\nHost: closed.test\r\n\r\n")
            assert client.read_to_close() == b""
        by_status, by_class = told(admin)
    backend.stop()
    assert by_status == {
        ("users", "401"): 1,
        ("denied", "403"): 2,
        ("short", "413"): 1,
        ("rated", "429"): 2,
        ("theirs", "429"): 1,
    }
    assert not [key for key in by_class if key[0] == "closed"], "nothing was answered"
