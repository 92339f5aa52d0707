"""The newest commit of what is followed, asked for so that a repository that hangs holds up nobody.

Called by `reconciler.loop.reconcile` at each look, and by `reconciler.loop.large.loading`, which
gives up what is no longer the newest; before questions, through a Protocol, by
`reconciler.reporting.control`.
"""

from __future__ import annotations

import contextlib

from reconciler.source.git.repository_errors import RepositoryError
from reconciler.source.probing import Probe, StalledError
from reconciler.source.source import Head, Source

# Who asks shall not wait for as long as a look does.
_QUESTION_S = 1.0


class NewestCommit:
    """Finds it."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._probe = Probe(source.probe)

    async def head(self) -> Head:
        """Return it. Raises `RepositoryError`; nothing touches a repository that hangs."""
        await self._answered()
        return self._source.head()

    async def asked(self) -> None:
        """Have a thread see whether the repository answers, for whoever asks it next on the loop.

        While it does not, that is refused to him; looks find out when it does again.
        """
        if not self._source.is_stalled:
            with contextlib.suppress(StalledError):
                await self._answered(_QUESTION_S)

    async def _answered(self, within_s: float | None = None) -> None:
        try:
            await self._probe.wait(within_s)
        except StalledError as error:
            self._source.probed(stalled=str(error))
            raise
        self._source.probed(stalled=None)

    async def commit(self) -> str | None:
        """Return its id, if it can be told."""
        try:
            return (await self.head()).commit
        except RepositoryError:
            return None
