"""OCSP responses before they are stapled."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID

from reconciler.language.findings import Remark
from reconciler.materials import ocsp as looked_into
from reconciler.materials.completing import complete
from tests.harness import pki
from tests.harness.pki import Pair
from tests.reconciler.building import entity

NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture(scope="module")
def authority() -> Pair:
    return pki.make("Authority", is_ca=True)


@pytest.fixture(scope="module")
def leaf(authority: Pair) -> Pair:
    return pki.make("shop.test", issuer=authority)


def check(content: bytes, *chain: Pair) -> tuple[int, list[Remark]]:
    return looked_into.check(content, [each.certificate for each in chain], NOW)


def test_good_news_count_until_there_is_newer(authority: Pair, leaf: Pair) -> None:
    before = datetime.now(UTC).timestamp()
    until, remarks = check(pki.ocsp_response(leaf, authority, days=3), leaf, authority)
    assert remarks == []
    assert before - 1 <= until - 3 * 86_400 <= datetime.now(UTC).timestamp()
    without_end = pki.ocsp_response(leaf, authority, days=None)
    until, remarks = check(without_end, leaf, authority)
    assert remarks == []
    assert timedelta(days=6) <= datetime.fromtimestamp(until, UTC) - NOW < timedelta(days=8)


def test_a_responder_may_sign_that_the_issuer_chose(authority: Pair, leaf: Pair) -> None:
    chosen = pki.make("Responder", issuer=authority, usages=[ExtendedKeyUsageOID.OCSP_SIGNING])
    _, remarks = check(pki.ocsp_response(leaf, authority, signer=chosen), leaf, authority)
    assert remarks == []
    for other in (pki.make("Other", issuer=authority), pki.make("Other", is_ca=True)):
        _, remarks = check(pki.ocsp_response(leaf, authority, signer=other), leaf, authority)
        assert "not signed for the issuer" in remarks[0].message


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"revoked": True}, "the issuer calls the certificate revoked"),
        ({"starts_in_days": 1}, "the OCSP response is of"),
    ],
)
def test_bad_news(authority: Pair, leaf: Pair, options: dict[str, Any], sentence: str) -> None:
    _, (remark,) = check(pki.ocsp_response(leaf, authority, **options), leaf, authority)
    assert (remark.severity, remark.field) == ("error", "ocsp")
    assert remark.message.startswith(sentence)


def test_what_is_no_news_of_it(authority: Pair, leaf: Pair) -> None:
    other = pki.make("other.test", issuer=authority)
    response = pki.ocsp_response(leaf, authority)
    assert "about another certificate" in check(response, other, authority)[1][0].message
    assert "not signed for the issuer" in check(response, leaf)[1][0].message
    for junk in (b"", b"junk", response[:-9], authority.chain):
        assert "no OCSP response in DER" in check(junk, leaf, authority)[1][0].message
    busy = ocsp.OCSPResponseBuilder.build_unsuccessful(ocsp.OCSPResponseStatus.TRY_LATER)
    content = busy.public_bytes(serialization.Encoding.DER)
    assert "no answer: try_later" in check(content, leaf, authority)[1][0].message


def test_outdated_news_are_warned_of_and_not_stapled(authority: Pair, leaf: Pair) -> None:
    response = pki.ocsp_response(leaf, authority, starts_in_days=-9, days=-2)
    until, (remark,) = check(response, leaf, authority)
    assert remark.severity == "warning"
    assert "outdated since" in remark.message
    assert until < NOW.timestamp()


def test_an_entity_knows_until_when(authority: Pair, leaf: Pair) -> None:
    response = pki.ocsp_response(leaf, authority, days=3)
    files = {"a.crt": leaf.chain, "a.key": leaf.key, "a.der": response}
    found = entity("certificate", "shop", certificate="a.crt", private_key="a.key", ocsp="a.der")
    done = complete(found, files.__getitem__)
    assert done.remarks == []
    assert done.entity is not None
    staple = done.entity.value["ocsp"]
    assert isinstance(staple, dict)
    assert staple["sha256"] == hashlib.sha256(response).hexdigest()
    assert staple["until"] == check(response, leaf, authority)[0]
