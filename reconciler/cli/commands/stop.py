"""`kakehi stop`: ends the proxy altogether, which a signal to the daemon may leave running."""

from functools import partial
from typing import Annotated

from reconciler.cli.asking import NoDaemonError, ask
from reconciler.cli.exits import DONE, TIMEOUT, CommandError
from reconciler.cli.outlasting import ask_within
from reconciler.cli.output import count, note
from reconciler.cli.parameters import Option, RuntimeDir, milliseconds
from reconciler.cli.paths import runtime_directory


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
    limit_s = milliseconds(timeout, "--timeout") / 1_000
    try:
        # Killed meanwhile, and started again by whoever keeps it running.
        ask_within(runtime_dir, partial(ask, runtime_dir, "stop", None), limit_s, first=False)
    except NoDaemonError as error:
        if not error.orphans:
            raise
        _end_orphans(runtime_dir, limit_s)
    note("The proxy has ended: no worker is left.")
    return DONE


def _end_orphans(runtime_dir: str | None, limit_s: float) -> None:
    from pathlib import Path

    from reconciler.errors import MachineError
    from reconciler.workers.processes import orphans

    directory = Path(runtime_directory(runtime_dir))
    try:
        told, left = orphans.end(directory, limit_s)
    except MachineError as error:
        raise CommandError(str(error), "a daemon begins: try again") from None
    except PermissionError as error:
        raise CommandError(f"cannot end the workers: {error.strerror}") from None
    note(f"No daemon ran; {count(len(told), 'worker')} went on serving and {_were(told)} ended.")
    if left:
        processes = ", ".join(str(pid) for pid in left)
        raise CommandError(f"not ended within {limit_s:g} s: process {processes}", code=TIMEOUT)
    hidden = orphans.hidden(directory, left)
    if hidden:
        raise CommandError(hidden)


def _were(told: dict[int, int]) -> str:
    return "was" if len(told) == 1 else "were"
