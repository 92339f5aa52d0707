"""The newest commit of what is followed, asked for so that a repository that hangs holds up nobody.

Called by `reconciler.loop.reconcile` at each look, and by `reconciler.loop.large.loading`, which
gives up what is no longer the newest.
"""

from __future__ import annotations

from reconciler.source.git.errors import RepositoryError
from reconciler.source.probing import Probe, StalledError
from reconciler.source.source import Head, Source


class NewestCommit:
    """Finds it."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._probe = Probe(source.probe)

    async def head(self) -> Head:
        """Return it. Raises `RepositoryError`; nothing touches a repository that hangs."""
        try:
            await self._probe.wait()
        except StalledError as error:
            self._source.probed(stalled=str(error))
            raise
        self._source.probed(stalled=None)
        return self._source.head()

    async def commit(self) -> str | None:
        """Return its id, if it can be told."""
        try:
            return (await self.head()).commit
        except RepositoryError:
            return None
