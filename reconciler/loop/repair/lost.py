"""What a start has lost that nobody gives back: told by what the repository and workers know.

State comes back from workers or from the repository. History, drains and the memory of which branch
was followed are in the state database alone, so that its loss is to be told, even where all that is
served is as before. The ref of the applied commit is moved behind each commit record: whoever knows
of less has lost its end, or is of a backup. Called by `reconciler.daemon.starting`.
"""

from __future__ import annotations

import contextlib

from reconciler.loop.applied_ref import kept_id, newest_on, place
from reconciler.source.following import NAME as FOLLOWED
from reconciler.source.git.applied import APPLIED_REF, Applier
from reconciler.source.git.repository_errors import RepositoryError
from reconciler.source.source import Source
from reconciler.storage.file.database import DamagedError
from reconciler.storage.kept.drains import NAME as DRAINS
from reconciler.storage.store import Store


def lost_since(store: Store, source: Source) -> str | None:
    """What to say when the repository knows of a commit that the database does not.

    What workers hold has been asked before.
    """
    try:
        return _is_older(store, source) if store.running.commit else _is_empty(store, source)
    except RepositoryError:
        return None


def _is_older(store: Store, source: Source) -> str | None:
    commit, known = store.running.commit, kept_id(store)
    if commit is None or known is None:
        return None
    # Another daemon may follow another branch of it.
    ref = source.repository.applied.by(Applier(known, source.follows))
    applied = source.head_of(ref).commit if ref else commit
    if applied == commit or not source.is_descendant(applied, commit):
        return None
    return (
        f"the state in {store.place.directory} is older than the repository's {APPLIED_REF}: it "
        f"has {commit[:12]}, and {applied[:12]} was applied after it; history and drains since "
        "then are lost"
    )


def _is_empty(store: Store, source: Source) -> str | None:
    directory, known = store.place.directory, kept_id(store)
    if not store.running.is_empty:
        # It is known not to be that of a commit, and nothing else of it is lost.
        return None
    ref = source.repository.applied.by(Applier(known, source.follows)) if known else None
    other = ""
    if ref is None:
        # By what we knew our own is lost as well, or this is a first start.
        found = newest_on(source)
        if found is None:
            return None
        ref = found.ref
        where = found.by.place if found.by else ""
        if where not in ("", place(directory)):
            other = f", unless it was another daemon that applied it, of {where}"
    what = lost_of(store, source)
    return what and (
        f"the state in {directory} holds no commit, though {APPLIED_REF} of the repository "
        f"names {source.head_of(ref).commit[:12]} as applied: {what} lost{other}"
    )


def lost_of(store: Store, source: Source) -> str | None:
    """What is not in a database which has had it before, as the beginning of a sentence."""
    lost = []
    if store.is_home_unread:
        # It lies there, and comes back when that can be read.
        return None
    with contextlib.suppress(DamagedError, OSError):
        if store.running.history.last_told() is None:
            lost.append("its history")
    with contextlib.suppress(DamagedError, OSError):
        # Where there never was one, nothing is kept: with the history at hand nobody has lost any.
        if lost and store.kept(DRAINS) is None:
            lost.append("its drains")
    with contextlib.suppress(DamagedError, OSError):
        if store.kept(FOLLOWED) is None:
            lost.append(f"which branch was followed (now {source.shown_ref})")
    if not lost:
        return None
    *others, last = lost
    return f"{', '.join(others)} and {last} are" if others else f"{last} is"
