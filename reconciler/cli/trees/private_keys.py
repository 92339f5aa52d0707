"""Finds private keys that lie in a configuration in clear, for `validate` and its warnings.

A key in git is a key that everybody with a clone has, for ever: history keeps it. The test is not a
search for a phrase: a PEM block counts when `cryptography` can load it without a password.
"""

import os
import re
from collections.abc import Iterable, Iterator

from reconciler.source.left_out import shown
from schemas.entities.diagnostic import Diagnostic

KEY_FILE_BYTES_MAX = 64 * 1024
"""Private keys are under 16 KiB; what is larger is no PEM file and not worth a scan."""

_BLOCK = re.compile(
    rb"^-----BEGIN (?P<label>[A-Z0-9 ]*PRIVATE KEY)-----\s.*?^-----END (?P=label)-----",
    re.MULTILINE | re.DOTALL,
)


def find_private_keys(files: Iterable[tuple[str, bytes]]) -> Iterator[Diagnostic]:
    """Return a warning for every private key that no password protects."""
    for path, content in files:
        if len(content) > KEY_FILE_BYTES_MAX or b"PRIVATE KEY-----" not in content:
            continue
        for block in _BLOCK.finditer(content):
            if _readable(block[0]):
                yield Diagnostic(
                    severity="warning",
                    file=shown(os.fsencode(path)),
                    line=content.count(b"\n", 0, block.start()) + 1,
                    column=1,
                    message="a private key is committed in clear",
                    hint="replace it: whoever has a clone has it. Keys may be committed encrypted",
                )


def _readable(block: bytes) -> bool:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    load = (
        serialization.load_ssh_private_key
        if b"OPENSSH" in block.split(b"\n", 1)[0]
        else serialization.load_pem_private_key
    )
    try:
        load(block + b"\n", password=None)
    except (TypeError, ValueError, UnsupportedAlgorithm):
        # TypeError: a password protects it. ValueError: it only looks like a key.
        return False
    return True
