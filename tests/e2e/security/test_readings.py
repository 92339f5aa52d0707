"""Paths in which servers read another one than the proxy does (T20): `%2F`, `%5C`, parameters.

WSGI, CGI and PHP decode a path before they split it, servlets take off what follows a `;`. No
request gets past a frontend that lets only some through by spelling its path for another one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from reconciler.reporting.explaining.slipping import _GUARDS
from tests.harness import control, ports
from tests.harness.gateway import Gateway
from tests.harness.h2client import H2Client
from tests.harness.rawbackend import RawBackend

HOST = "readings.test"
NOBODY = {"allow": ["192.0.2.0/24"]}
GUARDED: dict[str, dict[str, Any]] = {
    "admin": {"path": {"prefix": "/admin"}, **NOBODY},
    "exact": {"path": {"exact": "/exact"}, **NOBODY},
    "hidden": {"path": {"prefix": "/hidden"}, "respond": {"status": 404}},
    "spelled": {"path": {"prefix": "/admin%2Fopen"}},
    "plain": {"path": {"prefix": "/plain"}},
    "alike": {"path": {"prefix": "/alike"}, "policies": ["readings"]},
    "also": {"path": {"prefix": "/alike/also"}, "policies": ["readings"]},
}
KEYS: dict[str, Any] = {
    "allow": ["192.0.2.0/24"],
    "concurrency": {"requests": 9},
    "deny": ["192.0.2.0/24"],
    "forward_auth": {"cluster": "readings", "path": "/asked"},
    "limits": {"body_bytes": "1MiB"},
    "rate_limit": {"requests": 9},
    "redirect": "https",
    # What stops nobody by who or how often he asks.
    "bandwidth": {"per_connection": "1MiB"},
    "compression": {},
    "timeouts": {"request": "1m"},
}
GUARDED |= {key: {"path": {"prefix": f"/by/{key}"}, key: value} for key, value in KEYS.items()}
GUARDS = {*_GUARDS, "limits", "redirect"}
REFUSED = [
    "/admin%2Fx",
    "/admin%2fx",
    "/%2Fadmin/x",
    "/admin%5Cx",
    "/a/..%2fadmin",
    "/x/.%2F..;a/admin",
    "/admin;v=1/x",
    "/;v=1/admin",
    "/admin;v=1%2Fx",
    "/exact;jsessionid=1",
    "/hidden%2Fx",
]
SERVED = {
    "/projects/a%2Fb": "/projects/a%2Fb",
    "/plain%2Fx": "/plain%2Fx",
    "/x;v=1/y": "/x;v=1/y",
    "/admin%2Fopen/x": "/admin%2Fopen/x",
    "/alike/also%2Fx": "/alike/also%2Fx",
    "/alike%2Falso": None,
    "/%C3%BC%20;": "/%C3%BC%20;",
}


@pytest.fixture(scope="module")
def site(shared_gateway: Gateway) -> Iterator[tuple[Gateway, RawBackend]]:
    backend = RawBackend()
    common = {"listeners": ["readings", "readings-behind"], "hostname": HOST, "cluster": "readings"}
    shared_gateway.extend(
        listeners={
            "readings": {"address": ports.address(), "h2c": True},
            "readings-behind": {
                "address": ports.address(),
                "trusted_proxies": ["127.0.0.0/8"],
            },
        },
        policies={"readings": {"allow": ["127.0.0.0/8"]}},
        clusters={"readings": {"backends": {"raw": {"address": backend.address}}}},
        frontends={
            "readings": common,
            **{
                f"readings-{name}": {
                    key: value
                    for key, value in {**common, **own}.items()
                    if key != "cluster" or "respond" not in own
                }
                for name, own in GUARDED.items()
            },
        },
    )
    yield shared_gateway, backend
    backend.stop()


@pytest.mark.parametrize("target", REFUSED)
def test_nobody_gets_past_a_guard(site: tuple[Gateway, RawBackend], target: str) -> None:
    gateway, backend = site
    backend.reset()
    with gateway.connect("readings") as plain:
        assert plain.get(HOST, target).status == 400
    with H2Client(gateway.addresses["readings"]) as client:
        stream = client.get(HOST, path=target)
        client.read_until(lambda: stream in client.ended)
        assert client.statuses[stream] == 400
    assert backend.requests == []


@pytest.mark.parametrize("target", SERVED)
def test_where_nothing_is_guarded_paths_are_as_they_are(
    site: tuple[Gateway, RawBackend], target: str
) -> None:
    gateway, backend = site
    backend.reset()
    expected = SERVED[target]
    if expected is None:
        # Who reads it otherwise comes to a frontend that stops whom its own frontend lets pass.
        with gateway.connect("readings") as plain:
            assert plain.get(HOST, target).status == 400
        return
    with gateway.connect("readings") as plain:
        assert plain.get(HOST, target).status == 200
    assert [request.path for request in backend.requests] == [expected]


def test_what_a_trusted_proxy_has_had_over_tls_is_sent_there_by_no_path(
    site: tuple[Gateway, RawBackend],
) -> None:
    """`redirect: https` guards what a client says in clear text, and no more."""
    gateway, backend = site
    backend.reset()
    with gateway.connect("readings-behind") as plain:
        for target in ("/by/redirect/x", "/by%2Fredirect/x"):
            assert plain.get(HOST, target, "X-Forwarded-Proto: https").status == 200
        assert plain.get(HOST, "/by/redirect/x", "X-Forwarded-Proto: http").status == 308
        assert plain.get(HOST, "/by%2Fredirect/x", "X-Forwarded-Proto: http").status == 400
        assert plain.get(HOST, "/admin%2Fx", "X-Forwarded-Proto: https").status == 400
    with gateway.connect("readings") as stranger:
        assert stranger.get(HOST, "/by%2Fredirect/x", "X-Forwarded-Proto: https").status == 400
    assert len(backend.requests) == 2


def test_explain_says_so(site: tuple[Gateway, RawBackend]) -> None:
    gateway, _ = site
    url = f"http://{HOST}:{gateway.addresses['readings'].rpartition(':')[2]}"
    for target in REFUSED:
        done = gateway.daemon.run_cli("explain", f"{url}{target}")
        assert "400" in done.stdout + done.stderr, (target, done.stdout, done.stderr)
    for target, expected in SERVED.items():
        done = gateway.daemon.run_cli("explain", f"{url}{target}")
        assert ("ambiguous_path" in done.stdout) == (expected is None), (target, done.stdout)


TARGETS = [*REFUSED, *SERVED, *(f"/by%2F{key}/x" for key in KEYS), "/by/redirect/x", "/by;/allow"]
# What has no normal form is refused before any path is compared.
TARGETS = [target for target in TARGETS if ".." not in target]
HEADERS = [[], [["X-Forwarded-Proto", "https"]], [["X-Forwarded-Proto", "http"]]]


@pytest.mark.parametrize("listener", ["readings", "readings-behind"])
def test_explain_and_engine_judge_every_path_alike(
    site: tuple[Gateway, RawBackend], listener: str
) -> None:
    """By the path, and by what a proxy that is trusted says of the connection that it has had."""
    gateway, _ = site
    url = f"http://{HOST}:{gateway.addresses[listener].rpartition(':')[2]}"
    differing = []
    for headers in HEADERS:
        lines = [f"{name}: {value}" for name, value in headers]
        for target in TARGETS:
            with gateway.connect(listener) as client:
                status = client.get(HOST, target, *lines).status
            told = control.ask(
                gateway.daemon.runtime_dir,
                "explain",
                url=f"{url}{target}",
                headers=headers,
                client_address="127.0.0.1",
            )
            if told["status"] not in (status, None if status == 200 else status):
                differing.append((target, headers, status, told["status"], told["message"]))
    assert not differing


@pytest.mark.parametrize("key", KEYS)
def test_explain_and_engine_know_the_same_guards(
    site: tuple[Gateway, RawBackend], key: str
) -> None:
    gateway, _ = site
    target = f"/by%2F{key}/x"
    with gateway.connect("readings") as client:
        status = client.get(HOST, target).status
    assert status == (400 if key in GUARDS else 200)
    url = f"http://{HOST}:{gateway.addresses['readings'].rpartition(':')[2]}"
    done = gateway.daemon.run_cli("explain", f"{url}{target}")
    assert ("ambiguous_path" in done.stdout) == (key in GUARDS), done.stdout
