"""The exit codes of every command, and the exception that carries one to `main`.

They are part of the contract with scripts: a code never changes its meaning.
"""

from typing import Any

DONE = 0
"""Done, or nothing to change."""
FAILED = 1
"""Kakehi or the system failed: no daemon, an I/O error, a bug."""
CHANGES = 2
"""There are changes; only with `plan --detailed-exitcode`."""
INVALID = 3
"""The configuration is invalid."""
BLOCKED = 4
"""A guard refuses the plan."""
STALE = 5
"""The plan was made for another state than the one that runs by now."""
REFUSED = 6
"""The transaction was refused, aborted or rolled back."""
TIMEOUT = 8
"""It did not happen in the time given."""
DRIFT = 9
"""A worker runs something other than what was committed; only with `--detailed-exitcode`."""
USAGE = 64
"""The command line itself is wrong."""
INTERRUPTED = 130
"""Ctrl-C, as shells count it: 128 + SIGINT. Where nothing is to be put in order, the signal ends
the process, for which they say the same."""


class CommandError(Exception):
    """Ends a command: one sentence of what is wrong, how to mend it, and the exit code."""

    report: dict[str, Any] | None = None
    """What `--json` prints in place of the error itself."""

    def __init__(self, message: str, hint: str | None = None, code: int = FAILED) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code

    def with_report(self, report: dict[str, Any]) -> "CommandError":
        """Return the error with the result that came all the same."""
        self.report = report
        return self

    def to_json(self) -> dict[str, Any]:
        """Return the form of `--json` output."""
        return {"exit_code": self.code, "message": self.message, "hint": self.hint}


class UsageError(CommandError):
    """The command line cannot be understood."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message, hint, USAGE)
