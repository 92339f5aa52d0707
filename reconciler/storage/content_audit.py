"""Looks whether the contents that workers read are all there, so that a loss is found in time.

Whoever serves has read them already: without a look, one that is gone would be found when a worker
ends, and its successor refuses what runs. Names are compared when the directory has changed, and
contents are read as well at a start and every few hours: in a thread, some at a time. Called by
`reconciler.daemon`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence

from reconciler.parts import heard_again_within, until_turn
from reconciler.storage.file.database import DamagedError
from reconciler.storage.store import Store
from schemas.entities.entity import EntityKey

LOOK_S = 2.0
"""How often it is asked whether the directory has changed."""
EVERY_S = 6 * 3600.0
# Where some are missing and cannot be had: a file may be back. No pause is longer, either.
_AGAIN_S = 60.0
# So few can be tried to be had so often.
_FEW = 64
_FEW_AGAIN_S = 4.0
# A look rests so many times as long as it took: each commit of a certificate is a change.
_PAUSE_SHARE = 20.0
_CONTENTS = 50
_NAMES = 1000
_PAUSE_S = 0.02
_BATCH_WITHIN_S = 60.0


class MaterialAudit:
    """Of one store; `mend` is told of the entities whose contents are missing, on the loop."""

    def __init__(
        self, store: Store, mend: Callable[[Sequence[EntityKey]], Awaitable[None]]
    ) -> None:
        self._store = store
        self._mend = mend
        self._seen: tuple[int, int] | None = None

    async def run(self) -> None:
        """Look as long as the daemon runs."""
        loop = asyncio.get_running_loop()
        due_s, again_s, few_again_s = 0.0, float("inf"), float("inf")
        pause_s, missing = LOOK_S, list[EntityKey]()
        while True:
            heard_again_within(pause_s + _BATCH_WITHIN_S)
            await asyncio.sleep(until_turn(pause_s))
            await self._store.asked()
            pause_s, began = LOOK_S, loop.time()
            is_whole, stamp = began >= due_s, self._store.materials.stamp()
            if not is_whole and stamp == self._seen and began < again_s:
                if began >= few_again_s:
                    # What is had is written, which is a change of the directory.
                    few_again_s = began + _FEW_AGAIN_S
                    with contextlib.suppress(DamagedError, OSError):
                        await self._mend(missing)
                continue
            again_s = few_again_s = float("inf")
            # The database is another part's, and so is a directory that cannot be read.
            with contextlib.suppress(DamagedError, OSError):
                missing = await self.look(contents=is_whole)
                self._seen = stamp
                due_s = began + EVERY_S if is_whole else due_s
                again_s = loop.time() + _AGAIN_S if missing else again_s
                few_again_s = began + _FEW_AGAIN_S if 0 < len(missing) <= _FEW else few_again_s
            pause_s = min(max(LOOK_S, _PAUSE_SHARE * (loop.time() - began)), _AGAIN_S)

    async def look(self, *, contents: bool) -> list[EntityKey]:
        """Mend what is missing, or altered; return whose contents were.

        Raises `DamagedError`, `OSError`.
        """
        materials = self._store.materials
        names = await asyncio.to_thread(materials.names)
        if names is None:
            # Whoever keeps the state directory writes all of it anew.
            return []
        after: str | None = ""
        missing: dict[EntityKey, None] = {}
        while after is not None:
            after, found = await asyncio.to_thread(self._batch, names, after, contents)
            missing.update(dict.fromkeys(found))
            heard_again_within(_BATCH_WITHIN_S)
            await asyncio.sleep(_PAUSE_S if after is not None else 0.0)
        if missing:
            await self._mend(list(missing))
        return list(missing)

    def _batch(
        self, names: frozenset[str], after: str, contents: bool
    ) -> tuple[str | None, list[EntityKey]]:
        """Return the last hash that was looked at, None behind all, and who misses something."""
        holds = self._store.materials.holds
        found: list[EntityKey] = []
        with self._store.snapshot() as seen:
            digests = seen.state.terms_after("content", after, _CONTENTS if contents else _NAMES)
            for digest in digests:
                if digest not in names or (contents and not holds(digest)):
                    found += seen.state.related("content", digest)
        return (digests[-1] if digests else None), found
