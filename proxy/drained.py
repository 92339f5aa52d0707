"""The backends that are drained, in one worker: the list that its engine has, and when each ends.

The reconciler tells of both. It ends a drain itself, on all workers at once; where none is there to
do so, each worker does, a moment later and by the same clock, since a drain was promised to end.
The next reconciler tells the history. Called by `proxy.replies`.
"""

from __future__ import annotations

import asyncio
import time

from proxy.engine_api import EngineApi
from schemas.messages import wire

# In which a reconciler ends it, or tells of a later end that it has yet to write down.
GRACE_S = 1.0
# The clock may jump, and a machine sleep: looking again so soon bounds the error.
_LOOK_S = 10.0


class Drained:
    """What one engine is told of drained backends."""

    def __init__(self, engine: EngineApi) -> None:
        self._engine = engine
        self._drained: list[str] = []
        self._ends: dict[str, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def take(self, message: wire.Overlay) -> None:
        """Drain these backends and no others, each until its end."""
        self._drained, self._ends = message.drained, message.ends
        self._tell()

    def stop(self) -> None:
        """End the timer: the engine is told nothing more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tell(self) -> None:
        self.stop()
        now = time.time()
        ends = {name: self._ends[name] + GRACE_S for name in self._drained if name in self._ends}
        self._drained = [name for name in self._drained if ends.get(name, now + 1) > now]
        self._engine.overlay(self._drained)
        left = [ends[name] - now for name in self._drained if name in ends]
        if left:
            delay = min(_LOOK_S, min(left) + 0.01)
            self._timer = asyncio.get_running_loop().call_later(delay, self._tell)
