"""Which backends are drained, from workers, where the state directory has lost it or is older.

Workers keep what the daemon keeps of its drains, with a number that grows. Whoever has the highest
knows best: so a drain that was ended since a backup was made does not come back with it. Called by
`reconciler.loop.repair.recovery`, before anybody else reads what is kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

from reconciler import log
from reconciler.patience import within
from reconciler.storage.file.database import DamagedError
from reconciler.storage.kept.drains import NAME, parsed
from reconciler.storage.store import Store
from reconciler.workers.linked.link import Link, WorkerGoneError
from schemas.messages import wire

_TOLD_S = 5.0
_NAMES_MAX = 5


async def take_back(store: Store, links: Sequence[Link], *, are_all: bool) -> None:
    """Keep what workers know of drains, where that is newer.

    `are_all`: none serves that speaks another protocol.
    """
    kept = _number_of_kept(store)
    told = await asyncio.gather(*(_recall(link) for link in links))
    known = [text for text in told if text is not None]
    newest = max(known, key=_number_of, default="")
    if _number_of(newest) > max(kept, 0):
        _keep(store, newest)
    elif kept < 0 and store.running.is_empty and not (are_all and len(known) == len(told)):
        store.notes.add(
            f"the state in {store.place.directory} knows of no drains, and not all workers can "
            "tell which backends they drain"
        )


def _keep(store: Store, text: str) -> None:
    try:
        store.keep(NAME, text)
    except OSError as error:
        log.warning("the drains that workers have cannot be written", reason=error)
        return
    drains, now = parsed(text)[1].values(), datetime.now(UTC)
    over = sorted(each.backend for each in drains if each.is_over(now))
    left = sorted(each.backend for each in drains if not each.is_over(now))
    ended = f"; meanwhile ended: {_shown(over)}" if over else ""
    store.notes.add(
        f"the drains in {store.place.directory} were lost or are older, and are taken back from "
        f"workers: {_shown(left)}{ended}"
    )


def _shown(names: list[str]) -> str:
    more = f" and {len(names) - _NAMES_MAX} more" if len(names) > _NAMES_MAX else ""
    return f"{', '.join(names[:_NAMES_MAX]) or 'none'}{more}"


def _number_of_kept(store: Store) -> int:
    """-1 where nothing is kept, or it cannot be read."""
    try:
        text = store.kept(NAME)
    except (DamagedError, OSError):
        return -1
    return -1 if text is None else _number_of(text)


def _number_of(text: str) -> int:
    """-1 of what is not kept by this version."""
    try:
        return parsed(text)[0]
    except (ValueError, TypeError):
        return -1


async def _recall(link: Link) -> str | None:
    """What a worker has been told last; empty when nothing was, None when it does not say."""
    try:
        async with within(_TOLD_S):
            reply = await link.ask(wire.Recall())
    except (TimeoutError, WorkerGoneError):
        return None
    return reply.kept if isinstance(reply, wire.Recalled) else None
