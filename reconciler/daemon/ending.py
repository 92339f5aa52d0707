"""Whether the daemon is to end, with its workers or without them, and that it has.

Asked by signals, by the control socket, and where another daemon has taken the workers over;
awaited by `daemon` beside.
"""

from __future__ import annotations

import asyncio


class Ending:
    """The first who asks decides what becomes of the workers."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self._asked: asyncio.Future[bool] = loop.create_future()
        self._over: asyncio.Future[None] = loop.create_future()

    @property
    def has_begun(self) -> bool:
        """Whether somebody has asked."""
        return self._asked.done()

    def ask(self, *, drain: bool) -> None:
        """`drain`: the workers end as well, when their requests have."""
        if not self._asked.done():
            self._asked.set_result(drain)

    async def asked(self) -> bool:
        """Wait until somebody has; return whether the workers end as well."""
        return await self._asked

    def stop(self) -> asyncio.Future[None]:
        """Have all of it end; what is returned is done when it has."""
        self.ask(drain=True)
        return asyncio.shield(self._over)

    def over(self) -> None:
        """Tell who waits that nothing is left."""
        if not self._over.done():
            self._over.set_result(None)
