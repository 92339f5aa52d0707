"""Who is meant by a certificate: texts as tools print them, and what none of them prints."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.kinds.policy import Policy
from tests.schemas.refusals import refusal

SUM = "0123456789abcdef" * 4
COLONS = ":".join(SUM[at : at + 2] for at in range(0, 64, 2)).upper()


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ({"subjects": ["CN=a, O=Shop"]}, {"subjects": ["CN=a,O=Shop"]}),
        ({"subjects": ["CN = a,O = B C"]}, {"subjects": ["CN=a,O=B C"]}),
        ({"subjects": [r"CN=a\, b,O=S"]}, {"subjects": [r"CN=a\, b,O=S"]}),
        ({"subjects": ["CN=a+UID=1,DC=x"]}, {"subjects": ["CN=a+UID=1,DC=x"]}),
        ({"fingerprints": [COLONS]}, {"fingerprints": [SUM]}),
        ({"fingerprints": [f"sha256:{SUM}"]}, {"fingerprints": [SUM]}),
        ({"names": ["*.A.test", "b.test"]}, {"names": ["*.a.test", "b.test"]}),
        ({"names": ["spiffe://a.test/X/*"]}, {"names": ["spiffe://a.test/X/*"]}),
    ],
)
def test_what_is_meant(written: dict[str, Any], canonical: dict[str, Any]) -> None:
    policy = Policy.model_validate({"client_certificate": written})
    assert policy.value() == {"client_certificate": canonical}


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("optional", 'expected "required"'),
        ({}, "there is no condition"),
        ({"subjects": []}, "there is no condition"),
        ({"subjects": ["/CN=a/O=Shop"]}, "expected a subject"),
        ({"subjects": ["alice"]}, "expected a subject"),
        ({"fingerprints": [SUM[:40]]}, "expected the SHA-256"),
        ({"names": ["a.*.test"]}, "all below a name"),
        ({"names": ["*"]}, "all below a name"),
        ({"names": ["a b"]}, "expected a name"),
    ],
)
def test_what_nobody_has(written: object, message: str) -> None:
    assert message in refusal("policy", {"client_certificate": written})
