"""Why a request gets no result, and the question for what was meant.

For `reconciler.reporting.control.answers` and `draining`; `control_socket` tells it.
"""

from __future__ import annotations

from reconciler.language.suggest import CANDIDATES_MAX, did_you_mean
from reconciler.storage.reading.state import StoredState
from schemas.messages import control


class RefusedRequestError(Exception):
    """The answer is an error, with its code."""

    def __init__(self, code: control.ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code: control.ErrorCode = code


def near(state: StoredState, kind: str, name: str) -> str:
    """The question for the entity that was meant, if that is quickly found."""
    meant = None
    if state.count(kind) <= CANDIDATES_MAX:
        meant = did_you_mean(name, state.names(kind))
    return f"; {meant}" if meant else ""
