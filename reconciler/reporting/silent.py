"""Connections on which nothing is asked yet: so many at the most, of which the oldest gives way.

Who says nothing is no reason to leave another without an answer. Called by `control_socket` and
`admin`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator


class Silent:
    """Those that are waited for, the one that is silent for longest first."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: dict[asyncio.StreamWriter, None] = {}

    @contextlib.contextmanager
    def waits(self, writer: asyncio.StreamWriter) -> Iterator[None]:
        """For as long as nothing has come of this one."""
        if len(self._waiting) >= self._most:
            oldest = next(iter(self._waiting))
            del self._waiting[oldest]
            oldest.transport.abort()
        self._waiting[writer] = None
        try:
            yield
        finally:
            self._waiting.pop(writer, None)
