"""The long-lived tasks of the daemon: none of them ends in silence.

A part runs until it is stopped. If it ends in any other way, that is an event: the log says so, and
it is started again, at once and then ever slower; `status` and a metric tell. A part that loops
promises by `heard_again_within` when it will be heard of next; while one breaks its promise the
service manager's watchdog is not fed, so that what hangs is ended like what has died. Called by
`reconciler.daemon` and `reconciler.workers.slots.supervisor`, which start them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from contextvars import ContextVar

from reconciler import faults, log

Run = Callable[[], Awaitable[None]]

_BACKOFF_FIRST_S = 0.1
_BACKOFF_MAX_S = 30.0
# One that has run for so long has got over it: the next failure is the first again.
STABLE_AFTER_S = 60.0

_EARLY_SHARE = 0.05

_current: ContextVar[Part | None] = ContextVar("part", default=None)


def heard_again_within(seconds: float) -> None:
    """The part that calls this lives, and will say so again before the time is over."""
    part = _current.get()
    if part is not None:
        part.due = asyncio.get_running_loop().time() + seconds


def until_turn(every_s: float) -> float:
    """Return the seconds until the next turn of so many seconds, which all have at the same time.

    To wake costs more than most looks: who looks now and then does so together with all others.
    """
    left_s = every_s - asyncio.get_running_loop().time() % every_s
    # A timer may end a moment early: that was the turn.
    return left_s if left_s > _EARLY_SHARE * every_s else left_s + every_s


class Part:
    """One long-lived task of the daemon."""

    def __init__(self, name: str, run: Run, once: bool) -> None:
        self.name = name
        self.restarts = 0
        self.problem: str | None = None
        """Why it failed last; None when it has run for long since."""
        self.waits = False
        """It has failed, and is not started again yet."""
        self.leaves = False
        """It was told to end."""
        self.due: float | None = None
        """When it will have been heard of again, if it promised that."""
        self._run = run
        self._once = once
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._keep())

    def cancel(self) -> None:
        """End it for good."""
        self.leaves = True
        self._task.cancel()

    @property
    def done(self) -> bool:
        """Whether it runs no more, and never will."""
        return self._task.done()

    @property
    def state(self) -> str:
        """One word: running, restarting, or silent."""
        if self.waits:
            return "restarting"
        return "silent" if self.overdue else "running"

    @property
    def overdue(self) -> bool:
        """Whether it should have been heard of by now."""
        return self.due is not None and self._loop.time() > self.due and not self.done

    async def ended(self) -> None:
        """Returns when it has ended, as `cancel` asks it to."""
        await asyncio.wait([self._task])

    async def _keep(self) -> None:
        _current.set(self)
        failures = 0
        while True:
            calm = self._loop.call_later(STABLE_AFTER_S, self._calm)
            began = self._loop.time()
            try:
                faults.point(f"part.{self.name}")
                await self._run()
                if self._once:
                    return
                problem = "it ended by itself"
                log.error("a part of the daemon ended", part=self.name)
            except asyncio.CancelledError:
                if self.leaves or self._task.cancelling():
                    raise
                # Something that it waited for was cancelled, not the part.
                problem = "what it waited for was cancelled"
                log.error("a part of the daemon was cancelled", part=self.name)
            except Exception as error:  # noqa: BLE001  # whatever it is, the part is needed
                problem = log.internal_error(f"running the part {self.name!r}", error)
            finally:
                calm.cancel()
            failures = failures + 1 if self._loop.time() - began < STABLE_AFTER_S else 1
            self.problem, self.due, self.waits = problem, None, True
            await asyncio.sleep(min(_BACKOFF_MAX_S, _BACKOFF_FIRST_S * 2.0 ** (failures - 1)))
            self.restarts += 1
            self.waits = False
            log.warning("starting a part again", part=self.name, restarts=self.restarts)

    def _calm(self) -> None:
        self.problem = None


class Parts:
    """All long-lived tasks of one daemon."""

    def __init__(self) -> None:
        self._parts: dict[str, Part] = {}

    def start(self, name: str, run: Run, *, once: bool = False) -> Part:
        """Start a part; with `once` it may return when it is done. One that runs is kept."""
        part = self._parts.get(name)
        if part is None or part.done or part.leaves:
            part = self._parts[name] = Part(name, run, once)
        return part

    async def stop(self, but: Collection[Part | None] = ()) -> None:
        """End all but these, and wait for that."""
        ending = [part for part in self._parts.values() if part not in but]
        for part in ending:
            part.cancel()
        for part in ending:
            await part.ended()

    def all(self) -> list[Part]:
        """Those that run or shall run, by name. May be called in a thread."""
        found = sorted(self._parts.copy().items())
        return [part for _, part in found if not part.done]

    def overdue(self) -> list[str]:
        """The names of those that should have been heard of."""
        return [part.name for part in self.all() if part.overdue]

    def warnings(self) -> list[str]:
        """A sentence for each that is not as it should be."""
        found = []
        for part in self.all():
            if part.problem is not None:
                found.append(f"the part {part.name!r} was started again: {part.problem}")
            if part.overdue:
                found.append(f"the part {part.name!r} has not been heard of in time: it hangs")
        return found
