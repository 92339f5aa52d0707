"""What is said about sets of keys: a key by its number, a way out, and nothing that is in it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from reconciler.materials import jwks
from tests.harness import tokens
from tests.harness.tokens import Signer, url64

CURVE = Signer("ES256", "one").jwk
RSA = Signer("RS256").jwk
EDWARDS = Signer("EdDSA").jwk


def said(*keys: Any) -> list[tuple[str, str]]:
    content = json.dumps({"keys": keys}).encode()
    return [(each.severity, each.message) for each in jwks.check(content, "keys")]


def edited(jwk: dict[str, str], **more: Any) -> dict[str, Any]:
    return {key: value for key, value in {**jwk, **more}.items() if value is not None}


@pytest.mark.parametrize("algorithm", ["ES256", "ES384", "ES512", "EdDSA", "RS256", "PS512"])
def test_what_is_a_key(algorithm: str) -> None:
    content = tokens.jwks(Signer(algorithm, "a"), Signer(algorithm)).encode()
    assert jwks.check(content, "keys") == []
    assert said(edited(RSA, alg=None), edited(CURVE, use=None, key_ops=["verify"], x5c=[])) == []


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (edited(CURVE, y=CURVE["x"]), 'key 1 ("one"): x and y are no point of P-256'),
        (edited(CURVE, y=None), 'key 1 ("one"): y is missing'),
        (edited(CURVE, x="AAAA"), 'key 1 ("one"): x has 3 bytes; expected 32'),
        (edited(CURVE, x="+/=="), 'key 1 ("one"): x is no base64url without padding'),
        (edited(EDWARDS, x=EDWARDS["x"] + "="), "key 1: x is no base64url without padding"),
        (edited(RSA, n=""), "key 1: n is no base64url without padding"),
        (edited(RSA, e="AA"), "key 1: n and e are no key of RSA"),
        (
            edited(EDWARDS, d=url64(b"x" * 32)),
            "key 1: it is a private key: whoever has it signs tokens; only d is too much",
        ),
    ],
)
def test_a_broken_key_is_named(key: dict[str, Any], reason: str) -> None:
    assert said(key, RSA) == [("error", reason)]


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (
            {"kty": "oct", "k": "c2VjcmV0"},
            "a secret that both sides know would sign tokens as well",
        ),
        (edited(CURVE, kid=None, use="enc"), "it is for encryption"),
        (edited(RSA, key_ops=["sign"]), "it is not for signatures"),
        (edited(RSA, alg="RS1"), '"RS1" is not used with RSA'),
        (edited(CURVE, kid=None, alg="ES512"), '"ES512" is not used with its curve'),
        (edited(EDWARDS, alg="ES256"), '"ES256" is not used with its curve'),
        (edited(EDWARDS, crv="Ed448"), 'keys of the sort "Ed448" are not known'),
        (edited(CURVE, kid=None, crv="secp256k1"), 'keys of the sort "secp256k1" are not known'),
        ({"kty": "AKP"}, 'keys of the sort "AKP" are not known'),
    ],
)
def test_a_key_for_something_else_is_passed_over(key: dict[str, Any], reason: str) -> None:
    assert said(key, CURVE) == [("warning", f"key 1 is passed over: {reason}")]
    assert said(key) == [("error", f"no key in it verifies signatures: key 1: {reason}")]


def test_a_set_of_keys_for_something_else_tells_which_and_why() -> None:
    encrypting = [edited(CURVE, kid=f"e{number}", use="enc") for number in range(9)]
    secret = {"kty": "oct", "k": "c2VjcmV0"}
    message = (
        'no key in it verifies signatures: key 1 ("e0"), key 2 ("e1"): it is for encryption; '
        "key 3: a secret that both sides know would sign tokens as well"
    )
    assert said(*encrypting[:2], secret) == [("error", message)]
    [(_, message)] = said(*encrypting)
    assert message.endswith('key 4 ("e3") and 5 more: it is for encryption')
    sorts = [{"kty": f"K{number}"} for number in range(9)]
    [(_, message)] = said(*sorts)
    assert message.endswith('key 4: keys of the sort "K3" are not known; and for 5 more reasons')
    # One that is broken would have to be mended, or left out.
    broken = edited(CURVE, y=None)
    assert said(encrypting[0], broken) == [
        ("error", 'key 2 ("one"): y is missing'),
        ("error", 'no key in it verifies signatures: key 1 ("e0"): it is for encryption'),
    ]


def test_an_issuer_may_take_all_keys_back() -> None:
    assert said() == [("warning", "there is no key in it: all tokens get 401")]


def test_keys_of_rsa_are_neither_short_nor_long() -> None:
    for bits in (1024, 4608):
        public = rsa.generate_private_key(65537, bits).public_key().public_numbers()
        n = url64(public.n.to_bytes(bits // 8))
        message = f"key 1 is passed over: it has {bits} bits; 2048 to 4096 are taken"
        assert said(edited(RSA, n=n), CURVE) == [("warning", message)]


@pytest.mark.parametrize(
    ("content", "more"),
    [
        (b"-----BEGIN PUBLIC KEY-----", ""),
        (b"[]", "; all of it is not what it should be"),
        (b'{"keys": {}}', "; keys is not what it should be"),
        (b'{"keys": [{"kid": "a"}]}', "; keys 1 kty is not what it should be"),
        (b'{"keys": [{"kty": "EC", "kty": "oct"}]}', ""),
        (b"[" * 100_000, ""),
        (b"\xff", ""),
    ],
)
def test_what_is_no_set_is_none(content: bytes, more: str) -> None:
    [remark] = jwks.check(content, "keys")
    assert (
        remark.message
        == f'it is no set of keys (JWKS): expected {{"keys": [{{"kty": "EC", …}}]}}{more}'
    )


def test_two_of_one_name_and_too_many() -> None:
    again = Signer("ES256", "one").jwk
    assert said(CURVE, again) == [("error", 'key 2 ("one"): another one for ES256 has its name')]
    assert said(*[EDWARDS] * 101) == [("error", "there are 101 keys; at most 100")]
    many = said(*[edited(CURVE, x="AA")] * 9)
    assert many[-1] == ("error", "and 5 more is said of its keys")
    assert len(many) == 6
