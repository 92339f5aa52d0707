"""Private keys that are committed encrypted, with age: opened by an identity that this machine has.

The identity is a file outside of the repository, read anew each time, so that it may be replaced
while the daemon runs. What is opened goes to the material store alone. Called by
`reconciler.materials.completing`, and by whoever compares a file with what runs.
"""

from __future__ import annotations

from pathlib import Path

from reconciler.errors import UnreadableError
from reconciler.materials.reading import read_external

_BINARY = b"age-encryption.org/v1\n"
_ARMORED = b"-----BEGIN AGE ENCRYPTED FILE-----"


class SealedError(Exception):
    """A file cannot be opened; the message says why, and `hint` how to mend it."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


def is_sealed(content: bytes) -> bool:
    """Whether a file is one of age, binary or armored."""
    return content.startswith(_BINARY) or content.lstrip().startswith(_ARMORED)


class Keyring:
    """The identities of one machine. Without a path there are none, and nothing can be opened."""

    def __init__(self, path: Path | None) -> None:
        self.path = path

    def opened(self, content: bytes) -> bytes:
        """Return what a sealed file holds, and any other as it is. Raises `SealedError`."""
        if not is_sealed(content):
            return content
        import pyrage  # noqa: PLC0415  # most have nothing sealed

        identities = self._identities()
        try:
            return bytes(pyrage.decrypt(content, identities))
        except pyrage.DecryptError:
            hint = "encrypt it anew: age -R RECIPIENTS -o FILE.age FILE"
            message = f"no identity in {self.path} opens the file, or it is damaged"
            raise SealedError(message, hint) from None

    def _identities(self) -> list[object]:
        if self.path is None:
            hint = "tell the daemon whose: kakehi run --identity FILE"
            raise SealedError("the file is encrypted, and there is no identity to open it", hint)
        try:
            content = read_external(str(self.path))
        except UnreadableError as error:
            message = f"the identity {self.path} cannot be read: {error}"
            raise SealedError(message, error.hint) from None
        found = list(_parsed(content))
        if not found:
            hint = "make one: age-keygen -o FILE"
            raise SealedError(f"{self.path} holds no identity of age, and no key of ssh", hint)
        return found


def _parsed(content: bytes) -> list[object]:
    from pyrage import IdentityError, ssh, x25519  # noqa: PLC0415  # as above

    if b"PRIVATE KEY-----" in content:
        try:
            return [ssh.Identity.from_buffer(content)]
        except IdentityError:
            return []
    found: list[object] = []
    for line in content.decode(errors="replace").splitlines():
        text = line.strip()
        if text and not text.startswith("#"):
            try:
                found.append(x25519.Identity.from_str(text))
            except IdentityError:
                return []
    return found
