"""The errors of the control plane that are expected: each has a plain sentence and an exit code.

What is wrong with a configuration is no exception but a diagnostic, and what becomes of a commit
is an outcome; both are values, since the daemon goes on. A program error is none of these: it ends
in a traceback.
"""

from __future__ import annotations

from typing import ClassVar


class KakehiError(Exception):
    """Base of all of them. `exit_code` is that of design §7."""

    exit_code: ClassVar[int] = 1


class MachineError(KakehiError):
    """The machine did not do its part: a file, a socket, a disk, the git program."""


class UnreadableError(Exception):
    """A file cannot be had; the message says why, without its path, and `hint` how to mend it."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint
