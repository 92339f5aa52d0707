"""Private keys that are committed encrypted with age."""

from __future__ import annotations

import os
from pathlib import Path

import pyrage
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from pyrage import ssh, x25519

from reconciler.materials.completing import Machine, complete
from reconciler.materials.sealed import Keyring, SealedError, is_sealed
from tests.harness import pki
from tests.harness.pki import Pair
from tests.reconciler.building import entity


@pytest.fixture(scope="module")
def pair() -> Pair:
    return pki.make("shop.test")


def identity(path: Path, *more: str) -> tuple[Keyring, x25519.Recipient]:
    """A keyring of a file as age-keygen writes it, and for whom to encrypt."""
    made = x25519.Identity.generate()
    lines = ["# created: today", f"# public key: {made.to_public()}", str(made), *more]
    path.write_text("\n".join(lines) + "\n")
    return Keyring(path), made.to_public()


@pytest.mark.parametrize("armored", [False, True])
def test_what_is_sealed_is_opened(tmp_path: Path, armored: bool) -> None:
    other = str(x25519.Identity.generate())
    keyring, recipient = identity(tmp_path / "identity", "", other)
    sealed = pyrage.encrypt(b"secret", [recipient], armored=armored)
    assert is_sealed(sealed)
    assert keyring.opened(sealed) == b"secret"
    assert keyring.opened(b"in clear") == b"in clear"


def test_a_key_of_ssh_opens_too(tmp_path: Path) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    path = tmp_path / "id_ed25519"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.OpenSSH,
            serialization.NoEncryption(),
        )
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    sealed = pyrage.encrypt(b"secret", [ssh.Recipient.from_str(public.decode())])
    assert Keyring(path).opened(sealed) == b"secret"


def test_an_identity_that_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    """Nobody writes into the pipe: whoever opened it would wait for ever."""
    keyring, recipient = identity(tmp_path / "identity")
    sealed = pyrage.encrypt(b"secret", [recipient])
    (tmp_path / "identity").unlink()
    os.mkfifo(tmp_path / "identity")
    with pytest.raises(SealedError, match="cannot be read: it is no regular file"):
        keyring.opened(sealed)


def test_why_it_cannot_be_opened(tmp_path: Path) -> None:
    keyring, recipient = identity(tmp_path / "identity")
    stranger, _ = identity(tmp_path / "stranger")
    sealed = pyrage.encrypt(b"secret", [recipient])
    for damaged in (sealed[:-1], sealed[:40], sealed.replace(b"X25519", b"X25518")):
        with pytest.raises(SealedError, match="or it is damaged"):
            keyring.opened(damaged)
    with pytest.raises(SealedError, match=r"no identity in .*stranger opens the file"):
        stranger.opened(sealed)
    with pytest.raises(SealedError, match="there is no identity to open it"):
        Keyring(None).opened(sealed)
    with pytest.raises(SealedError, match="cannot be read: No such file"):
        Keyring(tmp_path / "nowhere").opened(sealed)
    for junk in (b"", b"# nothing\n", b"AGE-SECRET-KEY-1JUNK\n", b"-----BEGIN PRIVATE KEY-----"):
        (tmp_path / "junk").write_bytes(junk)
        with pytest.raises(SealedError, match="holds no identity"):
            Keyring(tmp_path / "junk").opened(sealed)


def test_an_entity_has_the_hash_of_what_was_opened(tmp_path: Path, pair: Pair) -> None:
    keyring, recipient = identity(tmp_path / "identity")
    found = entity("certificate", "shop", certificate="a.crt", private_key="a.key")

    def value(key: bytes, machine: Machine) -> object:
        done = complete(found, {"a.crt": pair.chain, "a.key": key}.__getitem__, machine)
        assert done.remarks == []
        assert done.entity is not None
        return done.entity.value["private_key"]

    clear = value(pair.key, Machine())
    # One that everybody may read is nothing to warn of.
    lying = tmp_path / "shop.key.age"
    lying.write_bytes(pyrage.encrypt(pair.key, [recipient]))
    lying.chmod(0o644)
    outside = entity("certificate", "shop", certificate="a.crt", private_key=str(lying))
    contents = {"a.crt": pair.chain, str(lying): lying.read_bytes()}
    assert complete(outside, contents.__getitem__, Machine(keyring)).remarks == []
    # Encrypted anew, it is other bytes and the same key: no change at all.
    for _ in range(2):
        sealed = pyrage.encrypt(pair.key, [recipient])
        assert value(sealed, Machine(keyring)) == clear


def test_without_an_identity_the_daemon_refuses_and_a_mere_look_warns(pair: Pair) -> None:
    sealed = pyrage.encrypt(pair.key, [x25519.Identity.generate().to_public()])
    found = entity("certificate", "shop", certificate="a.crt", private_key="a.key")
    read = {"a.crt": pair.chain, "a.key": sealed}.__getitem__
    done = complete(found, read, Machine(Keyring(None)))
    (remark,) = done.remarks
    assert done.entity is None
    assert (remark.severity, remark.field) == ("error", "private_key")
    assert remark.hint == "tell the daemon whose: kakehi run --identity FILE"
    done = complete(found, read)
    (remark,) = done.remarks
    assert done.entity is not None
    assert (remark.severity, remark.field) == ("warning", "private_key")
    assert "is encrypted: whether it fits is not looked at here" in remark.message
