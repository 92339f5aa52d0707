"""Finds the command, loads its module alone, turns errors into codes. Called by `program` beside.

`COMMANDS` is the list of commands in the order in which the help shows them. Nothing is done here
but dispatch: what a command does is in the module of its name.
"""

import atexit
import contextlib
import errno
import gc
import os
import signal
import sys
from importlib import import_module
from itertools import pairwise
from typing import NamedTuple

from reconciler.cli import output, parsers, streams
from reconciler.cli.exits import DONE, FAILED, INTERRUPTED, USAGE, CommandError

TRACEBACK_VARIABLE = "KAKEHI_TRACEBACK"
"""Set by whoever looks for an error in Kakehi itself."""

_OF_STDOUT = (errno.EPIPE, errno.ENOSPC, errno.EIO)
_GARBAGE_MIN = 50_000


class Listed(NamedTuple):
    """Where a command lives, and its line in `kakehi --help`."""

    module: str
    summary: str
    hidden: bool = False


COMMANDS: dict[str, Listed] = {
    "init": Listed("init", "Start a configuration repository."),
    "validate": Listed("validate", "Check a working tree or a commit, without a daemon."),
    "plan": Listed("plan", "Show what would change on the live proxy."),
    "run": Listed("run", "Run the proxy in the foreground."),
    "wait": Listed("wait", "Wait until every worker runs a commit."),
    "status": Listed("status", "Show which commit every worker runs."),
    "history": Listed("history", "List applied and refused commits."),
    "show": Listed("show", "Show running entities, or who is limited now."),
    "explain": Listed("explain", "Tell what would serve a request, and why."),
    "drain": Listed("drain", "Take a backend out of service, for a time."),
    "undrain": Listed("drain", "Put a drained backend back into service."),
    "forgive": Listed("forgive", "Let those ask again whom a rate limit refuses."),
    "retry": Listed("retry", "Try again what was refused or failed, now."),
    "schema": Listed("schema", "Print JSON Schemas: of the language, of what commands print."),
    "stop": Listed("stop", "End the proxy: workers too."),
    "completion": Listed("completion", "Print the completion script of a shell."),
    "complete": Listed("complete", "Print the words that a shell may offer.", hidden=True),
    "demo": Listed("demo", "Run the demo shop.", hidden=True),
}


def summaries() -> dict[str, str | None]:
    """Return the line of each command in the help; None for one that is hidden."""
    return {name: None if entry.hidden else entry.summary for name, entry in COMMANDS.items()}


def load(name: str) -> parsers.Command:
    """Import the module of a command and return its function."""
    module = import_module(f"reconciler.cli.commands.{COMMANDS[name].module}")
    command: parsers.Command = getattr(module, name)
    return command


def program() -> int:
    """Run the command line of this process, and end with its exit code."""
    # What is registered first is called last: threads are waited for by then, and all else is done.
    codes: list[int] = []
    atexit.register(_end, codes)
    codes.append(main())
    return codes[0]


def _end(codes: list[int]) -> None:
    """End at once: Python would look for garbage in all that was imported, and take it apart.

    What was not returned from has an end of its own, such as the signal of Ctrl-C.
    """
    if codes:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()
        os._exit(codes[0])


def main() -> int:
    """Run one command line and return its exit code."""
    streams.prepare()
    # Hardly anything that a command makes is garbage before it ends: its imports least of all.
    gc.set_threshold(_GARBAGE_MIN)
    line = sys.argv[1:]
    try:
        code = _run(line)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        streams.abandon()
        return INTERRUPTED
    except BrokenPipeError:
        # The reader left (`kakehi history | head`).
        streams.abandon()
        return DONE
    except OSError as error:
        streams.abandon()
        return _complain(line[0] if line else "", CommandError(f"stdout: {_sentence(error)}"))


def _run(line: list[str]) -> int:
    """Run one command; what it fails by goes to stderr, and to stdout as JSON if that is asked."""
    name, rest = (line[0] if line else ""), line[1:]
    try:
        return _dispatch(name, rest)
    except CommandError as error:
        failure = error
    except OSError as error:
        if error.filename is None and error.errno in _OF_STDOUT:
            raise
        failure = CommandError(_sentence(error))
    except Exception as error:  # noqa: BLE001  # nobody is helped by a traceback
        failure = _unexpected(error)
    code = _complain(name, failure)
    if name in COMMANDS and wants_json(rest):
        output.print_json(failure.report or {"error": failure.to_json()})
    elif name == "plan" and _wants(rest, "markdown"):
        from reconciler.cli.plans import markdown

        for text in markdown.failed(failure.message, failure.hint):
            output.line(text)
    return code


def wants_json(rest: list[str]) -> bool:
    """Tell whether the answer is to be JSON, even if the rest of the line cannot be understood."""
    return _wants(rest, "json") or "--json" in _options(rest)


def _wants(rest: list[str], form: str) -> bool:
    options = _options(rest)
    return f"--format={form}" in options or ("--format", form) in pairwise(options)


def _options(rest: list[str]) -> list[str]:
    return rest[: rest.index("--")] if "--" in rest else rest


def _unexpected(error: Exception) -> CommandError:
    # Imported where it is needed: an ordinary run has no use for it.
    from reconciler.errors import KakehiError

    if isinstance(error, KakehiError):
        return CommandError(str(error), code=error.exit_code)
    if os.environ.get(TRACEBACK_VARIABLE):
        raise error
    return CommandError(
        f"this is an error in Kakehi itself: {type(error).__name__}: {error}",
        f"to see where it comes from, set {TRACEBACK_VARIABLE}=1",
        FAILED,
    )


def _dispatch(name: str, rest: list[str]) -> int:
    try:
        if name in COMMANDS:
            command = load(name)
            values = parsers.parse(command, name, rest)
        else:
            from reconciler.cli import overview

            if not name:
                overview.overview(summaries(), stream=sys.stderr).print_help(sys.stderr)
                return USAGE
            overview.answer(summaries(), [name, *rest])
    except SystemExit:
        # argparse ends so when it has printed the help, or the version.
        return DONE
    return command(**values)


def _complain(name: str, error: CommandError) -> int:
    who = f"kakehi {name}" if name in COMMANDS else "kakehi"
    lines = [f"{who}: {error.message}"]
    if error.hint:
        lines.append(f"  hint: {error.hint}")
    if error.code == USAGE:
        lines.append(f"  usage: {who} --help")
    output.note("\n".join(lines))
    return error.code


def _sentence(error: OSError) -> str:
    reason = (error.strerror or str(error)).lower()
    return f"{error.filename}: {reason}" if error.filename else reason
