"""What a start says of a working tree: what is not in the commit that will be served.

Nobody waits for it: a repository that does not answer is not asked, and a look that would be long
is given up. Called by `reconciler.cli.commands.run`.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from reconciler.cli import output
from reconciler.cli.trees.working_tree import WorkingTree
from reconciler.daemon.options import DaemonOptions
from reconciler.source.git.repository_errors import RepositoryError
from reconciler.source.probing import answers
from reconciler.source.source import Source

FILES_MAX = 20_000
"""In a larger working tree nobody waits for what is not committed to be found."""
TELLING_S = 3.0
"""Nor for longer."""
ANSWERS_S = 1.0
"""A repository that does not answer for so long is not asked."""
_AGAIN_S = 0.1


def tell_uncommitted(options: DaemonOptions) -> None:
    """Say what is not in the commit that will be served."""
    directory = options.directory.absolute()
    source = Source(directory, options.ref, options.remote)
    if not answers(source.probe, ANSWERS_S):
        # The daemon tells.
        return
    try:
        with _at_most(TELLING_S):
            head = source.head().commit
            if source.repository.git.is_bare:
                return
            tree = WorkingTree(directory)
            # Without a checkout nobody edits here, and all of the commit would differ.
            few = 0 < tree.size <= FILES_MAX
            text = tree.differing(head).sentence(source.shown_ref) if few else None
    except RepositoryError:
        # The daemon tells.
        text = None
    except Exception as error:  # noqa: BLE001  # what only people edit keeps nobody from serving
        text = f"it is not known what is not committed: {error}"
    if text is not None:
        output.note(f"kakehi run: {text}")


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Raise `TimeoutError` in what takes longer, also where it waits for the reader of a pipe."""

    def over(*_: object) -> None:
        if signal.setitimer(signal.ITIMER_REAL, 0) != (0.0, 0.0):
            raise TimeoutError(f"that took over {seconds:g} s")

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
