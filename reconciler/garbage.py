"""When the daemon looks for garbage: between two looks of its loop, and not in the midst of one.

Python looks by itself when there are so many more objects than before, which is while a large
commit is staged: all of these are in use then, and nobody else gets the interpreter until each was
looked at (20 ms for a thousand entities). Hardly anything of ours refers to itself, so that what
is not freed at once is little. Called by `reconciler.daemon.starting` and `reconciler.loop`.
"""

from __future__ import annotations

import gc

# So much is made by some fifty commits of one entity; to look through it takes a millisecond.
_DUE = 2_000
# Memory stays bounded where nobody comes to look.
_MOST = 1_000_000


def put_off() -> None:
    """From now on it is looked for when `collect_if_due` says so."""
    gc.set_threshold(_MOST, 10, 10)


def collect_if_due() -> None:
    """Look for it when there may be some; what a start has frozen is not looked at."""
    if gc.get_count()[0] > _DUE:
        gc.collect()
