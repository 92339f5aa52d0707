"""Frontends over TLS whose hostname no certificate has: warned of, wherever the gap comes from."""

from __future__ import annotations

from typing import Any

from reconciler.catalog.relations import wildcard_of
from schemas.entities.diagnostic import Diagnostic
from tests.harness import pki
from tests.harness.pki import sample_file
from tests.reconciler.catalog.configuration import Catalog

HEAD = """\
listeners:
  open: {address: "127.0.0.1:8080"}
  safe: {address: "127.0.0.1:8443", protocol: https%s}
clusters: {shop: {backends: {one: {address: "127.0.0.1:9001"}}}}
"""


def head(tls: str = "") -> bytes:
    return (HEAD % (f", tls: {{{tls}}}" if tls else "")).encode()


def frontends(*hostnames: str, listeners: str = "safe") -> bytes:
    lines = [
        f'  f{number}: {{hostname: "{name}", listeners: [{listeners}], cluster: shop}}\n'
        for number, name in enumerate(hostnames)
    ]
    return ("frontends:\n" + "".join(lines)).encode()


def certificates(**names: list[str]) -> bytes:
    lines = [
        f"  {name}: {{certificate: a.crt, private_key: a.key, hostnames: {each}}}\n"
        for name, each in names.items()
    ]
    return ("certificates:\n" + "".join(lines)).encode() if names else b""


def stage(catalog: Catalog, **files: bytes | None) -> list[Diagnostic]:
    """The warnings of a change, which is accepted."""
    named = {f"{name}.yaml": content for name, content in files.items()}
    candidate = catalog.stage(named, sample_file)
    assert candidate.ok, candidate.diagnostics
    catalog.accept(candidate)
    return list(candidate.warnings)


def begun(*hostnames: str, tls: str = "", **more: Any) -> tuple[Catalog, list[Diagnostic]]:
    catalog = Catalog()
    warnings = stage(
        catalog,
        head=head(tls),
        certificates=certificates(shop=["shop.example.com"]),
        frontends=frontends("shop.example.com", *hostnames, **more),
    )
    return catalog, [each for each in warnings if "no certificate" in each.message]


def test_a_hostname_without_certificate_with_its_place() -> None:
    _, (warning,) = begun("other.test")
    assert (warning.file, warning.line, warning.column) == ("frontends.yaml", 3, 18)
    assert warning.message == (
        'frontend "f1": no certificate is for other.test: listener "safe" refuses the handshakes'
    )
    assert warning.hint is not None


def test_each_of_several_hostnames_needs_one() -> None:
    catalog = Catalog()
    several = b"frontends:\n  f: {hostnames: [a.test, shop.example.com, b.test], "
    warnings = stage(
        catalog,
        head=head(),
        certificates=certificates(shop=["shop.example.com"]),
        frontends=several + b"listeners: [safe], cluster: shop}\n",
    )
    (warning,) = [each for each in warnings if "no certificate" in each.message]
    assert "no certificate is for a.test, b.test:" in warning.message
    assert (warning.line, warning.column) == (2, 19)
    (warning,) = stage(catalog, certificates=certificates(shop=["new.example.com"]))
    assert "no certificate is for a.test, b.test, shop.example.com:" in warning.message


def test_what_the_default_certificate_comes_to() -> None:
    _, (warning,) = begun("other.test", tls="default_certificate: shop")
    assert 'listener "safe" shows "shop" instead' in warning.message


def test_what_needs_no_certificate() -> None:
    assert begun("*", "[::1]")[1] == []
    assert begun("other.test", listeners="open")[1] == []


def test_a_certificate_that_goes_is_missed() -> None:
    catalog, before = begun()
    assert before == []
    warnings = stage(catalog, certificates=certificates(shop=["new.example.com"]))
    assert [(each.file, each.line) for each in warnings] == [("frontends.yaml", 2)]
    assert "no certificate is for shop.example.com" in warnings[0].message
    assert stage(catalog, certificates=certificates(shop=["*.example.com"])) == []


def test_wildcards_have_one_label() -> None:
    catalog = Catalog()
    warnings = stage(
        catalog,
        head=head(),
        certificates=certificates(shop=["*.example.com"]),
        frontends=frontends(
            "a.example.com", "*.example.com", "a.b.example.com", "example.com", "*.b.example.com"
        ),
    )
    uncovered = [each for each in warnings if "no certificate is for" in each.message]
    assert [each.line for each in uncovered] == [4, 5, 6]
    (warning,) = stage(catalog, certificates=certificates(shop=["a.example.com"]))
    assert "no certificate is for *.example.com" in warning.message


def test_a_listener_that_begins_to_speak_tls_concerns_its_frontends() -> None:
    catalog, before = begun("other.test", listeners="open")
    assert before == []
    speaking = head().replace(b'"127.0.0.1:8080"', b'"127.0.0.1:8080", protocol: https')
    (warning,) = stage(catalog, head=speaking)
    assert 'frontend "f1"' in warning.message
    again = speaking.replace(b"8080", b"8081")
    assert stage(catalog, head=again) == [], "nothing of it has changed"


def test_tls_without_any_certificate_and_certificates_without_tls() -> None:
    catalog = Catalog()
    (warning,) = stage(catalog, head=head(), frontends=frontends("a.test", listeners="open, safe"))
    assert warning.message == (
        'listener "safe": there is no certificate, so that every handshake is refused'
    )
    plain = head().replace(b", protocol: https", b"")
    warnings = stage(catalog, head=plain, certificates=certificates(shop=["shop.example.com"]))
    assert [each.message for each in warnings] == [
        'no listener has protocol https to serve certificate "shop"'
    ]


def test_a_certificate_that_expires_soon_hides_no_other_warning() -> None:
    """A remark about a file is no error: what is between entities is looked at all the same."""
    soon = pki.make("shop.example.com", days=5)
    files = {"a.crt": soon.chain, "a.key": soon.key}
    catalog = Catalog()
    named = {
        "head.yaml": head(),
        "certificates.yaml": certificates(shop=["shop.example.com"]),
        "frontends.yaml": frontends("other.test"),
    }
    texts = [each.message for each in catalog.stage(named, files.__getitem__).diagnostics]
    assert any("expires on" in text for text in texts)
    assert any("no certificate is for other.test" in text for text in texts)


def test_a_certificate_with_an_error_may_have_the_names_that_are_missing() -> None:
    pair, other = pki.make("shop.example.com"), pki.make("shop.example.com")
    files = {"a.crt": pair.chain, "a.key": other.key}
    named = {
        "head.yaml": head(),
        "certificates.yaml": certificates(shop=["shop.example.com"]),
        "frontends.yaml": frontends("shop.example.com"),
    }
    texts = [each.message for each in Catalog().stage(named, files.__getitem__).diagnostics]
    assert any("the private key is not that of" in text for text in texts)
    assert [text for text in texts if "there is no certificate" in text or " is for " in text] == []


def test_the_wildcard_of_a_name() -> None:
    assert wildcard_of("a.b.test") == "*.b.test"
    assert wildcard_of("*.b.test") is None
    assert wildcard_of("test") is None
