"""Parses the files of a large load in processes of its own, some hundred blobs at a time.

Each opens the repository by itself, so that only blob ids go there and text comes back, in the
order asked for. What is known already is not parsed, and what was parsed is kept. The processes end
with the load, and with it all that they have used of memory. Called by
`reconciler.loop.large.loader`.
"""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path

from reconciler.catalog.parsing import parse
from reconciler.source.source import Source
from reconciler.storage.kept.parsed import ParsedBlobs

CHUNK_FILES = 200
# So many chunks are on their way for each process: enough that none waits, and a bound for memory.
_AHEAD = 3
_PR_SET_PDEATHSIG = 1

Blob = tuple[str, bytes | None]
"""A path and the id of its blob, None when the file is gone."""
Parsed = tuple[str, str | None]
"""A path and what `parse` found, None for what has to be looked at."""


class Parsers:
    """One load's parsing, and how far it is."""

    def __init__(self, directory: Path, known: ParsedBlobs, progress: Callable[[], None]) -> None:
        self._directory = directory
        self._known = known
        self._progress = progress
        self.read = self.parsed = 0
        """How many files are through, and how many of them had to be parsed."""

    def run(self, blobs: Sequence[Blob]) -> Iterator[Parsed]:
        """Yield what each file has, in the order given."""
        chunks = (blobs[at : at + CHUNK_FILES] for at in range(0, len(blobs), CHUNK_FILES))
        count = len(os.sched_getaffinity(0))
        # This process has neither thread nor loop yet: a fork copies nothing that is half done.
        forking = multiprocessing.get_context("fork")
        with ProcessPoolExecutor(count, forking, _begin, (self._directory,)) as pool:
            waiting: deque[tuple[Sequence[Blob], dict[bytes, str], Future[list[str | None]]]]
            waiting = deque()
            for chunk in chunks:
                found = self._known.find([oid for _, oid in chunk if oid is not None])
                asked = [oid for _, oid in chunk if oid is not None and oid not in found]
                waiting.append((chunk, found, pool.submit(_parse_all, asked)))
                if len(waiting) >= count * _AHEAD:
                    yield from self._taken(*waiting.popleft())
            while waiting:
                yield from self._taken(*waiting.popleft())

    def _taken(
        self, chunk: Sequence[Blob], found: dict[bytes, str], parsing: Future[list[str | None]]
    ) -> Iterator[Parsed]:
        fresh = parsing.result()
        asked = (oid for _, oid in chunk if oid is not None and oid not in found)
        results = dict(zip(asked, fresh, strict=True))
        self._known.keep((oid, text) for oid, text in results.items() if text is not None)
        self.read += len(chunk)
        self.parsed += len(results)
        self._progress()
        for path, oid in chunk:
            yield path, None if oid is None else found.get(oid) or results.get(oid)


def die_with_parent() -> None:
    """Have the kernel end this process when the one that started it ends (prctl(2))."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


_source: Source | None = None


def _begin(directory: Path) -> None:
    """What a process of the pool does first."""
    global _source  # noqa: PLW0603  # the pool hands nothing else over
    die_with_parent()
    # It lives for seconds, and makes nothing that refers to itself.
    gc.disable()
    _source = Source(directory, None)


def _parse_all(blobs: Sequence[bytes]) -> list[str | None]:
    assert _source is not None, "the process has begun"
    return [parse(_source.content(blob) or b"") for blob in blobs]
