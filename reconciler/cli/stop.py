"""`kakehi stop`: ends the proxy altogether, which a signal to the daemon may leave running."""

from typing import Annotated

from reconciler.cli.arguments import milliseconds
from reconciler.cli.daemon import ask
from reconciler.cli.exits import DONE
from reconciler.cli.options import Option, RuntimeDir
from reconciler.cli.output import note


def stop(
    timeout: Annotated[
        str,
        Option("--timeout", metavar="TIME", help="How long to wait for its end [default: 5m]."),
    ] = "5m",
    runtime_dir: RuntimeDir = None,
) -> int:
    """End the proxy: the workers finish their requests and leave, then the daemon does.

    Returns when all of them are gone. `drain_timeout` in the settings bounds how long requests in
    flight may take.

    Examples:
      kakehi stop
      kakehi stop --runtime-dir demo/.kakehi/run
    """
    ask(runtime_dir, "stop", timeout_s=milliseconds(timeout, "--timeout") / 1_000)
    note("The proxy has ended: no worker is left.")
    return DONE
