"""`kakehi wait`: the barrier between a commit and whatever relies on it."""

import time
from functools import partial
from typing import Annotated, Any

from reconciler.cli.asking import BusyDaemonError, NoDaemonError, ask
from reconciler.cli.exits import DONE, REFUSED, TIMEOUT, CommandError
from reconciler.cli.outlasting import ask_within
from reconciler.cli.output import line, note, print_json
from reconciler.cli.parameters import COMMITS, AsJson, Option, RuntimeDir, milliseconds

GRACE_S = 5.0
"""The daemon answers in the time given; so much longer may its answer take before it is silent."""

TOLD_S = 1.5
"""After so long it is said what stands in the way of a commit that is tried again."""


def wait(
    commit: Annotated[
        str,
        Option(
            "--commit", metavar="REF", completes=COMMITS, help="A commit, HEAD, a branch or a tag."
        ),
    ] = "HEAD",
    timeout: Annotated[
        str, Option("--timeout", metavar="TIME", help="How long to wait [default: 30s].")
    ] = "30s",
    as_json: AsJson = False,
    runtime_dir: RuntimeDir = None,
) -> int:
    """Wait until every worker runs a commit or a descendant of it.

    Exits with 0 when they do, with 6 and the reason when the commit was refused or was passed by,
    and with 8 when the time is over, with the name of the worker that is behind, or at once when it
    would be in vain: the commit is not on the branch that the proxy follows, or not in its
    repository, unless a remote may bring it; or no daemon runs. Where 128 wait already, it is asked
    again until the time is over (8).
    What is refused for no fault of its own (a port is taken) is tried again by itself, and waited
    for: 6 when the time is over, with the reason.
    HEAD and the names of branches are those of the repository that the proxy follows. A daemon that
    is starting is waited for: one that has its runtime directory, or gets it within a second, or
    within five where workers serve on without one; so is the next one, for 15 s, when it goes away
    meanwhile. A name of no commit is an error at once (64).

    Examples:
      git commit -am "Move checkout" && kakehi wait --commit HEAD
      kakehi wait --commit 4f1c2d9 --timeout 2m
    """
    limit_s = milliseconds(timeout, "--timeout") / 1_000
    began = time.monotonic()
    result = _ask(runtime_dir, commit, limit_s)
    outcome = result["outcome"]
    if outcome == "timeout":
        who = ", ".join(result["laggards"])
        # What would be in vain is told at once.
        after = f" after {timeout}" if time.monotonic() - began >= limit_s else ""
        reason = result["message"] or (f"behind: {who}" if who else "no worker answered")
        message = f"not everywhere{after}: {reason}"
        raise CommandError(message, code=TIMEOUT).with_report(result)
    if outcome in ("refused", "superseded"):
        raise CommandError(
            f"{result['commit'][:12]} was {outcome}: {result['message']}", code=REFUSED
        ).with_report(result)
    if result["message"] and not as_json:
        note(f"warning: {result['message']}")
    if as_json:
        print_json(result)
    else:
        line(
            f"{(result['applied'] or result['commit'])[:12]} runs on every worker "
            f"(generation {result['generation']})"
        )
    return DONE


def _ask(runtime_dir: str | None, commit: str, limit_s: float) -> dict[str, Any]:
    """Ask the daemon, as soon as there is one; without one that is starting it is over soon."""
    try:
        return ask_within(runtime_dir, partial(_ask_running, runtime_dir, commit), limit_s)
    except BusyDaemonError as error:
        hint = "what is waited for: kakehi status; one that waits for the newest commit is enough"
        message = f"it is not known whether it is everywhere: {error.message}"
        raise CommandError(message, hint, TIMEOUT) from None
    except NoDaemonError as error:
        raise CommandError(error.message, error.hint, TIMEOUT) from None


def _ask_running(runtime_dir: str | None, commit: str, limit_s: float) -> dict[str, Any]:
    """Ask the daemon for a while, and then for the rest: what it waits for is told in between."""
    began, first_s = time.monotonic(), min(limit_s, TOLD_S)
    result = _ask_once(runtime_dir, commit, first_s)
    spent_s = time.monotonic() - began
    if spent_s < first_s or spent_s >= limit_s:
        return result
    if result["tried_again"]:
        note(f"waiting for {result['commit'][:12]}: {result['message']}")
    return _ask_once(runtime_dir, commit, limit_s - spent_s)


def _ask_once(runtime_dir: str | None, commit: str, limit_s: float) -> dict[str, Any]:
    fields = {"commit": commit, "timeout_s": limit_s}
    return ask(runtime_dir, "wait", fields, limit_s + GRACE_S)
