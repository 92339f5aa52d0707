"""Fetches the remote every so often, if there is one. Called by `reconciler.daemon`."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable

from reconciler import log
from reconciler.parts import heard_again_within
from reconciler.presence import is_there
from reconciler.source.git.repository import Repository
from reconciler.source.git.repository_errors import RepositoryError
from reconciler.source.remote.git_fetch import FETCH_TIMEOUT_S, fetch
from reconciler.source.source import Source
from reconciler.storage.kept.history import now
from schemas.entities.secrecy import without_credentials

INTERVAL_S = 30.0


class Fetching:
    """The loop around `fetch`. Logs when failing begins and when it ends."""

    def __init__(self, remote: str | None, interval_s: float | None) -> None:
        self._remote = remote
        self._interval_s = interval_s or INTERVAL_S
        self._asked = asyncio.Event()
        self.fetched_at: str | None = None

    @property
    def shown_remote(self) -> str | None:
        """The remote as people may see it: a URL may have a password in it."""
        return None if self._remote is None else without_credentials(self._remote)

    def fetch_now(self) -> str | None:
        """Fetch without waiting for the next time; return the remote, if there is one."""
        self._asked.set()
        return self.shown_remote

    async def run(self, source: Source, woken: Callable[[], None]) -> None:
        """Fetch again and again, until cancelled."""
        if self._remote is None:
            return
        while True:
            heard_again_within(self._interval_s + 2 * FETCH_TIMEOUT_S)
            # What is asked from here on may come too late for this one.
            self._asked.clear()
            try:
                repository = source.repository
                _check_name(self._remote, repository)
                await fetch(repository.common_dir, self._remote, source.branch)
                self.fetched_at = now()
                problem = None
            except RepositoryError as error:
                problem = str(error)
            self._log(source.fetch_problem, problem)
            source.fetched(problem)
            woken()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._interval_s):
                    await self._asked.wait()

    def _log(self, before: str | None, problem: str | None) -> None:
        if before is None and problem is not None:
            log.warning("fetching fails", reason=problem)
        elif before is not None and problem is None:
            log.info("fetching works again", remote=self.shown_remote)


def _check_name(remote: str, repository: Repository) -> None:
    """Git takes any name that it does not know for a directory, and says so in a puzzling way."""
    names = repository.refs.remotes()
    if remote in names or re.search("[:/]", remote) or is_there(remote):
        return
    known = f"there is {', '.join(names)}" if names else "there is none"
    raise RepositoryError(f"{repository.git_dir} has no remote {remote!r} ({known})")
