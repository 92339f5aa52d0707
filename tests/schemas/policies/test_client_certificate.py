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
        ({"subjects": [r"CN=M\C3\BCller"]}, {"subjects": ["CN=Müller"]}),
        ({"subjects": ["cn=a,EMAIL=b@c"]}, {"subjects": ["CN=a,emailAddress=b@c"]}),
        (
            {"subjects": ["OU=b+OU=a,1.2.3.4=#0C0170"]},
            {"subjects": ["OU=a+OU=b,1.2.3.4=#0c0170"]},
        ),
        ({"names": ["2001:DB8:0::1", "Al@A.test"]}, {"names": ["2001:db8::1", "Al@a.test"]}),
        ({"subjects": [r"CN=a\, b,O=S"]}, {"subjects": [r"CN=a\, b,O=S"]}),
        ({"subjects": ["UID=1+CN=a,DC=x"]}, {"subjects": ["CN=a+UID=1,DC=x"]}),
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
        ({"subjects": ["O = Shop, CN = alice"]}, "expected a subject"),
        ({"subjects": ["1.2.3.4=p"]}, "expected a subject"),
        ({"subjects": ["shoeSize=46"]}, "expected a subject"),
        ({"fingerprints": [SUM[:40]]}, "expected the SHA-256"),
        ({"names": ["a.*.test"]}, "all below a name"),
        ({"names": ["*"]}, "all below a name"),
        ({"names": ["a b"]}, "expected a name"),
    ],
)
def test_what_nobody_has(written: object, message: str) -> None:
    assert message in refusal("policy", {"client_certificate": written})
