"""Sees to it that the keys of issuers which are named by URL are there, and of today.

What was fetched is a file in the state directory, which `reconciler.loop.renewing` takes over as it
does any file outside of the repository: by a transaction of what names it, on all workers at once.
So it is fetched once for the host, and what was fetched last counts over restarts, and for as long
as nothing better is had. What nobody names any more stays for a while, for who takes a commit
back. Called by `reconciler.daemon`; `wake` after each change of the state.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

from reconciler import log
from reconciler.issuers.fetch import FETCH_TIMEOUT_S, TOO_LATE, FetchError, fetch
from reconciler.issuers.stored import StoredKeys, fetched_at
from reconciler.materials import jwks
from reconciler.own_threads import OwnThreads
from reconciler.parts import heard_again_within
from reconciler.patience import within
from schemas.record import record

DIRECTORY = "issuers"
UNKNOWN_KEYS = "tokens_unknown_key_total"
"""Counts tokens that name keys which nobody knows, in the memory of a worker."""
REFRESH_S = 300.0
"""An issuer shows a key for longer than that before it signs by it."""
HINT_PAUSE_S = 30.0
"""So long a set is left alone, whatever keys tokens name: anybody can name one."""
UNNAMED_S = 3600.0
"""So long a set stays that nobody names: years later it would say who was trusted then."""
_UNNAMED_MAX = 64
_FIRST_RETRY_S = 5.0
_DOUBLINGS_MAX = 6
_AT_ONCE = 16
# Who did not answer keeps nobody waiting who does.
_AGAIN_AT_ONCE = 4
# How often it is looked at whether tokens have named unknown keys, and how long nobody does
# anything where no keys are fetched.
_HINT_S = 2.0
_LOOK_S = 60.0


def fetched_directory(state_dir: Path) -> Path:
    """Where sets of keys lie that were fetched."""
    return state_dir / DIRECTORY


@record
class WantedKeys:
    """A set of keys that somebody names: what is at a URL, as `ca` vouches for it."""

    url: str
    path: str
    """Where it is put."""
    ca: str | None = None

    @property
    def told(self) -> str:
        """As `status` names it."""
        return self.url if self.ca is None else f"{self.url} (ca: {self.ca})"


@dataclass(slots=True)
class _Kept:
    """What is known of one set."""

    wanted: WantedKeys
    due: float
    tried: float = -HINT_PAUSE_S
    failures: int = 0
    problem: str | None = None
    since: datetime | None = None
    """When what lies there was fetched, as of the last attempt."""
    task: asyncio.Task[None] | None = None

    @property
    def running(self) -> bool:
        """Whether it is being fetched."""
        return self.task is not None and not self.task.done()

    def leave(self) -> None:
        """Nobody wants it any more."""
        if self.task is not None:
            self.task.cancel()


class IssuerKeys:
    """All sets of keys that are fetched, of one daemon."""

    def __init__(
        self,
        directory: Path,
        wanted: Callable[[], Mapping[str, WantedKeys]],
        unknown: Callable[[], int],
        came: Callable[[], None],
    ) -> None:
        """`wanted` gives the sets by their paths, which lie in `directory`; `unknown` counts tokens
        by unknown keys; `came` is called when a file is another one.
        """
        self._wanted = wanted
        self._unknown = unknown
        self._came = came
        self._stored = StoredKeys(directory)
        self._kept: dict[str, _Kept] = {}
        # By path, until when what nobody names stays, in this order.
        self._unnamed: dict[str, float] = {}
        self._removing: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._at_once = asyncio.Semaphore(_AT_ONCE)
        self._again_at_once = asyncio.Semaphore(_AGAIN_AT_ONCE)
        self._counted = 0
        self._threads = OwnThreads("keys", FetchError)
        self._loop = asyncio.get_running_loop()

    def wake(self) -> None:
        """The configuration may have changed."""
        self._wake.set()

    def retry(self) -> None:
        """Fetch now what could not be fetched."""
        for each in self._kept.values():
            if each.problem is not None:
                each.due = self._loop.time()
        self._wake.set()

    def warnings(self) -> list[str]:
        """A sentence for each set that could not be fetched."""
        return [
            f"the keys of {told} could not be fetched: {each.problem}; {self._meanwhile(each)}"
            for told, each in sorted((it.wanted.told, it) for it in self._kept.values())
            if each.problem is not None
        ]

    def failures(self) -> dict[str, int]:
        """By URL, how often in a row it could not be fetched. May be called in a thread.

        Where several trust others there, that of whom it is worst for.
        """
        found: dict[str, int] = {}
        for each in list(self._kept.values()):
            found[each.wanted.url] = max(each.failures, found.get(each.wanted.url, 0))
        return found

    async def run(self) -> None:
        """Fetch what is due, until cancelled."""
        heard_again_within(2 * _LOOK_S)
        try:
            await self._find_unnamed()
            while True:
                heard_again_within(2 * _LOOK_S)
                self._wake.clear()
                self._look()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_HINT_S if self._kept else _LOOK_S):
                        await self._wake.wait()
        finally:
            for each in self._kept.values():
                each.leave()

    def _look(self) -> None:
        now, found = self._loop.time(), self._wanted()
        for path in self._kept.keys() - found.keys():
            self._kept.pop(path).leave()
            self._unnamed[path] = now + UNNAMED_S
        self._forget(found, now)
        counted = self._unknown() if found else self._counted
        is_asked_for = counted > self._counted
        # That of a worker that has ended is gone.
        self._counted = counted
        for path, wanted in found.items():
            kept = self._kept.setdefault(path, _Kept(wanted, due=now))
            if is_asked_for:
                kept.due = min(kept.due, kept.tried + HINT_PAUSE_S)
            if kept.due <= now and not kept.running:
                kept.tried = now
                kept.task = self._loop.create_task(self._attend(kept))

    async def _find_unnamed(self) -> None:
        """What lies there from before: it has the same time from now on."""
        until = self._loop.time() + UNNAMED_S
        with contextlib.suppress(TimeoutError, OSError, FetchError):
            async with within(_LOOK_S):
                for path in await self._threads.run(self._stored.paths):
                    self._unnamed.setdefault(path, until)

    def _forget(self, named: Iterable[str], now: float) -> None:
        """Take away what nobody has named for long, and the first of very many."""
        for path in named:
            self._unnamed.pop(path, None)
        if self._removing is not None and not self._removing.done():
            return
        many = len(self._unnamed) - _UNNAMED_MAX
        gone = [
            path
            for number, (path, until) in enumerate(self._unnamed.items())
            if until <= now or number < many
        ]
        if gone:
            self._removing = self._loop.create_task(self._remove(gone))

    async def _remove(self, paths: list[str]) -> None:
        for path in paths:
            # If it stays, another try comes behind all others.
            del self._unnamed[path]
        try:
            async with within(_LOOK_S):
                await self._threads.run(partial(self._stored.remove, paths))
        except (OSError, TimeoutError, FetchError) as error:
            log.warning(
                "keys that nobody names could not be removed", reason=str(error) or TOO_LATE
            )
            until = self._loop.time() + UNNAMED_S
            self._unnamed |= dict.fromkeys(paths, until)
        else:
            log.info("keys that nobody names were removed", sets=len(paths))

    async def _attend(self, kept: _Kept) -> None:
        wanted = kept.wanted
        try:
            # A name that is looked up for ever is ended by nobody else.
            line = self._again_at_once if kept.failures else self._at_once
            async with line, within(2 * FETCH_TIMEOUT_S):
                kept.since = await self._threads.run(partial(fetched_at, wanted.path))
                content = await self._threads.run(partial(_fetched, wanted))
                keep = partial(self._stored.keep, Path(wanted.path), content)
                is_new = await self._threads.run(keep)
            if is_new:
                log.info("keys have changed", url=wanted.told)
                self._came()
        except FetchError as error:
            self._failed(kept, str(error))
        except TimeoutError:
            self._failed(kept, TOO_LATE)
        except OSError as error:
            self._failed(kept, f"they cannot be kept: {error.strerror or error}")
        except Exception as error:  # noqa: BLE001  # one set must not end the others
            self._failed(kept, log.internal_error("fetching keys", error))
        else:
            kept.failures, kept.problem = 0, None
            kept.due = self._loop.time() + _spread(REFRESH_S)

    def _failed(self, kept: _Kept, problem: str) -> None:
        kept.failures += 1
        if kept.problem != problem:
            log.warning("no keys were fetched", url=kept.wanted.told, reason=problem)
        kept.problem = problem
        pause = _FIRST_RETRY_S * 2 ** min(kept.failures - 1, _DOUBLINGS_MAX)
        kept.due = self._loop.time() + _spread(min(pause, REFRESH_S))

    def _meanwhile(self, kept: _Kept) -> str:
        if kept.since is not None:
            return f"those of {kept.since:%Y-%m-%d %H:%M} UTC count"
        return "requests that need them get 503"


def _fetched(wanted: WantedKeys) -> bytes:
    """Return a set of keys. Blocking; raises `FetchError`."""
    content = fetch(wanted.url, wanted.ca)
    wrong = [each for each in jwks.check(content, "keys") if each.severity == "error"]
    if wrong:
        raise FetchError(wrong[0].message)
    return content


def _spread(seconds: float) -> float:
    return seconds * random.uniform(0.9, 1.1)  # noqa: S311  # not all hosts at once
