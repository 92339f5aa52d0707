"""Makes stdout and stderr such that writing cannot end in a traceback, whatever they are.

A stream that is closed is one that nobody reads; what its encoding has not is escaped; one that is
full is told once. Called by `main`, before and behind the command.
"""

import io
import os
import sys

_NAMES = {1: "stdout", 2: "stderr"}


def prepare() -> None:
    """Replace what is closed, before a socket gets its number, and escape what cannot be said."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            # The lowest number that is free is this one; whom we start shall have it as well.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    for number, name in _NAMES.items():
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, os.fdopen(number, "w", encoding="utf-8", closefd=False))
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def abandon() -> None:
    """Drop what is still to be written to stdout: Python would complain about it at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)


def is_unicode(stream: object) -> bool:
    """Tell whether a stream can say everything."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return encoding.lower().replace("-", "").startswith("utf")
