"""Asks for what takes a while, of a daemon that may be starting, or be replaced meanwhile.

Called by the commands that wait (`wait`, `drain --wait`, `stop`): what they wait for outlives the
daemon, and another one can tell of it as well. So can it answer a question that changes nothing
(`plan`, `show`, `explain`, `history`).
"""

import time
from collections.abc import Callable
from typing import Any

from reconciler.cli.asking import BusyDaemonError, LostDaemonError, NoDaemonError, ask, is_starting
from reconciler.cli.exits import CommandError
from reconciler.cli.output import note

LOOK_S = 0.1
"""How often a daemon is looked for that does not answer yet."""

START_S = 1.0
"""Until one that was just started has its runtime directory: its imports come before."""

BUSY_S = 1.0
"""How often one is asked again that has too many who ask."""

RESTART_S = 5.0
"""The same where one has ended and its workers serve: systemd starts it again. Or where one makes
its socket anew."""

LOST_S = 15.0
"""The same where one went away while it was asked: it may take a while to end."""

LOST_MAX = 2
"""So often a question is asked again: one that a daemon would die of is not to end them all."""


def ask_next(
    runtime_dir: str | None,
    request: str,
    fields: dict[str, Any] | None = None,
    timeout_s: float = 30.0,
) -> dict[str, Any]:
    """Ask what changes nothing, and the next daemon where this one goes away meanwhile."""
    lost = 0

    def asked(left_s: float) -> dict[str, Any]:
        nonlocal lost
        try:
            return ask(runtime_dir, request, fields, left_s)
        except LostDaemonError as error:
            lost += 1
            if lost > LOST_MAX:
                raise CommandError(error.message, error.hint, error.code) from None
            raise

    return ask_within(runtime_dir, asked, timeout_s, first=False)


def ask_within(
    runtime_dir: str | None,
    asked: Callable[[float], dict[str, Any]],
    limit_s: float,
    *,
    first: bool = True,
) -> dict[str, Any]:
    """Ask the daemon, as soon as there is one, and the next one again if it goes away meanwhile.

    One that has too many who ask is asked again.

    `asked` asks within the seconds that are left; `first`: the first daemon is waited for, too.
    Raises `NoDaemonError` when none is starting, and `LostDaemonError` when the time is over.
    """
    hoped = time.monotonic()
    deadline = hoped + limit_s
    told, is_lost, left_s = False, False, limit_s
    while True:
        try:
            return asked(left_s)
        except LostDaemonError:
            hoped = time.monotonic()
            left_s = max(0.0, deadline - hoped)
            if left_s == 0.0:
                raise
            if not is_lost:
                note("the daemon went away; waiting for the next one")
            told = is_lost = True
        except BusyDaemonError:
            if left_s <= BUSY_S:
                raise
            time.sleep(BUSY_S - LOOK_S)
        except NoDaemonError as error:
            if not (first or is_lost or error.runs):
                raise
            if is_starting(runtime_dir):
                hoped = time.monotonic()
                if not told:
                    note("a daemon is starting; waiting for it")
                    told = True
            is_hoped = bool(error.orphans) or error.runs
            patience_s = LOST_S if is_lost else RESTART_S if is_hoped else START_S
            if left_s == 0.0 or time.monotonic() - hoped >= patience_s:
                raise
        time.sleep(min(LOOK_S, left_s))
        left_s = max(0.0, deadline - time.monotonic())
