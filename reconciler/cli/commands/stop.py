"""`kakehi stop`: ends the proxy altogether, which a signal to the daemon may leave running."""

import time
from functools import partial
from typing import Annotated

from reconciler.cli.asking import NoDaemonError, ask
from reconciler.cli.exits import DONE, TIMEOUT, CommandError
from reconciler.cli.outlasting import ask_within
from reconciler.cli.output import count, note
from reconciler.cli.parameters import Option, RuntimeDir, milliseconds
from reconciler.cli.paths import runtime_directory

_AGAIN_S = 0.1


def stop(
    timeout: Annotated[
        str,
        Option("--timeout", metavar="TIME", help="How long to wait for its end [default: 5m]."),
    ] = "5m",
    runtime_dir: RuntimeDir = None,
) -> int:
    """End the proxy: the workers finish their requests and leave, then the daemon does.

    Returns when all of them are gone. `drain_timeout` in the settings bounds how long requests in
    flight may take. Workers that go on serving without a daemon are ended as well: their requests
    have 30 s.

    Examples:
      kakehi stop
      kakehi stop --runtime-dir demo/.kakehi/run
    """
    deadline = time.monotonic() + milliseconds(timeout, "--timeout") / 1_000
    has_waited = False
    while not _has_ended(runtime_dir, max(0.0, deadline - time.monotonic()), has_waited):
        if time.monotonic() >= deadline:
            raise CommandError(
                "another `kakehi stop` or a daemon that begins is at it", code=TIMEOUT
            )
        has_waited = True
        time.sleep(_AGAIN_S)
    note("The proxy has ended: no worker is left.")
    return DONE


def _has_ended(runtime_dir: str | None, limit_s: float, has_waited: bool) -> bool:
    """Whether it has; another `kakehi stop` may be at it, or a daemon be about to begin."""
    try:
        # Killed meanwhile, and started again by whoever keeps it running.
        ask_within(runtime_dir, partial(ask, runtime_dir, "stop", None), limit_s, first=False)
    except NoDaemonError as error:
        if error.orphans:
            return _ends_orphans(runtime_dir, limit_s)
        if not has_waited or error.runs:
            raise
    return True


def _ends_orphans(runtime_dir: str | None, limit_s: float) -> bool:
    """End them, unless somebody else has the runtime directory."""
    from pathlib import Path

    from reconciler.errors import MachineError
    from reconciler.workers.probing import finding
    from reconciler.workers.processes import orphans

    directory = Path(runtime_directory(runtime_dir))
    try:
        told, left = orphans.end(directory, limit_s)
        finding.end(directory)
    except MachineError:
        return False
    except PermissionError as error:
        raise CommandError(f"cannot end the workers: {error.strerror}") from None
    note(f"No daemon ran; {count(len(told), 'worker')} went on serving and {_were(told)} ended.")
    if left:
        processes = ", ".join(str(pid) for pid in left)
        raise CommandError(f"not ended within {limit_s:g} s: process {processes}", code=TIMEOUT)
    hidden = orphans.hidden(directory, left)
    if hidden:
        raise CommandError(hidden)
    return True


def _were(told: dict[int, int]) -> str:
    return "was" if len(told) == 1 else "were"
