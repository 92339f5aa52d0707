"""One worker that has said welcome: its link, its process, and what it holds.

Made by `reconciler.workers.supervisor`, asked by `reconciler.transaction`.
"""

from __future__ import annotations

from reconciler.workers.link import Link
from reconciler.workers.process import Process
from schemas import wire
from schemas.state import EMPTY_DIGEST


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
        self.leaving = False
        # Why somebody wants another one in its place.
        self.unwanted = ""

    @property
    def serves(self) -> bool:
        """Whether it holds a commit, so that requests depend on it."""
        return self.digest != EMPTY_DIGEST

    @property
    def name(self) -> str:
        """For messages."""
        return f"worker {self.id}"
