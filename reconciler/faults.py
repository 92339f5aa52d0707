"""Named fault points for the fault tests: `KAKEHI_FAULT="journal.commit:crash:1"`.

`point(name)` is called at the named places of the commit path and does nothing unless the variable
was set when the process started. Actions: `crash` ends the process like SIGKILL, `raise` fails
with an OSError as a broken disk would, `delay` sleeps for a second. `nth` counts from 1.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Callable

VARIABLE = "KAKEHI_FAULT"
DELAY_S = 1.0


def _parse(text: str) -> tuple[str, str, int] | None:
    name, _, rest = text.partition(":")
    action, _, nth = rest.partition(":")
    if not name or action not in ("crash", "raise", "delay"):
        return None
    return name, action, int(nth) if nth.isdigit() else 1


def _armed(fault: tuple[str, str, int]) -> Callable[[str], None]:
    armed_name, action, left = fault

    def hit(name: str) -> None:
        nonlocal left
        if name != armed_name:
            return
        left -= 1
        if left != 0:
            return
        if action == "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        elif action == "raise":
            raise OSError(errno.EIO, f"fault injected at {name}")
        else:
            time.sleep(DELAY_S)

    return hit


def _inert(_: str) -> None:
    return


_fault = _parse(os.environ.get(VARIABLE, ""))
point: Callable[[str], None] = _armed(_fault) if _fault else _inert
