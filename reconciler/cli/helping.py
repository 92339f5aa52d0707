"""Help and completion, by Typer, from the same signatures that `arguments` parses.

The only module that imports Typer. It is loaded for `--help` and by the shell's completion, where
100 ms more do not matter. On a terminal Typer lets Rich draw the help; in a pipe it is plain text.
"""

import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer
from typer.completion import get_completion_inspect_parameters

from reconciler.cli.exits import DONE, USAGE
from reconciler.cli.main import COMMANDS, COMPLETION_VARIABLE, load
from reconciler.cli.options import Argument, Option, Parameter, parameters

ABOUT = """A git-driven reverse proxy: a commit changes live traffic, on every worker or on none.

\b
Examples:
  kakehi init shop                 start a configuration repository
  kakehi run shop                  run the proxy
  kakehi plan shop                 see what your edits would change
  git -C shop commit -am '…'       change live traffic
  kakehi status                    see which commit every worker runs

\b
Exit codes: 0 done, 1 failed, 2 changes (plan --detailed-exitcode), 3 invalid configuration,
4 blocked by a guard, 5 stale plan, 6 transaction refused, 7 signature or policy, 8 timeout,
9 drift, 64 usage.
"""


def show(name: str) -> None:
    """Print the help of one command to stdout."""
    _run([name, "--help"], sys.stdout)


def overview(stream: TextIO) -> None:
    """Print the help of `kakehi` itself."""
    _run(["--help"], stream)


def complete() -> int:
    """Answer the completion function of a shell, as its environment variable asks."""
    # Called for what it does beside returning: it makes Typer's shells known. `add_completion`
    # would do the same, and add two options to the help that `main` does not have.
    get_completion_inspect_parameters()
    _run([], sys.stdout)
    return DONE


def completion_script(shell: str) -> None:
    """Print the script that teaches a shell to complete `kakehi`."""
    os.environ[COMPLETION_VARIABLE] = f"source_{shell}"
    complete()


def _run(line: list[str], stream: TextIO) -> None:
    stdout, sys.stdout = sys.stdout, stream
    try:
        _application(stream)(args=line, prog_name="kakehi", complete_var=COMPLETION_VARIABLE)
    except SystemExit as end:
        if end.code not in (None, DONE):
            sys.exit(USAGE)
    finally:
        sys.stdout = stdout


def _application(stream: TextIO) -> typer.Typer:
    drawn = stream.isatty() and not os.environ.get("NO_COLOR")
    application = typer.Typer(
        add_completion=False,
        help=ABOUT,
        rich_markup_mode="rich" if drawn else None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 100},
    )

    @application.callback()
    def options(
        version: Annotated[
            bool, typer.Option("--version", "-V", help="Print the version.")
        ] = False,
    ) -> None:
        """Declare what `main` takes itself."""

    for name, entry in COMMANDS.items():
        command = load(name)
        application.command(
            name, help=_help(command), short_help=entry.summary, hidden=entry.hidden
        )(_typed(command))
    return application


def _help(command: Callable[..., int]) -> str:
    """Return the docstring, with its examples marked as text that must not be wrapped."""
    text = inspect.cleandoc(command.__doc__ or "")
    return text.replace("\n\nExamples:\n", "\n\n\b\nExamples:\n")


def _typed(command: Callable[..., int]) -> Callable[..., None]:
    """Return a function whose signature says to Typer what the command's says to us."""

    def never_called(**_: object) -> None:
        raise AssertionError("Typer prints help and completes; `main` runs the commands")

    annotations: dict[str, Any] = {}
    declared = []
    for parameter in parameters(command):
        annotations[parameter.name] = Annotated[_type(parameter), _marker(parameter)]
        declared.append(
            inspect.Parameter(
                parameter.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=inspect.Parameter.empty if parameter.required else _default(parameter),
                annotation=annotations[parameter.name],
            )
        )
    never_called.__annotations__ = annotations
    never_called.__signature__ = inspect.Signature(declared)  # type: ignore[attr-defined]
    return never_called


def _type(parameter: Parameter) -> Any:
    if parameter.kind is tuple:
        return list[str]
    if parameter.marker.metavar in ("DIR", "FILE"):
        return Path if parameter.required else Path | None
    return (
        parameter.kind
        if parameter.default is not None or parameter.required
        else (parameter.kind | None)
    )


def _default(parameter: Parameter) -> object:
    if isinstance(parameter.default, tuple):
        return list(parameter.default)
    return parameter.default


def _marker(parameter: Parameter) -> Any:
    marker = parameter.marker
    if isinstance(marker, Argument):
        return typer.Argument(metavar=marker.metavar, help=marker.help, show_default=False)
    assert isinstance(marker, Option)
    return typer.Option(
        *marker.flags,
        metavar=marker.metavar,
        envvar=marker.env,
        help=marker.help,
        hidden=marker.hidden,
        show_default=False,
    )
