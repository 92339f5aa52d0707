"""Ctrl-C, which ends a command like any other signal, but where there is something to put in order.

Called by commands for a directory of their own, a terminal that they draw on, and the daemon.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def raised() -> Iterator[None]:
    """Have Ctrl-C raise `KeyboardInterrupt` meanwhile.

    Nothing is to be imported in it that is not Python all through: what is raised below such code
    is lost.
    """
    former = signal.getsignal(signal.SIGINT)
    is_main = threading.current_thread() is threading.main_thread()
    if former is not signal.SIG_DFL or not is_main:
        # Somebody ignores it, or has it raised anyway; and no other thread is ever interrupted.
        yield
        return
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        yield
    finally:
        signal.signal(signal.SIGINT, former)
