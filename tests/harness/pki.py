"""Certificates for tests, made anew in each session with the `cryptography` package."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from reconciler.errors import UnreadableError

_BOTH_SIDES = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its private key. `chain` is the PEM file that a server has."""

    certificate: x509.Certificate
    private_key: Key
    chain: bytes
    key: bytes

    @property
    def der(self) -> bytes:
        """The certificate as a client sees it."""
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def pem(self) -> bytes:
        """The certificate alone."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)


def make(
    *names: str,
    kind: str = "ecdsa",
    issuer: Pair | None = None,
    is_ca: bool = False,
    days: float = 90,
    starts_in_days: float = -1,
    bits: int = 2048,
    usages: Sequence[x509.ObjectIdentifier] = _BOTH_SIDES,
    subject: x509.Name | None = None,
    also: Sequence[x509.GeneralName] = (),
) -> Pair:
    """Make a certificate for some names (or IP addresses), self-signed without an issuer.

    `also` are alternative names as they are, whatever they look like.
    """
    key: Key = (
        ec.generate_private_key(ec.SECP256R1())
        if kind == "ecdsa"
        else rsa.generate_private_key(65537, bits)
    )
    subject = subject or x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days=starts_in_days))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
    )
    if is_ca:
        usage = x509.KeyUsage(
            digital_signature=True,
            key_cert_sign=True,
            crl_sign=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )
        builder = builder.add_extension(usage, critical=True)
    else:
        alternatives = x509.SubjectAlternativeName([*map(_general_name, names), *also])
        builder = builder.add_extension(alternatives, critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    builder = builder.add_extension(
        x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
    )
    if issuer is not None:
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.private_key.public_key()),
            critical=False,
        )
    certificate = builder.sign(issuer.private_key if issuer else key, hashes.SHA256())
    own = certificate.public_bytes(serialization.Encoding.PEM)
    return Pair(certificate, key, own + (issuer.chain if issuer else b""), private_pem(key))


def revocations(issuer: Pair, *revoked: Pair, days: float = 30) -> bytes:
    """An authority's list of revoked certificates, as a PEM file."""
    now = datetime.now(UTC)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(now - timedelta(days=1))
        .next_update(now + timedelta(days=days))
        .add_extension(x509.CRLNumber(1), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.private_key.public_key()),
            critical=False,
        )
    )
    for pair in revoked:
        builder = builder.add_revoked_certificate(
            x509.RevokedCertificateBuilder()
            .serial_number(pair.certificate.serial_number)
            .revocation_date(now - timedelta(hours=1))
            .build()
        )
    signed = builder.sign(issuer.private_key, hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM)


def ocsp_response(
    pair: Pair,
    issuer: Pair,
    *,
    signer: Pair | None = None,
    revoked: bool = False,
    starts_in_days: float = -1,
    days: float | None = 7,
) -> bytes:
    """What an authority says of a certificate that it issued, in DER."""
    now = datetime.now(UTC)
    by = signer or issuer
    builder = (
        ocsp.OCSPResponseBuilder()
        .add_response(
            pair.certificate,
            issuer.certificate,
            hashes.SHA1(),
            ocsp.OCSPCertStatus.REVOKED if revoked else ocsp.OCSPCertStatus.GOOD,
            now + timedelta(days=starts_in_days),
            None if days is None else now + timedelta(days=days),
            now - timedelta(days=2) if revoked else None,
            None,
        )
        .responder_id(ocsp.OCSPResponderEncoding.HASH, by.certificate)
    )
    if signer is not None:
        builder = builder.certificates([signer.certificate])
    signed = builder.sign(by.private_key, hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.DER)


def private_pem(key: Key, password: bytes | None = None) -> bytes:
    """A private key as a PEM file."""
    encryption: serialization.KeySerializationEncryption = (
        serialization.BestAvailableEncryption(password)
        if password
        else serialization.NoEncryption()
    )
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )


@cache
def sample() -> Pair:
    """One that tests share which only need any."""
    return make("shop.example.com", "*.example.com")


def sample_file(path: str) -> bytes:
    """Stands for the files that samples of configurations name. Raises `UnreadableError`."""
    if path.endswith((".key", ".key.age")):
        return sample().key
    if path.endswith(".crl.pem"):
        return revocations(sample())
    if path.endswith((".crt", ".pem")):
        return sample().chain
    if path.endswith(".htpasswd"):
        return b"user:$6$abcdefgh$" + b"a" * 86 + b"\n"
    raise UnreadableError("the file is not there")


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
