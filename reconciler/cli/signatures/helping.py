"""The help of `kakehi` and of its commands, out of the signatures and docstrings of the commands.

Written here, since the packages that do it take longer to import than a person notices.
"""

import textwrap
from collections.abc import Iterator
from typing import TextIO

from reconciler.cli.main import COMMANDS, load
from reconciler.cli.output import Painter, painter
from reconciler.cli.signatures.options import Argument, Option, Parameter, parameters

COLUMNS = 80
"""As many as the smallest terminal that people use has."""

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
  0  done                     5  stale: a commit went through beside the plan
  1  failed                   6  refused, aborted or passed by
  2  changes, for plan        8  timeout
     --detailed-exitcode      9  drift, for status --detailed-exitcode
  3  invalid configuration   64  usage
  4  blocked by a guard
"""

HELP_ROW = ("-h, --help", "Show this help.")


def overview(stream: TextIO) -> None:
    """Write the help of `kakehi` itself."""
    paint = painter(stream)
    commands = [(name, entry.summary) for name, entry in COMMANDS.items() if not entry.hidden]
    options = [HELP_ROW, ("-V, --version", "Print the version.")]
    text = [
        "Usage: kakehi COMMAND [OPTIONS]",
        "",
        _headed(ABOUT, paint),
        *_section("Commands:", commands, paint),
        *_section("Options:", options, paint),
        paint("bold", "Exit codes:"),
        EXITS,
        "What a command takes: kakehi COMMAND --help",
    ]
    stream.write("\n".join(text) + "\n")


def show(name: str, stream: TextIO) -> None:
    """Write the help of one command."""
    paint = painter(stream)
    command = load(name)
    declared = parameters(command)
    arguments = [p for p in declared if isinstance(p.marker, Argument)]
    options = [p for p in declared if isinstance(p.marker, Option)]
    usage = " ".join(["kakehi", name, *(_label(p) for p in arguments), "[OPTIONS]"])
    text = [
        f"Usage: {usage}",
        "",
        _headed(_unindented(command.__doc__ or ""), paint),
        "",
        *_section("Arguments:", [(_label(p), p.marker.help) for p in arguments], paint),
        *_section("Options:", [*((_label(p), _help(p)) for p in options), HELP_ROW], paint),
    ]
    stream.write("\n".join(text).rstrip() + "\n")


def _unindented(docstring: str) -> str:
    first, _, rest = docstring.partition("\n")
    paragraphs = f"{first}\n{textwrap.dedent(rest)}".strip().split("\n\n")
    return "\n\n".join(
        # Examples are lines of their own.
        each if "\n  " in each else textwrap.fill(each, COLUMNS, break_on_hyphens=False)
        for each in paragraphs
    )


def _headed(text: str, paint: Painter) -> str:
    return text.replace("\nExamples:\n", f"\n{paint('bold', 'Examples:')}\n")


def _section(title: str, rows: list[tuple[str, str]], paint: Painter) -> Iterator[str]:
    if not rows:
        return
    yield paint("bold", title)
    width = max(len(label) for label, _ in rows)
    for label, text in rows:
        first, *more = textwrap.wrap(text, COLUMNS - width - 4, break_on_hyphens=False) or [""]
        yield f"  {label:<{width}}  {first}"
        for line in more:
            yield f"{'':<{width + 4}}{line}"
    yield ""


def _label(parameter: Parameter) -> str:
    marker = parameter.marker
    if isinstance(marker, Argument):
        return marker.metavar
    flags = ", ".join(sorted(marker.flags, key=len))
    return f"{flags} {marker.metavar}" if marker.metavar else flags


def _help(parameter: Parameter) -> str:
    marker = parameter.marker
    env = marker.env if isinstance(marker, Option) else None
    return f"{marker.help} (${env})" if env else marker.help
