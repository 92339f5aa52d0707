"""Which database is open now, and what runs by it: for those who may ask and change neither.

Written by `reconciler.storage.opened`; what keeps contents, and what meets damage, is given this.
"""

from __future__ import annotations

from reconciler.storage.file.database import DamagedError, Database
from reconciler.storage.file.place import Place
from reconciler.storage.reading.running import Running


class OpenDatabase:
    """The database of the state directory, or one that stands in for it."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self.home = self.database = Database(place.directory)

    @property
    def is_home(self) -> bool:
        """Whether it is the state directory's own."""
        return self.database is self.home

    def refuse_silent(self) -> None:
        """Raises `OSError` where what would be read does not answer."""
        if self.is_home:
            self._place.ask()


class CurrentState:
    """What runs by it, as soon as that was read."""

    running: Running

    def needs(self, digest: str) -> bool:
        """Whether what runs names a content."""
        try:
            return bool(self.running.state.related("content", digest))
        except DamagedError:
            # Who cannot tell throws nothing away.
            return True
