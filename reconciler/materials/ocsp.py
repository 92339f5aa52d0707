"""Looks into OCSP responses (RFC 6960) before they are stapled: whose, what they say, until when.

Pure, with the `cryptography` package. Called by `reconciler.materials.completing`.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID

from reconciler.language.findings import Remark

_WITHOUT_END = timedelta(days=7)
"""How long a response counts that does not say when there will be a newer one."""

Found = tuple[int, list[Remark]]
"""The Unix time until which a response may be stapled, and what there is to say."""


def check(content: bytes, chain: list[x509.Certificate], now: datetime) -> Found:
    """Look whether a response is good news of the leaf, by its issuer."""
    try:
        response = ocsp.load_der_ocsp_response(content)
        if response.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
            name = response.response_status.name.lower()
            return 0, [_error(f"the responder had no answer: {name}", "ask it again")]
        return _check(response, chain, now)
    except (ValueError, UnsupportedAlgorithm):
        hint = "get one: openssl ocsp -issuer CA -cert LEAF -url URL -respout FILE"
        return 0, [_error("the file holds no OCSP response in DER", hint)]


def _check(response: ocsp.OCSPResponse, chain: list[x509.Certificate], now: datetime) -> Found:
    leaf = chain[0]
    issuer = _issuer(response, chain)
    if response.serial_number != leaf.serial_number:
        return 0, [_error("the OCSP response is about another certificate", "ask for this one")]
    if issuer is None:
        hint = "the chain must hold the certificate of the issuer"
        return 0, [_error("the OCSP response was not signed for the issuer of the leaf", hint)]
    if response.certificate_status is not ocsp.OCSPCertStatus.GOOD:
        name = response.certificate_status.name.lower()
        return 0, [_error(f"the issuer calls the certificate {name}", "get another certificate")]
    if response.this_update_utc > now:
        message = f"the OCSP response is of {response.this_update_utc:%Y-%m-%d %H:%M} UTC"
        return 0, [_error(message, "look at the clock of this machine")]
    end = response.next_update_utc or response.this_update_utc + _WITHOUT_END
    remarks = []
    if end <= now:
        message = f"the OCSP response is outdated since {end:%Y-%m-%d %H:%M} UTC: it is not stapled"
        remarks.append(Remark("warning", "ocsp", message, "get a newer one"))
    return int(end.timestamp()), remarks


def _issuer(response: ocsp.OCSPResponse, chain: list[x509.Certificate]) -> x509.Certificate | None:
    """Return who issued the leaf, if the response is signed by it or by whom it chose for that."""
    issuer = chain[1] if len(chain) > 1 else chain[0]
    for signer in (issuer, *response.certificates):
        if signer is not issuer and not _may_sign(signer, issuer):
            continue
        if _is_signed_by(response, signer):
            return issuer
    return None


def _may_sign(signer: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether a responder has the issuer's leave (RFC 6960 §4.2.2.2)."""
    try:
        signer.verify_directly_issued_by(issuer)
        usage = signer.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm, x509.ExtensionNotFound):
        return False
    return ExtendedKeyUsageOID.OCSP_SIGNING in usage.value


def _is_signed_by(response: ocsp.OCSPResponse, signer: x509.Certificate) -> bool:
    key, algorithm = signer.public_key(), response.signature_hash_algorithm
    signature, signed = response.signature, response.tbs_response_bytes
    try:
        if isinstance(key, rsa.RSAPublicKey) and isinstance(algorithm, hashes.HashAlgorithm):
            key.verify(signature, signed, padding.PKCS1v15(), algorithm)
        elif isinstance(key, ec.EllipticCurvePublicKey) and algorithm is not None:
            key.verify(signature, signed, ec.ECDSA(algorithm))
        else:
            return False
    except InvalidSignature:
        return False
    return True


def _error(message: str, hint: str) -> Remark:
    return Remark("error", "ocsp", message, hint)
