"""Parses the command line of one command by the signature of its function.

The packages that do it take longer to import than all else that a command such as `status` does.

Rules are the usual ones: `--name value`, `--name=value`, `-X value`, `-Xvalue`, flags, `--`, and
options anywhere between the arguments. The last of two equal options wins; one that may be repeated
collects all of its values.
"""

import os
from collections.abc import Callable, Iterable

from reconciler.cli.exits import UsageError
from reconciler.cli.signatures.options import Argument, Option, Parameter, parameters

Command = Callable[..., int]


def parse(function: Command, arguments: list[str]) -> dict[str, object]:
    """Return the keyword arguments to call the command with; raises UsageError."""
    declared = parameters(function)
    options = {
        flag: parameter
        for parameter in declared
        if isinstance(parameter.marker, Option)
        for flag in parameter.marker.flags
    }
    values: dict[str, object] = {}
    positional = _take_options(options, arguments, values)
    _take_arguments([p for p in declared if isinstance(p.marker, Argument)], positional, values)
    for parameter in declared:
        if parameter.name not in values:
            values[parameter.name] = _absent(parameter)
    return values


def wants_help(function: Command, arguments: Iterable[str]) -> bool:
    """Tell whether `--help` is asked for, rather than being the value of an option."""
    takes_value = {
        flag
        for parameter in parameters(function)
        if isinstance(parameter.marker, Option) and parameter.kind is not bool
        for flag in parameter.marker.flags
    }
    previous = ""
    for argument in arguments:
        if argument == "--":
            return False
        if argument in ("--help", "-h") and previous not in takes_value:
            return True
        previous = argument
    return False


def _take_options(
    options: dict[str, Parameter], arguments: list[str], values: dict[str, object]
) -> list[str]:
    """Move the options from the command line into `values`; return what is left."""
    positional: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        if argument == "--":
            positional.extend(rest)
        elif argument.startswith("-") and argument != "-":
            flag, value = _split(argument, options)
            parameter = options.get(flag)
            if parameter is None:
                raise UsageError(f"there is no option {flag}", _similar(flag, options))
            _take_option(parameter, flag, value, rest, values)
        else:
            positional.append(argument)
    return positional


def _split(argument: str, options: dict[str, Parameter]) -> tuple[str, str | None]:
    """Split `--name=value` and `-Xvalue` into flag and value."""
    if argument.startswith("--"):
        flag, equals, value = argument.partition("=")
        return flag, value if equals else None
    if argument[:2] in options and len(argument) > 2:
        return argument[:2], argument[2:]
    return argument, None


def _take_option(
    parameter: Parameter,
    flag: str,
    value: str | None,
    rest: Iterable[str],
    values: dict[str, object],
) -> None:
    if parameter.kind is bool:
        if value is not None:
            raise UsageError(f"{flag} takes no value")
        values[parameter.name] = True
        return
    if value is None:
        value = next(iter(rest), None)
    if value is None:
        raise UsageError(f"{flag} needs a value")
    if parameter.kind is tuple:
        held = values.get(parameter.name, ())
        assert isinstance(held, tuple)
        values[parameter.name] = (*held, value)
        return
    values[parameter.name] = _converted(parameter, flag, value)


def _take_arguments(
    declared: list[Parameter], positional: list[str], values: dict[str, object]
) -> None:
    for parameter, value in zip(declared, positional, strict=False):
        values[parameter.name] = _converted(parameter, _metavar(parameter), value)
    if len(positional) > len(declared):
        raise UsageError(f"unexpected argument: {positional[len(declared)]}")
    missing = [p for p in declared[len(positional) :] if p.required]
    if missing:
        raise UsageError(f"{_metavar(missing[0])} is missing")


def _absent(parameter: Parameter) -> object:
    """Return the value of a parameter that was not given: the environment's, or the default."""
    marker = parameter.marker
    if isinstance(marker, Option) and marker.env and os.environ.get(marker.env):
        return _converted(parameter, f"${marker.env}", os.environ[marker.env])
    if parameter.required:
        raise UsageError(f"{_metavar(parameter)} is missing")
    return parameter.default


def _converted(parameter: Parameter, name: str, value: str) -> object:
    if parameter.kind is not int:
        return value
    try:
        return int(value)
    except ValueError:
        raise UsageError(f"{name} needs a whole number, not {value!r}") from None


def _metavar(parameter: Parameter) -> str:
    marker = parameter.marker
    return marker.metavar if isinstance(marker, Argument) else marker.flags[0]


def _similar(word: str, known: Iterable[str]) -> str | None:
    from difflib import get_close_matches

    close = get_close_matches(word, list(known), n=1)
    return f"did you mean {close[0]}?" if close else None


def milliseconds(text: str, name: str) -> int:
    """Return the milliseconds of a duration option, written as in the configuration."""
    for unit, factor in (("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)):
        digits = text.removesuffix(unit)
        if digits != text and digits.isascii() and digits.isdigit():
            return int(digits) * factor
    raise UsageError(f'{name} needs a duration such as "500ms", "30s" or "5m", not {text!r}')
