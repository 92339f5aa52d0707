"""One worker that has said welcome: its link, its process, and what it holds.

Made by `reconciler.workers.slots.tending`, asked by `reconciler.transaction`.
"""

from __future__ import annotations

from reconciler.workers.linked.link import Link
from reconciler.workers.processes.process import Process
from schemas.changes.state import EMPTY_DIGEST
from schemas.messages import wire


class Worker:
    """A worker that has said welcome."""

    def __init__(self, link: Link, process: Process, welcome: wire.Welcome) -> None:
        self.id = welcome.worker
        self.cpu = welcome.cpu
        self.link = link
        self.process = process
        self.generation = welcome.generation
        self.commit = welcome.commit
        self.digest = welcome.digest
        self.staged = welcome.staged
        self.serving = welcome.serving
        self.rate_table = welcome.rate_table
        self.health_table = welcome.health_table
        self.protocol = welcome.protocol
        self.without = frozenset(welcome.without)
        """Contents that were lost when it was given what names them: it does not serve that."""
        self.listening = frozenset(welcome.listeners)
        """The listeners for which it had sockets when it said welcome."""
        self.unbound: dict[str, str] = {}
        """Its listeners that take no connections, and why: what they need could not be had."""
        self.leaving = False
        self.is_silent = False
        """It has not answered for some seconds; see `reconciler.workers.watching.liveness`."""
        # Why somebody wants another one in its place.
        self.unwanted = ""

    def now_holds(self, generation: int, digest: str, commit: str) -> None:
        """It has told that it has committed this."""
        self.generation, self.digest, self.commit = generation, digest, commit
        self.staged = None

    @property
    def is_foreign(self) -> bool:
        """Whether it has other messages: it can only be left to serve, and ended."""
        return self.protocol != wire.PROTOCOL

    @property
    def serves(self) -> bool:
        """Whether requests may depend on it."""
        return self.is_foreign or (self.serving and self.digest != EMPTY_DIGEST)

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"worker {self.id}"
