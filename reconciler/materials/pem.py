"""Looks into PEM files before any worker does: chains, keys, dates, names.

Pure, with the `cryptography` package. Every finding is a sentence for the person who committed the
file, and none ever holds a part of a key. Called by
`reconciler.materials.completing`, `reconciler.acme.certifying` and `reconciler.reporting.expiry`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from reconciler.language.findings import Remark
from schemas.values.names import parse_hostname

EXPIRES_SOON = timedelta(days=14)
RSA_BITS_MIN = 2048
_CURVES = ("secp256r1", "secp384r1", "secp521r1")


def read_chain(content: bytes) -> list[x509.Certificate]:
    """The certificates of a PEM file. Raises `ValueError` with a sentence."""
    if b"-----BEGIN CERTIFICATE-----" not in content:
        raise ValueError("the file holds no PEM certificate")
    try:
        chain = x509.load_pem_x509_certificates(content)
        for certificate in chain:
            # These are parsed when they are asked for, which is better now than later.
            certificate.subject.rfc4514_string()
            certificate.public_key()
    except UnsupportedAlgorithm as error:
        raise ValueError(f"the certificate cannot be used in TLS: {error}") from None
    except (ValueError, x509.InvalidVersion):
        raise ValueError("the file holds a certificate that cannot be parsed") from None
    return chain


def are_swapped(certificate: bytes, private_key: bytes) -> bool:
    """Whether each of two files holds what the other one should, and not what it should itself."""
    holds_key, holds_chain = b"PRIVATE KEY-----", b"-----BEGIN CERTIFICATE-----"
    return (
        holds_key in certificate
        and holds_chain not in certificate
        and holds_chain in private_key
        and holds_key not in private_key
    )


def dns_names(certificate: x509.Certificate) -> list[str]:
    """The DNS names that a certificate is valid for, in lower case, sorted.

    What is no name that a client could ask for (`f*.example.com`, `*`) is left out.
    """
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return []
    found = names.value.get_values_for_type(x509.DNSName)
    return sorted({name for each in found if (name := _hostname(each)) is not None})


def check_chain(
    chain: list[x509.Certificate], now: datetime, served: Callable[[], bool] = bool
) -> list[Remark]:
    """What is wrong with a chain by itself: order, dates, keys that are too weak.

    One that was `served` is served on whatever its dates are, with a warning.
    """
    remarks = _check_dates(chain, now)
    if any(each.severity == "error" for each in remarks) and served():
        remarks = [_served_on(each) for each in remarks]
    for issued, issuer in pairwise(chain):
        try:
            issued.verify_directly_issued_by(issuer)
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
            subject, other = _name(issued), _name(issuer)
            message = f"the chain is out of order: {subject} was not issued by {other}"
            hint = "the leaf comes first, then who issued it, and so on"
            remarks.append(Remark("error", "certificate", message, hint))
            break
    weakness = _weakness(chain[0].public_key())
    if weakness is not None:
        remarks.append(Remark("error", "certificate", weakness))
    return remarks


def check_key(chain: list[x509.Certificate], content: bytes) -> list[Remark]:
    """Whether a file is the private key of the chain's leaf."""
    try:
        key = serialization.load_pem_private_key(content, password=None)
    except TypeError:
        hint = "decrypt it, and keep it outside of git: openssl pkey -in KEY -out PLAIN"
        return [Remark("error", "private_key", "the private key is encrypted", hint)]
    except (ValueError, UnsupportedAlgorithm):
        return [Remark("error", "private_key", "the file holds no PEM private key", _form(content))]
    try:
        same = _public_bytes(key.public_key()) == _public_bytes(chain[0].public_key())
    except (ValueError, UnsupportedAlgorithm, AttributeError):
        same = False
    if not same:
        message = f"the private key is not that of {_name(chain[0])}"
        return [Remark("error", "private_key", message, "certificate and key are made together")]
    return []


def check_names(chain: list[x509.Certificate], wanted: list[str]) -> list[Remark]:
    """Whether the leaf is valid for what it is to be served for."""
    covered = dns_names(chain[0])
    missing = [name for name in wanted if not _covers(covered, name)]
    if not missing:
        return []
    has = ", ".join(covered[:5]) or "no DNS name"
    message = f"the certificate is not valid for {', '.join(missing[:5])}: it has {has}"
    hint = "leave out of `hostnames` what it has not, or have one issued for all of them"
    return [Remark("error", "hostnames", message, hint)]


def check_authorities(content: bytes, field: str) -> list[Remark]:
    """Whether a file can say whom to trust."""
    try:
        read_chain(content)
    except ValueError as error:
        return [Remark("error", field, str(error))]
    return []


def check_revocations(content: bytes, authorities: bytes, now: datetime) -> list[Remark]:
    """Whether a file holds lists of revoked certificates, all of these authorities."""
    try:
        lists = _lists(content)
        issuers = read_chain(authorities)
    except ValueError:
        lists, issuers = [], []
    if not lists:
        message = "the file holds no list of revoked certificates in PEM"
        hint = "convert it: openssl crl -inform DER -in FILE -out FILE.pem"
        return [Remark("error", "client_crl", message, hint)]
    remarks = []
    for each in lists:
        if not any(_is_signed_by(each, issuer) for issuer in issuers):
            message = f"a list was signed by nobody in client_ca: {each.issuer.rfc4514_string()}"
            remarks.append(Remark("error", "client_crl", message))
        elif each.next_update_utc is not None and each.next_update_utc <= now:
            message = f"a newer list is due since {each.next_update_utc:%Y-%m-%d %H:%M} UTC"
            remarks.append(Remark("warning", "client_crl", message, "get it from the authority"))
    return remarks


def next_update(content: bytes) -> datetime | None:
    """When the first of some lists of revoked certificates is due. Raises `ValueError`."""
    dues = [each.next_update_utc for each in _lists(content)]
    return min((due for due in dues if due is not None), default=None)


def _lists(content: bytes) -> list[x509.CertificateRevocationList]:
    begin = b"-----BEGIN X509 CRL-----"
    return [x509.load_pem_x509_crl(begin + part) for part in content.split(begin)[1:]]


def _is_signed_by(revoked: x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
    key = issuer.public_key()
    if revoked.issuer != issuer.subject or not isinstance(
        key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey
    ):
        return False
    return revoked.is_signature_valid(key)


def not_after(chain: list[x509.Certificate]) -> datetime:
    """When the first certificate of a chain expires."""
    return min(certificate.not_valid_after_utc for certificate in chain)


def _check_dates(chain: list[x509.Certificate], now: datetime) -> list[Remark]:
    end = not_after(chain)
    start = max(certificate.not_valid_before_utc for certificate in chain)
    if end <= now:
        message = f"the certificate expired on {end:%Y-%m-%d %H:%M} UTC"
        return [Remark("error", "certificate", message, "renew it")]
    if start > now:
        message = f"the certificate is not valid before {start:%Y-%m-%d %H:%M} UTC"
        return [Remark("error", "certificate", message, "look at the clock of this machine")]
    if end - now < EXPIRES_SOON:
        days = (end - now).days
        message = f"the certificate expires on {end:%Y-%m-%d}, in {days} day{'s' * (days != 1)}"
        return [Remark("warning", "certificate", message, "renew it")]
    return []


def _served_on(remark: Remark) -> Remark:
    message = f"{remark.message}; it was served before, and is served on"
    return replace(remark, severity="warning", message=message)


def _weakness(key: object) -> str | None:
    match key:
        case rsa.RSAPublicKey() if key.key_size < RSA_BITS_MIN:
            return f"an RSA key of {key.key_size} bits is too weak: at least {RSA_BITS_MIN}"
        case rsa.RSAPublicKey() | ed25519.Ed25519PublicKey():
            return None
        case ec.EllipticCurvePublicKey() if key.curve.name in _CURVES:
            return None
        case ec.EllipticCurvePublicKey():
            return f"the curve {key.curve.name} is not supported: use P-256"
        case dsa.DSAPublicKey() | ed448.Ed448PublicKey():
            return "keys of this kind are not supported in TLS: use ECDSA P-256 or RSA"
    return "the key is of an unknown kind"


def _public_bytes(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _covers(names: list[str], wanted: str) -> bool:
    if wanted in names:
        return True
    _, _, parent = wanted.partition(".")
    return not wanted.startswith("*.") and f"*.{parent}" in names


def _name(certificate: x509.Certificate) -> str:
    text = certificate.subject.rfc4514_string() or "a certificate without a name"
    return text if len(text) <= 80 else text[:79] + "…"


def _hostname(text: str) -> str | None:
    try:
        name = parse_hostname(text)
    except ValueError:
        return None
    return None if name == "*" or name.startswith("[") else name


def _form(content: bytes) -> str | None:
    """How to mend a key that is in another form."""
    if b"-----BEGIN OPENSSH PRIVATE KEY-----" in content:
        return "convert it: ssh-keygen -p -m PKCS8 -f COPY"
    return None


def utc_now() -> datetime:
    """The moment against which dates are checked."""
    return datetime.now(UTC)
