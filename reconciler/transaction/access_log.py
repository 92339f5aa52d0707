"""Whether workers could open the access log of a plan: tried without any effect that lasts.

Called by `reconciler.transaction.runner`, and by `reconciler.daemon` for `status`.
"""

from __future__ import annotations

import errno
import os
import secrets
from pathlib import Path

from reconciler.stalling import DOES_NOT_ANSWER, answer_of


def unwritable(access_log: str) -> str | None:
    """Return why workers could not open it, as far as that can be told without making it."""
    if not access_log.startswith("/"):
        return None
    return answer_of(access_log, _unwritable, _unanswered(access_log))


def silent(access_log: str) -> str | None:
    """Return why whoever opened it would hang; None where it answers, whatever it says."""
    reason = unwritable(access_log)
    return reason if reason == _unanswered(access_log) else None


def _unanswered(access_log: str) -> str:
    return f"cannot open the access log {access_log}: {DOES_NOT_ANSWER}"


def _unwritable(access_log: str) -> str | None:
    try:
        os.close(os.open(access_log, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_CLOEXEC))
    except FileNotFoundError:
        # A link may lead to where it is to be made.
        reason = _unmakeable(Path(access_log).resolve().parent)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return f"cannot open the access log {access_log}: it is a pipe, and nobody reads it"
        reason = error.errno
    else:
        return None
    if reason is None:
        return None
    return f"cannot open the access log {access_log}: {os.strerror(reason).lower()}"


def _unmakeable(directory: Path) -> int | None:
    """Why no file can be made in a directory: tried by one without a name, which nobody sees.

    Where the file system has none of these, by one with a name, for a moment.
    """
    try:
        os.close(os.open(directory, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC))
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR):
            return error.errno
    else:
        return None
    named = directory / f".kakehi-{secrets.token_hex(8)}"
    try:
        os.close(os.open(named, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        named.unlink()
    except OSError as error:
        return error.errno
    return None
