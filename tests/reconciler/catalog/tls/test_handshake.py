"""Which certificate is said to be shown, and that workers really show it."""

from __future__ import annotations

import random
import ssl
from pathlib import Path
from socket import create_connection
from typing import Any

from reconciler.catalog.tls.handshake import certificates_for
from reconciler.catalog.views import MemoryView
from reconciler.reporting.explaining.explain import explain
from schemas.entities.entity import Entity, EntityKey, Provenance
from schemas.kinds.registry import MODELS
from schemas.messages.control import ExplainRequest
from schemas.messages.results import ExplainResult
from tests.harness import pki
from tests.harness.ports import address, split
from tests.reconciler.live import shop

NAMES = {
    "exact": ["shop.test"],
    "wide": ["*.shop.test", "shop.test"],
    "near": ["a.shop.test"],
    "other": ["*.a.shop.test"],
}
HOSTS = ["shop.test", "a.shop.test", "b.shop.test", "b.a.shop.test", "c.b.shop.test", "x.test"]


def entity(kind: str, name: str, **value: Any) -> Entity:
    return Entity(
        EntityKey(kind, name), MODELS[kind].of_value(value).value(), Provenance("tls.yaml", 3, 3)
    )


def certificate(name: str, hostnames: list[str]) -> Entity:
    file = {"path": f"{name}.pem", "sha256": "0" * 64}
    value = {"certificate": file, "hostnames": list(hostnames), "private_key": file}
    return Entity(EntityKey("certificate", name), value, Provenance("tls.yaml", 9, 3))


def listener(default: str | None = None, name: str = "safe", port: int = 8443) -> Entity:
    tls = {"client_ca": None, "default_certificate": default, "profile": "intermediate"}
    return entity("listener", name, address=f"127.0.0.1:{port}", protocol="https", tls=tls)


def state(*more: Entity) -> MemoryView:
    return MemoryView(
        [
            entity("settings", "settings"),
            entity("cluster", "shop"),
            entity("backend", "shop/one", address="127.0.0.1:9001"),
            entity("listener", "open", address="127.0.0.1:8080"),
            entity("frontend", "web", listeners=["open", "safe"], cluster="shop"),
            *(certificate(name, hostnames) for name, hostnames in NAMES.items()),
            *more,
        ]
    )


def shown(hostname: str, default: str | None = None) -> tuple[list[str], str]:
    secure = listener(default)
    found = certificates_for(hostname, secure, state(secure))
    return [each.key.name for each in found.certificates], found.reason


def asked(url: str, *listeners: Entity) -> ExplainResult:
    return explain(ExplainRequest(url), state(*listeners), [])


def test_the_choice() -> None:
    assert shown("a.shop.test") == (["near"], "for a.shop.test")
    assert shown("b.shop.test") == (["wide"], "for *.shop.test")
    assert shown("shop.test") == (["exact", "wide"], "for shop.test, by what the client can verify")
    assert shown("b.a.shop.test") == (["other"], "for *.a.shop.test")
    assert shown("x.test") == ([], "no certificate is for x.test")
    assert shown("x.test", "near") == (["near"], "the default: no certificate is for x.test")
    assert shown("127.0.0.1", "near") == (["near"], "the default: the client names no host")
    assert shown("::1") == ([], "no certificate is for ::1")
    assert shown("test", "near")[0] == ["near"]


def test_a_url_over_tls() -> None:
    result = asked("https://a.shop.test:8443/", listener())
    (safe,) = result["listeners"]
    assert (safe["protocol"], safe["handshake"]) == ("https", "for a.shop.test")
    assert safe["certificates"] == [{"name": "near", "source": {"file": "tls.yaml", "line": 9}}]
    assert result["frontend"] is not None
    assert result["message"] == "shop/one serves it"


def test_a_host_header_does_not_change_the_handshake() -> None:
    request = ExplainRequest("https://a.shop.test:8443/", headers=[["Host", "x.test"]])
    (safe,) = explain(request, state(listener()), [])["listeners"]
    assert [each["name"] for each in safe["certificates"]] == ["near"]


def test_a_refused_handshake_reaches_no_frontend() -> None:
    result = asked("https://x.test:8443/", listener())
    assert (result["frontend"], result["status"], result["lost"]) == (None, None, [])
    assert result["message"] == (
        'listener "safe" refuses the handshake: no certificate is for x.test'
    )
    both = asked("https://x.test:8443/", listener(), listener("near", name="well"))
    assert both["frontend"] is None, "the frontend is not on the other one"
    assert both["message"].startswith('listener "safe" refuses the handshake')


def test_a_url_in_the_other_protocol() -> None:
    secure = listener()
    assert asked("http://a.shop.test:8443/", secure)["message"] == (
        'listener "safe" on port 8443 speaks https, not http'
    )
    assert asked("https://a.shop.test:8080/", secure)["message"] == (
        'listener "open" on port 8080 speaks http, not https'
    )
    assert asked("a.shop.test:8443/", secure)["frontend"] is not None, "no scheme: any"


def test_a_url_without_port() -> None:
    secure = listener()
    result = asked("https://a.shop.test/", secure)
    assert [each["name"] for each in result["listeners"]] == ["safe"]
    assert result["message"].startswith("no listener on port 443, so all listeners are looked at")
    (only,) = asked("https://a.shop.test/", secure, listener(name="standard", port=443))[
        "listeners"
    ]
    assert only["name"] == "standard"


def test_workers_show_what_is_explained(tmp_path: Path) -> None:
    dice = random.Random(3)
    safe = address()
    with shop(tmp_path, workers=1) as running:
        running.repo.write(
            {
                f"{name}.{suffix}": content.decode()
                for name, names in NAMES.items()
                for pair in (pki.make(*names),)
                for suffix, content in (("crt", pair.chain), ("key", pair.key))
            }
        )
        for default in (None, "near"):
            tls = {"default_certificate": default}
            running.daemon.commit(
                {
                    "tls.yaml": {
                        "listeners": {"safe": {"address": safe, "protocol": "https", "tls": tls}},
                        "certificates": {
                            name: {"certificate": f"{name}.crt", "private_key": f"{name}.key"}
                            for name in NAMES
                        },
                    }
                }
            )
            chains = {
                ssl.PEM_cert_to_DER_cert((running.repo.directory / f"{name}.crt").read_text()): name
                for name in NAMES
            }
            for host in dice.sample(HOSTS, len(HOSTS)):
                (found,) = running.daemon.json("explain", f"https://{host}:{split(safe)[1]}/")[
                    "listeners"
                ]
                names = [each["name"] for each in found["certificates"]]
                # Two for one name are of the same kind here: then the first by name is shown.
                assert handshake(safe, host, chains) == (names[0] if names else None), host


def handshake(where: str, host: str, chains: dict[bytes, str]) -> str | None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            create_connection(split(where), 10) as plain,
            context.wrap_socket(plain, server_hostname=host) as secure,
        ):
            return chains[secure.getpeercert(binary_form=True) or b""]
    except ssl.SSLError as error:
        assert "unrecognized name" in str(error), "it is refused in the words of TLS"
        return None
