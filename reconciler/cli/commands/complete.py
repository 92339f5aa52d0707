"""`kakehi complete`: the names that a shell may offer, from the daemon that runs.

Called at a Tab by the script of `kakehi completion`; so whatever goes wrong is no name, and no
word.
"""

import os
import shlex
import sys
from typing import Annotated, Any

from reconciler.cli.asking import ask
from reconciler.cli.exits import DONE, CommandError
from reconciler.cli.parameters import (
    BACKENDS,
    DRAINED,
    ENTITIES,
    FILE,
    LIMITS,
    SHOWN,
    URLS,
    Argument,
)

ANSWER_WITHIN_S = 1.0
"""Longer nobody waits for a list after a key."""

_WHATS = f"{ENTITIES}, {SHOWN}, {LIMITS}, {BACKENDS}, {DRAINED} or {URLS}."
_RUNTIME_DIR = "--runtime-dir"


def complete(
    what: Annotated[str, Argument("WHAT", help=_WHATS)],
    word: Annotated[str, Argument("[WORD]", help="What is typed of it.")] = "",
    line: Annotated[
        str, Argument("[LINE]", help="The line, for its --runtime-dir.", completes=FILE)
    ] = "",
) -> int:
    """Print the words that a shell may offer, one a line.

    Examples:
      kakehi complete entities frontend/
    """
    runtime_dir = _runtime_dir(line)
    if what == ENTITIES:
        found = _entities(runtime_dir, word)
    elif what == SHOWN:
        found = [*_entities(runtime_dir, word), LIMITS]
    elif what == LIMITS:
        # Whom one may forgive is who is limited now.
        limited = _asked(runtime_dir, "limits", {}).get("limited", [])
        found = sorted({each["limit"] for each in limited})
    elif what == DRAINED:
        drains = _asked(runtime_dir, "status", {}).get("drains", [])
        found = [each["backend"] for each in drains]
    elif what == URLS:
        found = _names(runtime_dir, "url", word)
    else:
        found = _names(runtime_dir, "backend", word)
    sys.stdout.writelines(f"{each}\n" for each in found if each.startswith(word))
    return DONE


def _entities(runtime_dir: str | None, word: str) -> list[str]:
    """Return kinds, and once there is only one left its entities as well."""
    from schemas.entities.entity import KINDS

    kind, slash, name = word.partition("/")
    kinds = [each for each in KINDS if (each == kind if slash else each.startswith(kind))]
    if len(kinds) != 1:
        return kinds
    return [kinds[0], *(f"{kinds[0]}/{each}" for each in _names(runtime_dir, kinds[0], name))]


def _names(runtime_dir: str | None, kind: str, under: str) -> list[str]:
    return _asked(runtime_dir, "names", {"kind": kind, "under": under}).get("names", [])


def _asked(runtime_dir: str | None, request: str, fields: dict[str, str]) -> dict[str, list[Any]]:
    """Return what the daemon answers; nothing if there is none, or if it takes long."""
    given = runtime_dir or os.environ.get("KAKEHI_RUNTIME_DIR")
    try:
        return ask(given, request, fields, ANSWER_WITHIN_S)
    except (CommandError, OSError, ValueError, KeyError):
        return {}


def _runtime_dir(line: str) -> str | None:
    """Return what the option has in a line that is only half written."""
    words = _words(line)
    for at, word in enumerate(words):
        flag, equals, value = word.partition("=")
        if flag == _RUNTIME_DIR:
            return value if equals else next(iter(words[at + 1 :]), None)
    return None


def _words(line: str) -> list[str]:
    """Split a line as a shell does; quotes may still be open at its end."""
    lexer = shlex.shlex(line, posix=True)
    lexer.whitespace_split = True
    lexer.commenters = ""
    words: list[str] = []
    try:
        words.extend(lexer)
    except ValueError:
        words.append(lexer.token)
    return words
