"""Where objects lie that only the environment tells of: those of a push that nobody accepted yet.

Git keeps what is pushed in a directory of its own until the `pre-receive` hook has agreed, and
tells the hook by variables that every git program reads and libgit2 does not. So `kakehi validate
--ref NEW` in a hook would not see the commit that it is asked about. Called by
`reconciler.source.git.repository`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from reconciler.presence import is_directory

_ENTRY = re.compile(r'"((?:[^"\\]|\\.)*)"|([^:"][^:]*)', re.DOTALL)
_ESCAPED = re.compile(rb"\\([0-7]{1,3}|.)", re.DOTALL)


def object_directories() -> Iterator[str]:
    """The directories of objects that the environment names, as far as they are there."""
    alone = (os.environ.get(name) for name in ("GIT_OBJECT_DIRECTORY", "GIT_QUARANTINE_PATH"))
    several = os.environ.get("GIT_ALTERNATE_OBJECT_DIRECTORIES", "")
    listed = (_plain(found) for found in _ENTRY.finditer(several))
    named = dict.fromkeys(str(Path(path).absolute()) for path in (*alone, *listed) if path)
    return filter(is_directory, named)


def _plain(found: re.Match[str]) -> str:
    """One entry of a list; git quotes those with a colon or a quotation mark in them."""
    quoted, bare = found.groups()
    return bare if quoted is None else os.fsdecode(_ESCAPED.sub(_unescaped, os.fsencode(quoted)))


def _unescaped(found: re.Match[bytes]) -> bytes:
    return bytes([int(found[1], 8) & 0xFF]) if found[1][0] in b"01234567" else found[1]
