"""A state database written anew, aside: all that runs, in a file of its own.

It takes a large site some seconds, so it is done in a thread, with a connection of its own, while
the loop is free; the file then takes the place of the damaged one. Called by
`reconciler.storage.store`.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from reconciler.durable import make_own_directory
from reconciler.storage.file.database import Database, translated
from reconciler.storage.reading.header import Header
from reconciler.storage.writing.writer import Relate, Writer
from schemas.entities.entity import Entity, EntityKey, Mark

DIRECTORY = "anew"


def remove_leftover(place: Path) -> None:
    """Of a daemon that was killed while it wrote one."""
    shutil.rmtree(place / DIRECTORY, ignore_errors=True)


class Anew:
    """A directory below that of the state, removed with whatever is left in it."""

    def __init__(self, place: Path) -> None:
        """Raises `OSError`."""
        remove_leftover(place)
        self._directory = place / DIRECTORY
        make_own_directory(self._directory)
        self._database = Database(self._directory)

    @property
    def path(self) -> Path:
        """The file, once it is filled."""
        return self._database.path

    def fill(
        self,
        relate: Relate,
        header: Header,
        entities: Sequence[Entity],
        files: Mapping[str, Mapping[EntityKey, Mark]],
    ) -> None:
        """Write it all; for any thread. Raises `OSError`."""
        with translated(), contextlib.closing(self._database.open()) as connection:
            writer = Writer(connection, relate)
            with writer.transaction():
                writer.files(files, whole=True)
                writer.everything(entities)
                writer.header(header)
        # Closed by its last user, it has no log any more.

    def remove(self) -> None:
        """It is in its place, or was in vain."""
        remove_leftover(self._directory.parent)


@contextmanager
def aside(place: Path) -> Iterator[Anew]:
    """Within, there is one. Raises `OSError`."""
    made = Anew(place)
    try:
        yield made
    finally:
        made.remove()
