"""The parser of `kakehi` itself, with all commands below it: what `--help` prints, what completes.

Called by `main` for a line that names no command, and by `completion`. A command is imported only
if that is asked for.
"""

import sys
from collections.abc import Callable, Mapping
from typing import NoReturn, TextIO

from reconciler.cli.commands.version import VERSION
from reconciler.cli.exits import UsageError
from reconciler.cli.output import painter
from reconciler.cli.parsers import HELP_TEXT, Command, CommandParser, HelpLayout, closest, whole

ABOUT = """\
A git-driven reverse proxy: a commit changes live traffic, on every worker or
on none.

Examples:
  kakehi init shop                  start a configuration repository
  kakehi run shop                   run the proxy
  kakehi plan                       see what your edits would change
  git -C shop commit -am 'Change'   change live traffic
  kakehi status                     see which commit every worker runs
"""

EXITS = """\
Exit codes:
  0  done                     5  stale: a commit went through beside the plan
  1  failed                   6  refused, aborted or passed by
  2  changes, for plan        8  timeout
     --detailed-exitcode      9  drift, for status --detailed-exitcode
  3  invalid configuration   64  usage
  4  blocked by a guard

What a command takes: kakehi COMMAND --help"""


def overview(
    summaries: Mapping[str, str | None],
    load: Callable[[str], Command] | None = None,
    stream: TextIO | None = None,
) -> CommandParser:
    """Return the parser; one without a summary is hidden, and with `load` each knows its own."""
    paint = painter(sys.stdout if stream is None else stream)
    parser = CommandParser(
        prog="kakehi",
        usage="kakehi COMMAND [OPTIONS]",
        description=ABOUT,
        epilog=EXITS,
        formatter_class=lambda prog: HelpLayout(prog, paint),
    )
    commands = parser.add_subparsers(
        title="Commands", metavar="COMMAND", parser_class=CommandParser
    )
    options = parser.add_argument_group("Options")
    options.add_argument("-h", "--help", action="help", help=HELP_TEXT)
    options.add_argument(
        "-V", "--version", action="version", version=f"kakehi {VERSION}", help="Print the version."
    )
    for name, summary in summaries.items():
        declared = whole(load(name), f"kakehi {name}") if load is not None else {}
        if summary is None:
            commands.add_parser(name, **declared)
        else:
            commands.add_parser(name, help=summary, **declared)
    return parser


def answer(summaries: Mapping[str, str | None], line: list[str]) -> NoReturn:
    """Answer a line that does not begin with a command: help and version end by SystemExit."""
    if not line[0].startswith("-"):
        close = closest(line[0], summaries)
        hint = f"did you mean `kakehi {close}`?" if close else None
        raise UsageError(f"there is no command {line[0]}", hint)
    parser = overview(summaries)
    parser.parse_known_args(line[:1])
    error = parser.unknown(line[0])
    command = next((word for word in line if word in summaries), None)
    if command is not None:
        error.hint = f"options stand behind the command: kakehi {command} {line[0]}"
    raise error
