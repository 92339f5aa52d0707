"""Frontends that pass TLS on: what they need, what they hide, and what `explain` says of them."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.catalog.views import MemoryView
from reconciler.reporting.explaining.explain import explain
from schemas.entities.diagnostic import Diagnostic
from schemas.entities.entity import Entity, EntityKey, Provenance
from schemas.kinds.registry import MODELS
from schemas.messages.control import ExplainRequest
from tests.reconciler.catalog.configuration import Catalog

HEAD = b"""\
listeners:
  open: {address: "127.0.0.1:8080"}
  safe: {address: "127.0.0.1:8443", protocol: https}
clusters:
  shop: {backends: {one: {address: "127.0.0.1:9001"}}}
  inner: {tls: {verify: false}, backends: {one: {address: "127.0.0.1:9002"}}}
"""


def frontend(name: str = "mail", **fields: Any) -> bytes:
    written = {"hostname": "mail.test", "listeners": "[safe]", "cluster": "shop", **fields}
    text = ", ".join(f"{key}: {value}" for key, value in written.items())
    return f"frontends: {{{name}: {{{text}}}}}\n".encode()


def stage(catalog: Catalog, **files: bytes | None) -> list[Diagnostic]:
    """What is found in a change but what is unused; it is taken over when there is no error."""
    candidate = catalog.stage({f"{name}.yaml": content for name, content in files.items()})
    if candidate.ok:
        catalog.accept(candidate)
    words = ("passes TLS", "passthrough", "same requests", "certificate")
    found = dict.fromkeys((*candidate.diagnostics, *candidate.warnings))
    return [each for each in found if any(word in each.message for word in words)]


def test_it_needs_a_listener_that_takes_tls() -> None:
    catalog = Catalog()
    [found] = stage(catalog, head=HEAD, f=frontend(listeners="[open, safe]", passthrough="true"))
    assert found.severity == "error"
    assert (found.file, found.line, found.column) == ("f.yaml", 1, 52)
    assert found.message == (
        'frontend "mail" passes TLS on, and listener "open" (head.yaml:2) takes none: its protocol '
        "is http"
    )
    catalog = Catalog()
    assert stage(catalog, head=HEAD, f=frontend(passthrough="true")) == []
    # It is the listener that changes afterwards.
    changed = HEAD.replace(b", protocol: https", b"")
    [found] = stage(catalog, head=changed)
    assert "takes none" in found.message


def test_it_needs_a_cluster_that_takes_bytes_as_they_come() -> None:
    [found] = stage(Catalog(), head=HEAD, f=frontend(passthrough="true", cluster="inner"))
    assert found.severity == "error"
    assert "would put TLS around it once more" in found.message


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("path", "{prefix: /api}"),
        ("methods", "[GET]"),
        ("headers", "{x: y}"),
        ("query", "{v: '2'}"),
        ("hsts", "{max_age_days: 1}"),
        ("redirect", "https"),
    ],
)
def test_only_the_hostname_can_be_matched(key: str, value: str) -> None:
    [found] = stage(Catalog(), head=HEAD, f=frontend(passthrough="true", **{key: value}))
    assert found.severity == "error"
    assert f"nothing can be said about {key} of what is encrypted" in found.message


def test_what_it_hides_is_told() -> None:
    catalog = Catalog()
    own = frontend("own", path="{prefix: /api}")
    stage(catalog, head=HEAD, own=own)
    found = stage(catalog, f=frontend(passthrough="true"))
    told = (
        'frontend "own" never gets a request on listener "safe": frontend "mail" (f.yaml:1) passes '
        "TLS for mail.test on"
    )
    assert [each.message for each in found] == [told]
    assert stage(catalog, f=frontend(passthrough="true", hostname="other.test")) == []


def test_what_it_hides_of_several_hostnames_is_told_of_each() -> None:
    catalog = Catalog()
    several = "[a.test, mail.test]"
    web = frontend("web", path="{prefix: /x}").replace(
        b"hostname: mail.test", f"hostnames: {several}".encode()
    )
    passing = frontend(passthrough="true")
    [found] = [
        each for each in stage(catalog, head=HEAD, f=passing, g=web) if each.file == "g.yaml"
    ]
    assert found.message == (
        'frontend "web" never gets a request for mail.test on listener "safe": frontend "mail" '
        "(f.yaml:1) passes TLS for mail.test on"
    )


def test_the_same_match_twice_is_an_error() -> None:
    catalog = Catalog()
    stage(catalog, head=HEAD, f=frontend(passthrough="true"))
    [found] = stage(catalog, more=frontend("second", passthrough="true"))
    assert "matches the same requests" in found.message


def test_no_certificate_is_missed() -> None:
    catalog = Catalog()
    assert stage(catalog, head=HEAD, f=frontend(passthrough="true")) == []


def entity(kind: str, name: str, **value: Any) -> Entity:
    return Entity(
        EntityKey(kind, name), MODELS[kind].of_value(value).value(), Provenance("a.yaml", 3, 3)
    )


@pytest.mark.parametrize(
    ("url", "won", "message"),
    [
        ("https://mail.test/", "mail", "TLS is passed on unread; shop/one serves it"),
        ("https://www.wide.test/", "wide", "TLS is passed on unread; shop/one serves it"),
        ("https://own.wide.test/api", "own", "refuses the handshake: no certificate is for own.w"),
        ("http://mail.test/", "web", "shop/one serves it"),
    ],
)
def test_explain(url: str, won: str, message: str) -> None:
    there = {"listeners": ["open", "safe"], "cluster": "shop"}
    passed = {**there, "listeners": ["safe"], "passthrough": True}
    tls = {"client_ca": None, "default_certificate": None, "profile": "intermediate"}
    state = MemoryView(
        [
            entity("settings", "settings"),
            entity("cluster", "shop"),
            entity("backend", "shop/one", address="127.0.0.1:9001"),
            entity("listener", "open", address="127.0.0.1:80"),
            entity("listener", "safe", address="127.0.0.1:443", protocol="https", tls=tls),
            entity("frontend", "web", **there),
            entity("frontend", "own", hostname="own.wide.test", path={"prefix": "/api"}, **there),
            entity("frontend", "mail", hostname="mail.test", **passed),
            entity("frontend", "wide", hostname="*.wide.test", **passed),
        ]
    )
    found = explain(ExplainRequest(url), state, ())
    assert message in found["message"]
    if "refuses" not in message:
        assert found["frontend"] is not None
        assert found["frontend"]["name"] == won
