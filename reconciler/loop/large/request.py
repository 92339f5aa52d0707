"""What a process is asked that stages a large commit: the words of one line of JSON.

Apart from `loader` beside, who is asked, since hardly any daemon has such a commit, and what the
loader imports would be a part of each start. Written by `loading`.
"""

from __future__ import annotations

from pathlib import Path

from reconciler.materials.completing import Machine
from reconciler.materials.sealed import Keyring
from schemas.record import record


@record
class Request:
    """What is to be staged; paths as text."""

    directory: str
    base: str | None
    """The tree that runs; None stages all files."""
    tree: str
    touched: list[str]
    database: str
    place: str
    """The directory for the files of a load."""
    identity: str | None
    has_keyring: bool
    issued: str | None
    fetched: str | None

    @property
    def machine(self) -> Machine:
        """What certificates are completed by."""
        identity = Path(self.identity) if self.identity else None
        keyring = Keyring(identity) if self.has_keyring else None
        issued, fetched = (Path(it) if it else None for it in (self.issued, self.fetched))
        return Machine(keyring, issued, fetched)
