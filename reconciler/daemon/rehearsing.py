"""What the first change would wait for, made while nobody waits: behind a start, once it is ready.

What compares is imported, the models of what runs and the messages of a transaction are built, and
what a change does is done to a file as it is, and taken back. Called by `daemon` beside.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Iterator
from typing import get_args

from pydantic import BaseModel

from reconciler.loop.stager import Stager
from reconciler.planning import differ
from reconciler.source.git.repository_errors import RepositoryError
from reconciler.storage.file.database import DamagedError
from reconciler.storage.store import Store
from schemas.changes.state import Entities
from schemas.kinds.registry import MODELS
from schemas.messages import wire


async def rehearse(store: Store, stager: Stager) -> None:
    """There is a state, of some generation."""
    await asyncio.to_thread(differ.load)
    # What cannot be read is found by the change as well, and told then.
    with (
        contextlib.suppress(RepositoryError, DamagedError, OSError),
        store.snapshot() as seen,
    ):
        for model in unbuilt(seen.state):
            model.model_rebuild()
            # Whoever waits for the loop waits for one of them.
            await asyncio.sleep(0)
        stager.rehearse(seen)
        store.rehearse()
    gc.collect()
    gc.freeze()


def unbuilt(state: Entities) -> Iterator[type[BaseModel]]:
    """Yield the models that a change of what runs would build."""
    yield from (each for each in get_args(wire.ToWorker) if not each.__pydantic_complete__)
    for kind, model in MODELS.items():
        if not model.__pydantic_complete__ and state.count(kind):
            yield model
