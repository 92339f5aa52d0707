"""The parsers of the command line: argparse's, made out of the signatures of the commands.

Called by `main`, and by `completion`, which hands the parser of all commands to shtab. What differs
from argparse's own ways is here: options may stand anywhere, an error is a `UsageError` with a way
out, help has 80 columns and lines that break between words.
"""

import argparse
import os
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NoReturn

from reconciler.cli.exits import UsageError
from reconciler.cli.output import Painter, painter
from reconciler.cli.parameters import (
    DIRECTORY,
    FILE,
    PLANNED,
    Argument,
    Option,
    Parameter,
    parameters,
)

Command = Callable[..., int]

COLUMNS = 80
"""As many as the smallest terminal that people use has."""

NUMBER_MAX = 1_000_000_000
"""More than anything of ours is counted in, and what a database and a C program can hold."""

_DIGITS_MAX = 20
_LABEL_COLUMNS_MAX = 30
HELP_TEXT = "Show this help."
_REQUIRED = "the following arguments are required: "
_PLAIN = {"expected one argument": "needs a value", "ignored explicit argument": "takes no value"}
"""What argparse says, and how a sentence goes on that begins with the option."""


class HelpLayout(argparse.HelpFormatter):
    """Help as people read it: paragraphs and examples as they are written, short options first."""

    def __init__(self, prog: str, paint: Painter | None = None) -> None:
        super().__init__(prog, max_help_position=_LABEL_COLUMNS_MAX, width=COLUMNS)
        self._paint = painter() if paint is None else paint

    def add_usage(self, usage: Any, actions: Any, groups: Any, prefix: str | None = None) -> None:
        """Begin with a capital, as every other line does."""
        super().add_usage(usage, actions, groups, prefix or "Usage: ")

    def start_section(self, heading: str | None) -> None:
        """Print the heading in bold where there is bold."""
        super().start_section(self._paint("bold", heading) if heading else heading)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        """Fill paragraphs, and leave examples and tables alone."""
        paragraphs = "\n\n".join(
            each if "\n  " in each else textwrap.fill(each, width, break_on_hyphens=False)
            for each in text.split("\n\n")
        )
        for heading in ("Examples", "Exit codes"):
            paragraphs = paragraphs.replace(f"{heading}:\n", f"{self._paint('bold', heading)}:\n")
        return f"{paragraphs}\n"

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(text, width, break_on_hyphens=False)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings:
            return super()._format_action_invocation(action)
        flags = ", ".join(sorted(action.option_strings, key=len))
        return flags if action.nargs == 0 else f"{flags} {action.metavar}"

    def _format_action(self, action: argparse.Action) -> str:
        """List commands without a line that says that commands follow."""
        if not isinstance(action.choices, dict):
            return super()._format_action(action)
        self._dedent()
        commands = [super(HelpLayout, self)._format_action(each) for each in self._inner(action)]
        self._indent()
        return "".join(commands)

    def _inner(self, action: argparse.Action) -> Iterator[argparse.Action]:
        return self._iter_indented_subactions(action)


class CommandParser(argparse.ArgumentParser):
    """A parser whose errors are UsageErrors."""

    def __init__(self, **keywords: Any) -> None:
        keywords = {"formatter_class": HelpLayout, "allow_abbrev": False, **keywords}
        super().__init__(add_help=False, exit_on_error=False, **keywords)

    def error(self, message: str) -> NoReturn:
        """Raise what `main` prints."""
        if message.startswith(_REQUIRED):
            message = f"{message.removeprefix(_REQUIRED)} is missing"
        raise UsageError(message)

    def _print_message(self, message: str, file: Any = None) -> None:
        # argparse's own takes a full disk for success.
        (file or sys.stderr).write(message)

    def unknown(self, word: str) -> UsageError:
        """Return what to say of an option that there is not."""
        flag = word.partition("=")[0]
        close = closest(flag, self._option_string_actions)
        hint = f"did you mean {close}?" if close else None
        return UsageError(f"there is no option {flag}", hint)


class _Options(CommandParser):
    """The options of a command, by themselves; what it helps with is the whole command."""

    def __init__(self, command: Command, prog: str) -> None:
        super().__init__(prog=prog)
        self._command = command
        group = self.add_argument_group("Options")
        for each in parameters(command):
            if isinstance(each.marker, Option):
                _add_option(group, each, each.marker)
        group.add_argument("-h", "--help", action="help", help=HELP_TEXT)

    def format_help(self) -> str:
        """Return the help of the command."""
        return CommandParser(prog=self.prog, **whole(self._command, self.prog)).format_help()


def whole(command: Command, prog: str) -> dict[str, Any]:
    """Return the keywords that make the parser of a command: what helps, and completes."""
    declared = parameters(command)
    labels = [p.marker.metavar for p in declared if isinstance(p.marker, Argument)]
    return {
        "usage": " ".join([prog, *labels, "[OPTIONS]"]),
        "description": _unindented(command.__doc__ or ""),
        "parents": [_arguments(command, prog), _Options(command, prog)],
    }


def parse(command: Command, name: str, line: list[str]) -> dict[str, object]:
    """Return the keyword arguments to call a command with; raises UsageError.

    Asked for help, it prints that and raises SystemExit.
    """
    prog = f"kakehi {name}"
    end = line.index("--") if "--" in line else len(line)
    options = _Options(command, prog)
    given, rest = _parsed(options, line[:end])
    # argparse takes an argument that may be absent for absent if an option stands before it.
    unknown = next((each for each in rest if each[:1] == "-" != each), None)
    if unknown is not None:
        raise options.unknown(unknown)
    rest += line[end + 1 :]
    found, surplus = _parsed(_arguments(command, prog), ["--", *rest] if rest else [])
    if surplus:
        words = [each for each in surplus if each != "--"] or surplus
        raise UsageError(f"unexpected argument: {words[0]}")
    given.update(found)
    return {each.name: _value(each, given) for each in parameters(command)}


def _arguments(command: Command, prog: str) -> CommandParser:
    parser = CommandParser(prog=prog)
    group = parser.add_argument_group("Arguments")
    for each in parameters(command):
        if isinstance(each.marker, Argument):
            _add_argument(group, each, each.marker)
    return parser


def _parsed(parser: CommandParser, line: list[str]) -> tuple[dict[str, object], list[str]]:
    try:
        found, rest = parser.parse_known_args(line)
    except argparse.ArgumentError as error:
        name = (error.argument_name or "").split("/-")[0]
        plain = next((new for old, new in _PLAIN.items() if error.message.startswith(old)), None)
        raise UsageError(f"{name} {plain or error.message}") from None
    return vars(found), rest


def closest(word: str, known: Iterable[str]) -> str | None:
    """Return what was probably meant."""
    from difflib import get_close_matches

    return next(iter(get_close_matches(word, list(known), n=1)), None)


def _add_argument(group: "argparse._ArgumentGroup", parameter: Parameter, marker: Argument) -> None:
    nargs = None if parameter.required else "?"
    keywords = _converting(parameter) | {"default": argparse.SUPPRESS, "help": marker.help}
    action = group.add_argument(parameter.name, metavar=marker.metavar, nargs=nargs, **keywords)
    action.completes = marker.completes  # type: ignore[attr-defined]  # ours, for completion


def _add_option(group: "argparse._ArgumentGroup", parameter: Parameter, marker: Option) -> None:
    keywords = _converting(parameter) | {
        "dest": parameter.name,
        "default": argparse.SUPPRESS,
        "help": f"{marker.help} (${marker.env})" if marker.env else marker.help,
    }
    if parameter.kind is bool:
        keywords["action"] = "store_true"
    else:
        keywords["action"] = "append" if parameter.kind is tuple else _Once
        keywords["metavar"] = marker.metavar
    action = group.add_argument(*marker.flags, **keywords)
    action.completes = marker.completes  # type: ignore[attr-defined]  # ours, for completion


class _Once(argparse.Action):
    """Stores a value; a second one that differs contradicts it."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        first = getattr(namespace, self.dest, values)
        if first != values:
            raise argparse.ArgumentError(self, f"is given twice: {first} and {values}")
        setattr(namespace, self.dest, values)


def _converting(parameter: Parameter) -> dict[str, Any]:
    return {"type": _whole_number} if parameter.kind is int else {}


def _whole_number(text: str) -> int:
    try:
        number = int(text[:_DIGITS_MAX])
    except ValueError:
        raise argparse.ArgumentTypeError(f"needs a whole number, not {text!r}") from None
    if len(text) > _DIGITS_MAX or number > NUMBER_MAX:
        raise argparse.ArgumentTypeError(f"must be at most {NUMBER_MAX}")
    return number


def _value(parameter: Parameter, given: dict[str, object]) -> object:
    """Return what was given, or the environment's value, or the default."""
    marker = parameter.marker
    if parameter.name in given:
        value = given[parameter.name]
        if isinstance(value, list):
            return tuple(_text(parameter, each) for each in value)
        return _text(parameter, value) if isinstance(value, str) else value
    text = os.environ.get(marker.env) if isinstance(marker, Option) and marker.env else None
    if not text:
        return parameter.default
    try:
        return _whole_number(text) if parameter.kind is int else _text(parameter, text)
    except argparse.ArgumentTypeError as error:
        assert isinstance(marker, Option)
        raise UsageError(f"${marker.env} {error}") from None


def _text(parameter: Parameter, value: str) -> str:
    """Return what was given as text; a path may have any bytes. Raises `UsageError`."""
    if parameter.marker.completes in (FILE, DIRECTORY, PLANNED):
        return value
    return text_of(value)


def text_of(value: str) -> str:
    """Return text as UTF-8 has it, whatever the locale says. Raises `UsageError`."""
    try:
        return os.fsencode(value).decode()
    except UnicodeError:
        raise UsageError(f"{value!r} is not UTF-8", "only paths may have any bytes") from None


def _unindented(docstring: str) -> str:
    first, _, rest = docstring.partition("\n")
    return f"{first}\n{textwrap.dedent(rest)}".strip()
