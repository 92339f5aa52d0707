"""The errors of the control plane, each with the exit code that the command line gives it.

One class for each party or reason that can be to blame; design §7 fixes the codes. A program error
is none of these: it ends in a traceback.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from schemas.diagnostic import Diagnostic

EXIT_OK = 0
EXIT_CHANGES = 2


class KakehiError(Exception):
    """Base of all errors that are expected and have a plain sentence."""

    exit_code: ClassVar[int] = 1


class MachineError(KakehiError):
    """The machine did not do its part: a file, a socket, a disk, the git program."""

    exit_code = 1


class ConfigError(KakehiError):
    """The configuration is invalid; carries every diagnostic, not only the first."""

    exit_code = 3

    def __init__(self, diagnostics: Iterable[Diagnostic]) -> None:
        self.diagnostics = tuple(diagnostics)
        super().__init__("\n".join(diagnostic.render() for diagnostic in self.diagnostics))

    @property
    def errors(self) -> tuple[Diagnostic, ...]:
        """The diagnostics that refuse the configuration."""
        return tuple(found for found in self.diagnostics if found.severity == "error")


class BlockedError(KakehiError):
    """A guard refuses a plan that is valid and looks like an accident."""

    exit_code = 4


class StalePlanError(KakehiError):
    """What the plan was made against is not what runs any more."""

    exit_code = 5


class TransactionError(KakehiError):
    """The workers did not take the commit: refused, aborted or rolled back."""

    exit_code = 6


class PolicyError(KakehiError):
    """A signature or a policy forbids the commit."""

    exit_code = 7


class DeadlineError(KakehiError):
    """What was waited for did not happen in time."""

    exit_code = 8


class DriftError(KakehiError):
    """A worker holds something that no commit put there."""

    exit_code = 9


class UsageError(KakehiError):
    """The command was called in a way that makes no sense."""

    exit_code = 64
