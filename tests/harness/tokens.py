"""An issuer of tokens: keys of every sort, the set of them as a JWKS, and what they sign."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils

Claims = Mapping[str, Any]

_HASHES: dict[str, hashes.HashAlgorithm] = {
    "256": hashes.SHA256(),
    "384": hashes.SHA384(),
    "512": hashes.SHA512(),
}
_CURVES: dict[str, tuple[ec.EllipticCurve, str, int]] = {
    "ES256": (ec.SECP256R1(), "P-256", 32),
    "ES384": (ec.SECP384R1(), "P-384", 48),
    "ES512": (ec.SECP521R1(), "P-521", 66),
}


def url64(content: bytes) -> str:
    """Return bytes as JOSE writes them."""
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _number(value: int) -> str:
    return url64(value.to_bytes((value.bit_length() + 7) // 8))


class Signer:
    """A key of an issuer: made when it is needed, since each process of tests reads all modules."""

    def __init__(self, algorithm: str, kid: str | None = None) -> None:
        self.algorithm, self.kid = algorithm, kid

    @cached_property
    def key(self) -> ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey:
        """The private half."""
        if self.algorithm in _CURVES:
            return ec.generate_private_key(_CURVES[self.algorithm][0])
        if self.algorithm == "EdDSA":
            return ed25519.Ed25519PrivateKey.generate()
        return rsa.generate_private_key(65537, 2048)

    @property
    def jwk(self) -> dict[str, str]:
        """The public half."""
        public = self.key.public_key()
        found = {"use": "sig"} | ({"kid": self.kid} if self.kid is not None else {})
        if isinstance(public, rsa.RSAPublicKey):
            numbers = public.public_numbers()
            given = {"kty": "RSA", "alg": self.algorithm, "n": _number(numbers.n)}
            return found | given | {"e": _number(numbers.e)}
        if isinstance(public, ed25519.Ed25519PublicKey):
            return found | {"kty": "OKP", "crv": "Ed25519", "x": url64(public.public_bytes_raw())}
        _, curve, length = _CURVES[self.algorithm]
        point = public.public_numbers()
        x, y = url64(point.x.to_bytes(length)), url64(point.y.to_bytes(length))
        return found | {"kty": "EC", "crv": curve, "x": x, "y": y}

    def sign(self, text: bytes) -> bytes:
        """Return the signature of a text."""
        if isinstance(self.key, ed25519.Ed25519PrivateKey):
            return self.key.sign(text)
        digest = _HASHES[self.algorithm[2:]]
        if isinstance(self.key, ec.EllipticCurvePrivateKey):
            r, s = utils.decode_dss_signature(self.key.sign(text, ec.ECDSA(digest)))
            length = _CURVES[self.algorithm][2]
            return r.to_bytes(length) + s.to_bytes(length)
        if self.algorithm.startswith("PS"):
            pss = padding.PSS(padding.MGF1(digest), padding.PSS.DIGEST_LENGTH)
            return self.key.sign(text, pss, digest)
        return self.key.sign(text, padding.PKCS1v15(), digest)

    def token(self, claims: Claims | str, **header: Any) -> str:
        """Return a token; what `header` says goes before what it says otherwise."""
        kid = {"kid": self.kid} if self.kid is not None else {}
        full = {"alg": self.algorithm, **kid, **header}
        return signed(full, claims, self.sign)


def signed(header: Mapping[str, Any], claims: Claims | str, sign: Any) -> str:
    """Return a token with a signature of whatever sort."""
    text = claims if isinstance(claims, str) else json.dumps(claims)
    start = f"{url64(json.dumps(header).encode())}.{url64(text.encode())}"
    return f"{start}.{url64(sign(start.encode()))}"


def by_secret(header: Mapping[str, Any], claims: Claims, secret: bytes) -> str:
    """Return a token that is signed by a shared secret."""
    return signed(header, claims, lambda text: hmac.digest(secret, text, hashlib.sha256))


def jwks(*signers: Signer) -> str:
    """Return a set of keys."""
    return json.dumps({"keys": [each.jwk for each in signers]})
