"""Starts the zygote (`python -m proxy --zygote-fd FD`), or one worker. For the reconciler only.

`--worker N --cpu K --control-fd FD` is what a worker forked by the zygote is given too.
"""

from __future__ import annotations

import argparse
import socket
import sys

from proxy import zygote
from proxy.worker import live


def main() -> int:
    """Returns the exit code: 0 after a drain, 1 when the worker cannot start."""
    options = _arguments()
    if options.zygote_fd is not None:
        with socket.socket(fileno=options.zygote_fd) as control:
            return zygote.run(control)
    return live(options.worker, options.cpu, options.control_fd)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m proxy", description=__doc__)
    parser.add_argument("--zygote-fd", type=int)
    parser.add_argument("--worker", type=int)
    parser.add_argument("--cpu", type=int, help="-1: not pinned")
    parser.add_argument("--control-fd", type=int)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
