"""What is said of tokens: forms that are one value, and what does not fit together."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from schemas.kinds.policy import Policy
from schemas.policies.jwt import Jwt, KeySet

BASE: dict[str, Any] = {"issuer": "https://id.test/", "audiences": ["shop"], "keys": "keys.json"}


def made(**more: Any) -> Jwt:
    found = Policy.model_validate({"jwt": BASE | more}).jwt
    assert found is not None
    return found


def test_two_forms_are_one_value() -> None:
    assert made(audiences="shop") == made()
    assert made(claims={"role": "b"}) == made(claims={"role": ["b", "b"]})
    assert made(scopes="b") == made(scopes=["b"])
    assert made(**{"from": {"header": "X-Token"}}).token_field == "x-token"
    assert made(**{"from": {"cookie": "s"}}).token_field is None
    assert made().value() == {
        "audiences": ["shop"],
        "issuer": "https://id.test/",
        "keys": {"path": "keys.json"},
    }


def test_keys_are_a_file_or_a_url() -> None:
    assert made().keys == KeySet(path="keys.json")
    assert made(keys="https://id.test:8443/k?v=1").keys == KeySet(url="https://id.test:8443/k?v=1")
    assert made(keys="https://id.test/k", ca="/ca.pem").ca == "/ca.pem"
    for host in ("ID.Test", "id_1.test.", "[2001:db8::1]:8443", "127.0.0.1", "localhost"):
        assert made(keys=f"https://{host}/k").keys.url == f"https://{host}/k"


def test_what_is_no_address_is_told_like_what_is_no_url() -> None:
    with pytest.raises(ValidationError, match=r'expected a URL like "https://id\.example\.com'):
        made(keys="https://[:::]/k")


@pytest.mark.parametrize(
    "more",
    [
        {"keys": "http://id.test/k"},
        {"keys": "https:///k"},
        {"keys": "https://id.test:port/k"},
        {"keys": "https://id.test:0/k"},
        {"keys": "https://a@id.test/k"},
        {"keys": "https://id.test/k#f"},
        {"keys": "https://id.test/a b"},
        {"keys": "https://id.test/" + "k" * 2048},
        {"keys": "https://id..test/k"},
        {"keys": "https://.test/k"},
        {"keys": "https://i%64.test/k"},
        {"keys": f"https://{'i' * 64}.test/k"},
        {"keys": f"https://{'i.' * 126}test/k"},
        {"keys": "https://[fe80::1%25eth0]/k"},
        {"keys": "file:///k"},
        {"keys": "../keys.json"},
        {"keys": ["keys.json"]},
        {"ca": "/ca.pem"},
        {"keys": "https://id.test/k", "ca": "ca.pem"},
        {"issuer": ""},
        {"issuer": None},
        {"audiences": None},
        {"audiences": [1]},
        {"claims": {"role": []}},
        {"scopes": ['a"b']},
        {"leeway": "11m"},
        {"leeway": 60},
        {"realm": 'a"b'},
        {"headers": {"X-User": "sub", "x-user": "name"}},
        {"headers": {"X_Forwarded_For": "sub"}},
        {"headers": {"X-User": ""}},
        {"from": {"header": "x-user"}, "headers": {"X-User": "sub"}},
        {"from": {"cookie": "a", "header": "b"}},
        {"from": {"cookie": "a"}, "forward_token": False},
    ],
)
def test_what_does_not_fit(more: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        made(**more)
