"""What is found in PEM files: every fault has its sentence, and no bytes end in anything else."""

from __future__ import annotations

import base64
import random
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519

from reconciler.language.findings import Remark
from reconciler.materials import pem
from tests.harness import pki
from tests.harness.pki import Pair

NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def pair() -> Pair:
    return pki.make("shop.test", "*.shop.test")


def checked(*pairs: Pair, at: datetime = NOW) -> list[Remark]:
    return pem.check_chain([pair.certificate for pair in pairs], at)


def private(pair: Pair, form: serialization.PrivateFormat, password: bytes | None = None) -> bytes:
    encryption: serialization.KeySerializationEncryption = (
        serialization.BestAvailableEncryption(password)
        if password
        else serialization.NoEncryption()
    )
    return pair.private_key.private_bytes(serialization.Encoding.PEM, form, encryption)


def armour(label: str, content: bytes) -> bytes:
    body = base64.encodebytes(content).decode()
    return f"-----BEGIN {label}-----\n{body}-----END {label}-----\n".encode()


def test_what_surrounds_a_chain_does_not_matter(pair: Pair) -> None:
    (read,) = pem.read_chain(b"subject=shop\n" + pair.key + pair.chain.replace(b"\n", b"\r\n"))
    assert read == pair.certificate


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "the file holds no PEM certificate"),
        (b"\xff\x00", "the file holds no PEM certificate"),
        (armour("TRUSTED CERTIFICATE", b"x"), "the file holds no PEM certificate"),
        (armour("CERTIFICATE", b"x"), "cannot be parsed"),
        (b"-----BEGIN CERTIFICATE-----\nMII", "cannot be parsed"),
    ],
)
def test_what_is_no_chain(content: bytes, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        pem.read_chain(content)


def test_names_in_lower_case_without_those_that_nobody_can_ask_for() -> None:
    found = pki.make("Shop.Test", "*.shop.test", "f*.shop.test", "*", "-x.test", "a.test.", "::1")
    assert pem.dns_names(found.certificate) == ["*.shop.test", "a.test", "shop.test"]
    assert pem.dns_names(pki.make("CA", is_ca=True).certificate) == []


def test_dates() -> None:
    pair = pki.make("shop.test", days=30)
    assert checked(pair) == []
    (late,) = checked(pair, at=NOW + timedelta(days=31))
    assert (late.severity, late.field) == ("error", "certificate")
    assert late.message.startswith("the certificate expired on ")
    (early,) = checked(pair, at=NOW - timedelta(days=2))
    assert early.severity == "error"
    assert "is not valid before " in early.message
    (soon,) = checked(pair, at=NOW + timedelta(days=20))
    assert soon.severity == "warning"
    assert "days" in soon.message
    assert "in 1 day" in checked(pair, at=NOW + timedelta(days=28, hours=1))[0].message


def test_an_issuer_that_expires_ends_the_chain() -> None:
    issuer = pki.make("CA", is_ca=True, days=5)
    (soon,) = checked(pki.make("shop.test", issuer=issuer), issuer)
    assert soon.severity == "warning"


def test_the_order_of_a_chain() -> None:
    root = pki.make("Root", is_ca=True)
    middle = pki.make("Middle", is_ca=True, issuer=root)
    leaf = pki.make("shop.test", issuer=middle)
    assert checked(leaf, middle, root) == []
    for wrong in ((middle, leaf), (leaf, root), (leaf, root, middle), (leaf, leaf)):
        (remark,) = checked(*wrong)
        assert "the chain is out of order" in remark.message
        assert remark.hint is not None


def test_weak_keys() -> None:
    (weak,) = checked(pki.make("shop.test", kind="rsa", bits=1024))
    assert weak.message == "an RSA key of 1024 bits is too weak: at least 2048"
    assert checked(pki.make("shop.test", kind="rsa")) == []
    assert pem._weakness(ed25519.Ed25519PrivateKey.generate().public_key()) is None
    odd = ec.generate_private_key(ec.SECP256K1()).public_key()
    assert "secp256k1 is not supported" in str(pem._weakness(odd))
    assert "of this kind" in str(pem._weakness(dsa.generate_private_key(2048).public_key()))
    assert pem._weakness(object()) == "the key is of an unknown kind"


def test_every_form_of_the_right_key(pair: Pair) -> None:
    chain = [pair.certificate]
    forms = [serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL]
    contents = [private(pair, form) for form in forms]
    # As `openssl ecparam -genkey` writes it, and as HAProxy has it.
    contents += [armour("EC PARAMETERS", b"\x06\x08*\x86H\xce=\x03\x01\x07") + contents[1]]
    contents += [pair.chain + pair.key, pair.key + pair.chain]
    assert [pem.check_key(chain, content) for content in contents] == [[]] * len(contents)
    rsa = pki.make("shop.test", kind="rsa")
    assert pem.check_key([rsa.certificate], private(rsa, forms[1])) == []


def test_another_key(pair: Pair) -> None:
    for kind in ("ecdsa", "rsa"):
        (remark,) = pem.check_key([pair.certificate], pki.make("x.test", kind=kind).key)
        assert (remark.severity, remark.field) == ("error", "private_key")
        assert remark.message == "the private key is not that of CN=shop.test"


@pytest.mark.parametrize(
    "form", [serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL]
)
def test_an_encrypted_key(pair: Pair, form: serialization.PrivateFormat) -> None:
    content = private(pair, form, b"password")
    (remark,) = pem.check_key([pair.certificate], content)
    assert remark.message == "the private key is encrypted"
    assert "openssl pkey" in str(remark.hint)


def test_what_is_no_key(pair: Pair) -> None:
    chain = [pair.certificate]
    public = pair.private_key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    for content in (b"", b"\xff", pair.pem, public, armour("PRIVATE KEY", b"x")):
        (remark,) = pem.check_key(chain, content)
        assert remark.message == "the file holds no PEM private key"
    (remark,) = pem.check_key(chain, private(pair, serialization.PrivateFormat.OpenSSH))
    assert "ssh-keygen" in str(remark.hint)


def test_names_that_the_leaf_must_have(pair: Pair) -> None:
    chain = [pair.certificate]
    assert pem.check_names(chain, ["shop.test", "*.shop.test", "a.shop.test"]) == []
    for name in ("other.test", "a.b.shop.test", "*.test"):
        (remark,) = pem.check_names(chain, [name, "shop.test"])
        assert (remark.severity, remark.field) == ("error", "hostnames")
        assert remark.message == (
            f"the certificate is not valid for {name}: it has *.shop.test, shop.test"
        )


def test_authorities(pair: Pair) -> None:
    assert pem.check_authorities(pair.pem, "ca") == []
    assert pem.check_authorities(b"x", "client_ca")[0].field == "client_ca"


@pytest.mark.parametrize("kind", ["ecdsa", "rsa"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_damaged_bytes_never_end_in_anything_but_a_sentence(pair: Pair, kind: str) -> None:
    """A commit can hold any bytes, and an exception would be an internal error of the daemon."""
    dice = random.Random(5)
    whole = pki.make("shop.test", kind=kind)
    key = whole.private_key.private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    for position in range(0, len(whole.der), 2):
        damaged = bytearray(whole.der)
        damaged[position] = dice.randrange(256)
        try:
            chain = pem.read_chain(armour("CERTIFICATE", bytes(damaged)))
        except ValueError as error:
            assert "cryptography.io" not in str(error)
            continue
        pem.check_chain([*chain, whole.certificate], NOW)
        pem.check_names(chain, ["shop.test"])
        pem.check_key(chain, pair.key)
    for position in range(min(len(key), 60)):
        damaged = bytearray(key)
        damaged[position] = dice.randrange(256)
        pem.check_key([whole.certificate], armour("PRIVATE KEY", bytes(damaged)))
