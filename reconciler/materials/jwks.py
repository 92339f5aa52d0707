"""Looks into sets of keys (RFC 7517) by which the signatures of tokens are known.

The engine takes what is taken here (`proxy/engine/src/policy/guards/jwt/keys.rs`): keys of other
sorts are passed over and told, a key that is broken is an error. What is said names a key by number
and name, and never what is in it. Called by `completing`, and by `reconciler.issuers` of what was
fetched.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from reconciler.language.findings import Remark
from schemas.base import shown

KEYS_MAX = 100
RSA_BITS = range(2048, 4097)
_RSA_EXPONENT_BITS_MAX = 33
_TOLD_MAX = 5
_REASONS_MAX = 4
_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVES = {"P-256": ("ES256", 32), "P-384": ("ES384", 48), "P-521": ("ES512", 66)}
_EDWARDS = ("EdDSA", "Ed25519")
_SETS = 'it is no set of keys (JWKS): expected {"keys": [{"kty": "EC", …}]}'
_MAKES_ONE = "what the issuer has at its jwks_uri is one; another form has to be turned into it"


class Jwk(BaseModel):
    """A key as it is written; what else is said of it does not matter."""

    model_config = ConfigDict(strict=True, extra="ignore")

    kty: str
    alg: str | None = None
    crv: str | None = None
    d: object = None
    e: str | None = None
    key_ops: list[str] | None = None
    kid: str | None = None
    n: str | None = None
    usage: str | None = Field(default=None, alias="use")
    x: str | None = None
    y: str | None = None


class Jwks(BaseModel):
    """A set of keys."""

    model_config = ConfigDict(strict=True, extra="ignore")

    keys: list[Jwk]


class _KeyError(ValueError):
    """A key that is broken; its text is a sentence."""


def check(content: bytes, field: str) -> list[Remark]:
    """Return what is to be said about a set of keys."""
    remarks = list(_remarks(content, field))
    if len(remarks) > _TOLD_MAX:
        more = len(remarks) - _TOLD_MAX
        worst = min(each.severity for each in remarks)
        told = sorted(remarks, key=lambda each: each.severity)[:_TOLD_MAX]
        return [*told, Remark(worst, field, f"and {more} more is said of its keys")]
    return remarks


def is_empty(content: bytes) -> bool:
    """Say whether it is a set without a key, by which an issuer takes all of them back."""
    try:
        return not Jwks.model_validate(json.loads(content)).keys
    except (ValueError, RecursionError):
        return False


def _remarks(content: bytes, field: str) -> Iterator[Remark]:
    try:
        found = Jwks.model_validate(json.loads(content, object_pairs_hook=_each_once))
    except ValidationError as error:
        yield Remark("error", field, f"{_SETS}; {_place(error)}", _MAKES_ONE)
        return
    except (ValueError, RecursionError):
        yield Remark("error", field, _SETS, _MAKES_ONE)
        return
    usable: set[tuple[str, str | None]] = set()
    passed_over: dict[str, list[str]] = {}
    for number, key in enumerate(found.keys, 1):
        name = f"key {number}" + (f" ({shown(key.kid)})" if key.kid is not None else "")
        try:
            reason, algorithm = _look_into(key)
        except _KeyError as error:
            yield Remark("error", field, f"{name}: {error}")
            continue
        if reason is not None:
            passed_over.setdefault(reason, []).append(name)
            continue
        if key.kid is not None and (algorithm, key.kid) in usable:
            yield Remark("error", field, f"{name}: another one for {algorithm} has its name")
        usable.add((algorithm, key.kid))
    if not found.keys:
        # RFC 7517 §5: an issuer has no other way to take all of them back.
        yield Remark("warning", field, "there is no key in it: all tokens get 401")
    elif not usable:
        yield Remark("error", field, _none_of(passed_over), _MAKES_ONE)
    else:
        for reason, names in passed_over.items():
            for name in names:
                yield Remark("warning", field, f"{name} is passed over: {reason}")
    if len(found.keys) > KEYS_MAX:
        yield Remark("error", field, f"there are {len(found.keys)} keys; at most {KEYS_MAX}")


def _none_of(passed_over: dict[str, list[str]]) -> str:
    """Say that no key is of use, and why each is not: an issuer may have several sets."""
    told = []
    for reason, names in list(passed_over.items())[:_REASONS_MAX]:
        more = f" and {len(names) - _REASONS_MAX} more" if len(names) > _REASONS_MAX else ""
        told.append(f"{', '.join(names[:_REASONS_MAX])}{more}: {reason}")
    if len(passed_over) > _REASONS_MAX:
        told.append(f"and for {len(passed_over) - _REASONS_MAX} more reasons")
    return ": ".join(filter(None, ("no key in it verifies signatures", "; ".join(told))))


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a member is there twice")
    return found


def _place(error: ValidationError) -> str:
    first = error.errors(include_input=False, include_url=False)[0]
    way = [str(step + 1) if isinstance(step, int) else str(step) for step in first["loc"]]
    return f"{' '.join(way) or 'all of it'} is not what it should be"


def _look_into(key: Jwk) -> tuple[str | None, str]:
    """Return why a key is passed over, if it is, and the algorithm that it is used with.

    Raises `_KeyError`.
    """
    if key.d is not None:
        raise _KeyError("it is a private key: whoever has it signs tokens; only d is too much")
    if key.kty == "oct":
        return "a secret that both sides know would sign tokens as well", ""
    if key.usage == "enc":
        return "it is for encryption", ""
    if key.usage not in (None, "sig") or "verify" not in (key.key_ops or ["verify"]):
        return "it is not for signatures", ""
    match key.kty:
        case "RSA":
            return _look_into_rsa(key)
        case "EC" if key.crv in _CURVES:
            return _look_into_curve(key, *_CURVES[key.crv])
        case "OKP" if key.crv == "Ed25519":
            if key.alg not in (None, *_EDWARDS):
                return f"{shown(key.alg)} is not used with its curve", ""
            _bytes("x", key.x, 32)
            return None, _EDWARDS[0]
    return f"keys of the sort {shown(key.crv or key.kty)} are not known", ""


def _look_into_rsa(key: Jwk) -> tuple[str | None, str]:
    from cryptography.hazmat.primitives.asymmetric import rsa  # noqa: PLC0415  # 50 ms

    algorithm = key.alg or _RSA[0]
    if algorithm not in _RSA:
        return f"{shown(algorithm)} is not used with RSA", ""
    modulus, exponent = (int.from_bytes(_bytes(*each)) for each in (("n", key.n), ("e", key.e)))
    if modulus.bit_length() not in RSA_BITS:
        bounds = f"{RSA_BITS.start} to {RSA_BITS.stop - 1}"
        return f"it has {modulus.bit_length()} bits; {bounds} are taken", ""
    try:
        rsa.RSAPublicNumbers(exponent, modulus).public_key()
    except ValueError:
        exponent = 0
    if not 3 <= exponent < 1 << _RSA_EXPONENT_BITS_MAX:
        raise _KeyError("n and e are no key of RSA")
    return None, algorithm


def _look_into_curve(key: Jwk, algorithm: str, length: int) -> tuple[str | None, str]:
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415  # 50 ms

    if key.alg not in (None, algorithm):
        return f"{shown(key.alg)} is not used with its curve", ""
    curves: dict[str, ec.EllipticCurve] = {
        "ES256": ec.SECP256R1(),
        "ES384": ec.SECP384R1(),
        "ES512": ec.SECP521R1(),
    }
    point = b"\4" + _bytes("x", key.x, length) + _bytes("y", key.y, length)
    try:
        ec.EllipticCurvePublicKey.from_encoded_point(curves[algorithm], point)
    except ValueError:
        raise _KeyError(f"x and y are no point of {key.crv}") from None
    return None, algorithm


def _bytes(member: str, text: str | None, length: int | None = None) -> bytes:
    if text is None:
        raise _KeyError(f"{member} is missing")
    try:
        found = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        found = b""
    if base64.urlsafe_b64encode(found).rstrip(b"=") != text.encode() or not found:
        raise _KeyError(f"{member} is no base64url without padding")
    if length is not None and len(found) != length:
        raise _KeyError(f"{member} has {len(found)} bytes; expected {length}")
    return found
