"""How many may ask at once: who waits is counted apart, and who has to be heard has a place.

A question is bounded while it is answered, and not by its connection: who has one and says nothing
takes nobody's place. Called by `reconciler.reporting.control.control_socket`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from reconciler.reporting.control.refusals import RefusedRequestError
from schemas.messages import control

# Each of them looks again at whatever is announced, and twice a second.
_WAITING_MAX = 128
_ASKING_MAX = 64
_KEPT_MAX = 16
# What ends or relieves something, and what tells why it should.
_KEPT = (
    control.StatusRequest,
    control.DrainRequest,
    control.UndrainRequest,
    control.RetryRequest,
    control.StopRequest,
)


@dataclass(slots=True)
class _Places:
    """So many of a sort."""

    doing: str
    most: int
    taken: int = 0

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1


class Askers:
    """Those whose questions are being answered."""

    def __init__(self) -> None:
        self._waiting = _Places("wait", _WAITING_MAX)
        self._asking = _Places("ask", _ASKING_MAX)
        self._kept = _Places("ask", _KEPT_MAX)

    def place_for(self, request: control.Request) -> contextlib.AbstractContextManager[None]:
        """A place to be held until the answer is read. Raises `RefusedRequestError`."""
        waits = isinstance(request, control.WaitRequest) or (
            isinstance(request, control.DrainRequest) and request.wait
        )
        sorts = [self._waiting] if waits else [self._asking]
        if isinstance(request, _KEPT) and not waits:
            sorts.append(self._kept)
        for places in sorts:
            if places.taken < places.most:
                return places.hold()
        told = sorts[0]
        raise RefusedRequestError("busy", f"{told.most} {told.doing} at once already: try again")
