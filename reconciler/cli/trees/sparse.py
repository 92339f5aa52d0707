"""The files that git has been told to leave out of a working tree, by its index.

Its form is that of gitformat-index(5). A sparse checkout has not all files of a commit, and a
commit made in it keeps those that it has not. libgit2 knows nothing of that and takes them for
deleted. Called by `reconciler.cli.trees.git_index`.
"""

from collections.abc import Iterator
from pathlib import Path

_HEAD_BYTES = 12
_STAT_BYTES, _ID_BYTES, _FLAGS_BYTES = 40, 20, 2
_EXTENDED, _SKIPPED = 0x4000, 0x4000
_STAGE = 0x3000
# Before, entries have no flags that could say so.
_VERSION_EXTENDED, _VERSION_SHORTENED = 3, 4


def left_out(index: Path) -> dict[bytes, bytes]:
    """Return path and blob id of each; none where the index is none, or of a form of its own."""
    try:
        with index.open("rb") as file:
            head = file.read(_HEAD_BYTES)
            if head[:4] != b"DIRC" or int.from_bytes(head[4:8]) < _VERSION_EXTENDED:
                return {}
            return dict(_left_out(head + file.read()))
    except (OSError, ValueError, IndexError):
        return {}


def _left_out(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    version, count = (int.from_bytes(content[at : at + 4]) for at in (4, 8))
    at, path = _HEAD_BYTES, b""
    for _ in range(count):
        start, at = at, at + _STAT_BYTES
        name, at = content[at : at + _ID_BYTES], at + _ID_BYTES
        flags, at = int.from_bytes(content[at : at + _FLAGS_BYTES]), at + _FLAGS_BYTES
        more = 0
        if flags & _EXTENDED:
            more, at = int.from_bytes(content[at : at + _FLAGS_BYTES]), at + _FLAGS_BYTES
        kept = b""
        if version == _VERSION_SHORTENED:
            dropped, at = _number(content, at)
            kept = path[: len(path) - dropped]
        end = content.index(0, at)
        path = kept + content[at:end]
        # One to eight zeros fill an entry up.
        at = end + 1 if version == _VERSION_SHORTENED else start + ((end - start) // 8 + 1) * 8
        if more & _SKIPPED and not flags & _STAGE:
            yield path, name


def _number(content: bytes, at: int) -> tuple[int, int]:
    """Return a number of as many bytes as it takes, and where it ends."""
    number = content[at] & 0x7F
    while content[at] & 0x80:
        at += 1
        number = ((number + 1) << 7) | (content[at] & 0x7F)
    return number, at + 1
