"""Reads the files that entities name by path, within bounds.

`Reader` is how every part asks for them; called by `reconciler.source.source`, for files
outside of the repository, and by whoever brings a reader of its own.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path, PurePath

from reconciler.errors import UnreadableError
from reconciler.language.suggest import GUESSES_MAX, closest
from reconciler.presence import is_directory
from reconciler.stalling import DOES_NOT_ANSWER, answer_of
from schemas.messages.files import beginning_of

MATERIAL_BYTES_MAX = 1024 * 1024
"""A bundle of all authorities of the world has 230 KiB."""

_NAMES_MAX = 5
_LISTED_MAX = 1000

Reader = Callable[[str], bytes]
"""Returns the content of a file by its path as written. Raises `UnreadableError`."""


def no_files(_path: str) -> bytes:
    """The reader of whoever has no files. Raises `UnreadableError`."""
    raise UnreadableError("the file is not there")


class SilentError(UnreadableError):
    """The file does not answer: what is in it is not known, and may be as it was."""


def read_external(path: str) -> bytes:
    """The content of a file outside of the repository. Raises `UnreadableError`."""
    read = answer_of(path, _read, SilentError(DOES_NOT_ANSWER))
    if isinstance(read, UnreadableError):
        raise read
    return read


def _read(path: str) -> bytes | UnreadableError:
    try:
        return bounded(_content(path))
    except UnreadableError as error:
        return error


def _content(path: str) -> bytes:
    try:
        return beginning_of(path, MATERIAL_BYTES_MAX + 1)
    except FileNotFoundError:
        raise _not_there(path) from None
    except IsADirectoryError:
        raise UnreadableError("it is a directory") from None
    except OSError as error:
        raise UnreadableError(error.strerror or str(error)) from None
    except ValueError:
        raise UnreadableError("no file can have such a path") from None


class Guesses:
    """What was meant by files that are not there, as often as it is worth the time.

    For whoever looks at one commit, where a directory has the same names each time.
    """

    def __init__(self) -> None:
        self._names: dict[str, list[str]] = {}
        self._hints: dict[str, str | None] = {}

    def nearest(
        self, path: str, names: Callable[[], Iterable[str]], otherwise: str | None = None
    ) -> str | None:
        """The hint with the file that was most likely meant, of those that lie beside it."""
        if path not in self._hints:
            if len(self._hints) == GUESSES_MAX:
                return otherwise
            folder = path.rpartition("/")[0]
            if folder not in self._names:
                self._names[folder] = sorted(names())
            self._hints[path] = nearest(path, self._names[folder], otherwise)
        return self._hints[path]


def nearest(path: str, names: Iterable[str], otherwise: str | None = None) -> str | None:
    """The hint with the file that was most likely meant, of those that lie there."""
    named = PurePath(path)
    known = sorted(each for each in names if each.isprintable())
    close = closest(named.name, known)
    if close is not None:
        return f'did you mean "{named.with_name(close)}"?'
    if otherwise is not None or not known:
        return otherwise
    if len(known) > _NAMES_MAX:
        suffix = named.suffix
        known = [each for each in known if suffix and each.endswith(suffix) and each != suffix]
    if not 0 < len(known) <= _NAMES_MAX:
        return "no name there is like it"
    return f"there {'is' if len(known) == 1 else 'are'} {', '.join(known)}"


def names_in(directory: Path) -> list[str]:
    """The names in a directory, as far as it can be read."""
    try:
        return [each.name for each in islice(directory.iterdir(), _LISTED_MAX)]
    except OSError:
        return []


def _not_there(path: str) -> UnreadableError:
    folder = Path(path).parent
    hint = f"there is no directory {folder}"
    if is_directory(folder):
        hint = nearest(path, names_in(folder)) or f"{folder} is empty"
    return UnreadableError(os.strerror(errno.ENOENT), hint)


def bounded(content: bytes) -> bytes:
    """The content itself. Raises `UnreadableError` when it is too large to be meant."""
    if len(content) > MATERIAL_BYTES_MAX:
        raise UnreadableError(f"the file has more than {MATERIAL_BYTES_MAX >> 10} KiB")
    return content
