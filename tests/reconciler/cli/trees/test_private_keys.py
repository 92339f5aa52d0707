"""Keys in clear are found, in files of any name; protected ones and look-alikes are not."""

from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from reconciler.cli.trees.private_keys import KEY_FILE_BYTES_MAX, find_private_keys
from tests.harness.repo import Repo
from tests.reconciler.cli.program import kakehi

PEM = serialization.Encoding.PEM
FORMATS = serialization.PrivateFormat
CLEAR = serialization.NoEncryption()
PROTECTED = serialization.BestAvailableEncryption(b"a password")


def curve() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def found(content: bytes) -> list[int]:
    return [warning.line for warning in find_private_keys([("tls/shop.key", content)])]


@pytest.mark.parametrize(
    "make",
    [
        lambda: curve().private_bytes(PEM, FORMATS.PKCS8, CLEAR),
        lambda: curve().private_bytes(PEM, FORMATS.TraditionalOpenSSL, CLEAR),
        lambda: ed25519.Ed25519PrivateKey.generate().private_bytes(PEM, FORMATS.OpenSSH, CLEAR),
        lambda: rsa.generate_private_key(65537, 2048).private_bytes(PEM, FORMATS.PKCS8, CLEAR),
    ],
)
def test_a_key_in_clear_is_found_with_its_line(make: Callable[[], bytes]) -> None:
    key = make()
    assert found(key) == [1]
    assert found(b"# two keys\n\n" + key + b"\n" + key)[0] == 3
    assert len(found(key + b"text between\n" + key)) == 2


@pytest.mark.parametrize("form", [FORMATS.PKCS8, FORMATS.TraditionalOpenSSL])
def test_a_protected_key_is_not(form: serialization.PrivateFormat) -> None:
    assert found(curve().private_bytes(PEM, form, PROTECTED)) == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"-----BEGIN PRIVATE KEY-----\n",
        b"-----BEGIN PRIVATE KEY-----\nbm90IGEga2V5\n-----END PRIVATE KEY-----\n",
        b"-----BEGIN PRIVATE KEY-----\n\xff\xfe\n-----END PRIVATE KEY-----\n",
        b"how to write -----BEGIN PRIVATE KEY----- in a sentence",
    ],
)
def test_what_only_looks_like_a_key_is_not(content: bytes) -> None:
    assert found(content) == []


def test_large_files_are_not_read_for_keys() -> None:
    key = curve().private_bytes(PEM, FORMATS.PKCS8, CLEAR)
    assert found(key + b" " * KEY_FILE_BYTES_MAX) == []


def test_validate_warns_of_what_git_would_commit(shop: Repo) -> None:
    key = curve().private_bytes(PEM, FORMATS.PKCS8, CLEAR).decode()
    shop.write({"tls/shop.key": key, ".gitignore": "*.key\n", ".secret/x.pem": key})
    done = kakehi("validate", str(shop.directory))
    assert done.returncode == 0
    assert ".secret/x.pem:1:1: warning: a private key is committed in clear" in done.stderr
    assert "tls/shop.key" not in done.stderr
    assert "BEGIN" not in done.stderr, "a key is never shown"
    shop.git("add", "--force", "--all", "tls/shop.key")
    shop.git("commit", "--quiet", "--message", "key")
    done = kakehi("validate", str(shop.directory), "--ref", "HEAD")
    assert "tls/shop.key:1:1: warning: a private key is committed in clear" in done.stderr
