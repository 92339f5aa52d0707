"""Shell completion, by Typer, from the same signatures that `arguments` parses.

Typer takes 60 ms to import, which is why the commands themselves do without it. It knows the
completion protocols of bash, zsh and fish, and how to read a line that is only half written. For
any parameter it loads pydantic, so that it is told only of those that the line may be about.
"""

import contextlib
import inspect
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.completion import get_completion_inspect_parameters

from reconciler.cli.exits import DONE
from reconciler.cli.main import COMMANDS, COMPLETION_VARIABLE, load
from reconciler.cli.options import Argument, Option, Parameter, parameters
from reconciler.cli.values import VALUES

_ZSH_LAST_LINE = "compdef _kakehi_completion kakehi\n"
_ZSH_END = """\
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
  _kakehi_completion "$@"
else
  compdef _kakehi_completion kakehi
fi
"""
"""A file in `fpath` is loaded by the first Tab, which it has to answer as well."""


def complete() -> int:
    """Answer the completion function of a shell, as its environment variable asks."""
    # Called for what it does beside returning: it makes Typer's shells known. `add_completion`
    # would do the same, and add two options that `kakehi` does not have.
    get_completion_inspect_parameters()
    application()(args=[], prog_name="kakehi", complete_var=COMPLETION_VARIABLE)
    return DONE


def print_script(shell: str) -> None:
    """Print the script that teaches a shell to complete `kakehi`."""
    os.environ[COMPLETION_VARIABLE] = f"source_{shell}"
    written = io.StringIO()
    with contextlib.redirect_stdout(written), contextlib.suppress(SystemExit):
        complete()
    # zsh looks for "#compdef" in the first line, which Typer leaves empty.
    script = written.getvalue().strip() + "\n"
    if shell == "zsh":
        script = script.replace(_ZSH_LAST_LINE, _ZSH_END)
    sys.stdout.write(script)


def application() -> typer.Typer:
    """Return all commands as a Typer application. It completes; it does not run anything."""
    built = typer.Typer(add_completion=False, rich_markup_mode=None)

    words = _line().split()
    if any(word.startswith("-") for word in words):

        @built.callback()
        def options(
            version: Annotated[bool, typer.Option("--version", "-V", help="Print the version.")],
        ) -> None:
            """Declare what `main` takes itself."""

    for name, entry in COMMANDS.items():
        # Of the others the name is enough: their modules would take longer than all the rest.
        command = _typed(load(name)) if name in words else _never_called
        built.command(name, help=entry.summary, hidden=entry.hidden)(command)
    return built


def _line() -> str:
    """The line as far as it is written; bash has a variable of its own for it."""
    return os.environ.get("COMP_WORDS") or os.environ.get("_TYPER_COMPLETE_ARGS", "")


def _never_called() -> None:
    raise AssertionError("Typer completes; `main` runs the commands")


def _typed(command: Callable[..., int]) -> Callable[..., None]:
    """Return a function whose signature says to Typer what the command's says to us."""

    def never_called(**_: object) -> None:
        _never_called()

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
    # A Path makes the shell offer directories.
    kind: Any = Path if "DIR" in (parameter.marker.metavar or "") else parameter.kind
    return kind if parameter.required or parameter.default is not None else kind | None


def _default(parameter: Parameter) -> object:
    return list(parameter.default) if isinstance(parameter.default, tuple) else parameter.default


def _marker(parameter: Parameter) -> Any:
    marker = parameter.marker
    if isinstance(marker, Argument):
        completed = VALUES.get(marker.metavar)
        return typer.Argument(metavar=marker.metavar, help=marker.help, autocompletion=completed)
    assert isinstance(marker, Option)
    return typer.Option(*marker.flags, metavar=marker.metavar, help=marker.help)
