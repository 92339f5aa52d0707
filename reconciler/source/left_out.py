"""What is left out of a configuration although somebody may think that it belongs: one rule.

A commit's tree (`reconciler.source.tree_diff`) and a working tree (`reconciler.cli.trees.files`)
ask it, so that `validate`, `plan` and the daemon warn of the same files in the same words. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from itertools import islice

from schemas.entities.diagnostic import Diagnostic

SUFFIXES = (b".yaml", b".yml")
"""Of files that hold configuration."""
EXPECTATIONS = (b".expect.yaml", b".expect.yml")
"""Of files that say what is expected of a configuration, and are none themselves."""
NAMED_MAX = 20
"""So many files are named; a repository of other things may have thousands."""

A_LINK = "is a symbolic link"
A_SUBMODULE = "is a submodule"
IGNORED = "is ignored by git, so that no commit has it"
NOT_UTF8 = "has a name that is not UTF-8"
NESTED = "nested too deeply"
_OTHER_CASE = "does not end in .yaml or .yml, in small letters"
JSON = "is JSON, and only *.yaml and *.yml are read"
_OURS = re.compile(rb'[{\s]*"(?:settings|listeners|clusters|frontends|certificates)"\s*:')
"""The beginning of a configuration that somebody wrote as JSON."""
_LOOKED_AT_MAX = 100
"""So many files of JSON are looked into."""
_JSON_BYTES_MAX = 64 * 1024
"""Of larger ones not even the beginning is read: git has it only with all the rest."""


def is_configuration(path: bytes) -> bool:
    """Tell by its name whether a file holds configuration."""
    return path.endswith(SUFFIXES) and not path.endswith(EXPECTATIONS)


def reason(path: bytes) -> str | None:
    """Return why a regular file is left out that looks like configuration; None for all others."""
    if is_configuration(path):
        return None if is_utf8(path) else NOT_UTF8
    lowered = path.lower()
    if lowered.endswith(EXPECTATIONS):
        return None
    if lowered.endswith(SUFFIXES):
        return _OTHER_CASE
    return JSON if lowered.endswith(b".json") else None


def confirmed(left_out: Mapping[str, str], read: Callable[[str, int], bytes]) -> dict[str, str]:
    """Return these files without the JSON of others, which is told by its beginning.

    `read` gives the content of a file, or anything with more bytes where it has more than so many.
    """
    asked = islice((path for path in sorted(left_out) if left_out[path] == JSON), _LOOKED_AT_MAX)
    read_all = ((path, read(path, _JSON_BYTES_MAX)) for path in asked)
    ours = {path for path, all_ in read_all if len(all_) <= _JSON_BYTES_MAX and _OURS.match(all_)}
    return {path: why for path, why in left_out.items() if why != JSON or path in ours}


def shown(path: bytes) -> str:
    """Return a path as text, whatever its bytes are."""
    return path.decode(errors="backslashreplace")


def warnings(left_out: Mapping[str, str]) -> tuple[Diagnostic, ...]:
    """Return a warning for each file, given with the reason why it is left out."""
    found = [
        Diagnostic("warning", path, 0, 0, f"{path} {why}: it is left out")
        for path, why in sorted(left_out.items())[:NAMED_MAX]
    ]
    more = len(left_out) - len(found)
    if more > 0:
        what = "file is" if more == 1 else "files are"
        found.append(Diagnostic("warning", "", 0, 0, f"{more} more {what} left out"))
    return tuple(found)


def is_utf8(path: bytes) -> bool:
    """Tell whether a name is one that a configuration can say."""
    try:
        path.decode()
    except UnicodeDecodeError:
        return False
    return True
