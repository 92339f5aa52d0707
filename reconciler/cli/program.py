"""The entry point `kakehi`: before anything else, Ctrl-C ends the process as a signal does.

Python would raise it wherever it is, in the midst of an import, where it ends in a traceback or,
below code that is not Python's, in nothing at all. `reconciler.cli.interrupts` has it raised for
what there is to put in order. Imported by the script that an installer makes, and run by `kakehi
demo`; whoever imports anything else of ours keeps its signals.
"""

# The half of `signal` that is built in: the other one makes enumerations first.
import _signal as signal  # type: ignore[import-not-found]  # typeshed has the other half alone
import sys

# Who is to ignore it, as in the background of a script, goes on doing so.
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def program() -> int:
    """Be the program: run its command line, and end with its exit code."""
    from reconciler.cli import main

    return main.program()


if __name__ == "__main__":
    sys.exit(program())
