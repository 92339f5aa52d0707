"""Shell completion, from the same signatures that `arguments` parses.

A shell asks at each Tab, so this has its own few lines for the protocols of bash, zsh and fish: the
packages that know them take longer to import than a person notices. What a shell is told to ask
with is in `completion_scripts`.
"""

import os
import shlex
import sys
from collections.abc import Iterator
from typing import NamedTuple

from reconciler.cli.exits import DONE, FAILED
from reconciler.cli.main import COMMANDS, COMPLETION_VARIABLE, load
from reconciler.cli.signatures.completion_scripts import SCRIPTS
from reconciler.cli.signatures.options import Argument, Option, Parameter, parameters
from reconciler.cli.signatures.values import VALUES, Line


class Candidate(NamedTuple):
    """A word that may stand there, and what it is for."""

    value: str
    help: str = ""


def complete() -> int:
    """Answer the completion function of a shell, as its environment variable asks."""
    _, _, shell = os.environ[COMPLETION_VARIABLE].partition("_")
    words, incomplete = _of_bash() if shell == "bash" else _of_others()
    found = list(candidates(words, incomplete))
    if shell == "fish" and os.environ.get("_TYPER_COMPLETE_FISH_ACTION") == "is-args":
        # Without any, the shell offers files.
        return DONE if found else FAILED
    sys.stdout.write("".join(f"{text}\n" for text in _answer(shell, found)))
    return DONE


def print_script(shell: str) -> None:
    """Print the script that teaches a shell to complete `kakehi`."""
    sys.stdout.write(SCRIPTS[shell])


def candidates(words: list[str], incomplete: str) -> Iterator[Candidate]:
    """Yield what may follow some words; nothing where a file may, which the shell knows."""
    if not words:
        yield from _beginning(incomplete, _at_the_start(incomplete))
    elif words[0] in COMMANDS:
        declared = parameters(load(words[0]))
        given = _Given.of(declared, words[1:])
        if given.awaited is not None:
            # A value of an option: a file, a name of the repository, a time.
            return
        if incomplete.startswith("-") and not given.only_arguments:
            yield from _beginning(incomplete, _options(declared, given.used))
            return
        arguments = [each.marker for each in declared if isinstance(each.marker, Argument)]
        if given.arguments < len(arguments):
            values = VALUES.get(arguments[given.arguments].metavar)
            line = Line(words[0], given.runtime_dir)
            yield from (Candidate(each) for each in (values(line, incomplete) if values else ()))


def _at_the_start(incomplete: str) -> Iterator[Candidate]:
    if incomplete.startswith("-"):
        yield Candidate("--version", "Print the version.")
        yield Candidate("--help", "Show this help.")
        return
    for name, entry in COMMANDS.items():
        if not entry.hidden:
            yield Candidate(name, entry.summary)


def _options(declared: list[Parameter], used: set[str]) -> Iterator[Candidate]:
    for parameter in declared:
        marker = parameter.marker
        if isinstance(marker, Option) and (parameter.kind is tuple or parameter.name not in used):
            yield from (Candidate(flag, marker.help) for flag in marker.flags)
    yield Candidate("--help", "Show this help.")


class _Given(NamedTuple):
    """What stands in a line that is only half written."""

    arguments: int
    used: set[str]
    awaited: Parameter | None
    """The option whose value comes next."""
    only_arguments: bool
    runtime_dir: str | None

    @classmethod
    def of(cls, declared: list[Parameter], words: list[str]) -> "_Given":
        by_flag = {
            flag: each
            for each in declared
            if isinstance(each.marker, Option)
            for flag in each.marker.flags
        }
        arguments, only_arguments = 0, False
        used: set[str] = set()
        awaited: Parameter | None = None
        runtime_dir = None
        for word in words:
            flag, equals, value = word.partition("=")
            parameter = by_flag.get(flag)
            if awaited is not None:
                runtime_dir = word if awaited.name == "runtime_dir" else runtime_dir
                awaited = None
            elif only_arguments or not word.startswith("-"):
                arguments += 1
            elif word == "--":
                only_arguments = True
            elif parameter is not None:
                used.add(parameter.name)
                if equals and parameter.name == "runtime_dir":
                    runtime_dir = value
                awaited = parameter if parameter.kind is not bool and not equals else None
        return cls(arguments, used, awaited, only_arguments, runtime_dir)


def _beginning(incomplete: str, found: Iterator[Candidate]) -> Iterator[Candidate]:
    return (each for each in found if each.value.startswith(incomplete))


def _of_bash() -> tuple[list[str], str]:
    words = _split(os.environ.get("COMP_WORDS", ""))
    position = int(os.environ.get("COMP_CWORD", "0") or 0)
    return words[1:position], words[position] if position < len(words) else ""


def _of_others() -> tuple[list[str], str]:
    line = os.environ.get("_TYPER_COMPLETE_ARGS", "")
    words = _split(line)[1:]
    if not words or line.endswith(" "):
        return words, ""
    return words[:-1], words[-1]


def _split(line: str) -> list[str]:
    """Split a line as a shell does; quotes may still be open at its end."""
    lexer = shlex.shlex(line, posix=True)
    lexer.whitespace_split = True
    lexer.commenters = ""
    words: list[str] = []
    try:
        words.extend(lexer)
    except ValueError:
        words.append(lexer.token)
    return words


def _answer(shell: str, found: list[Candidate]) -> list[str]:
    if shell == "fish":
        return [f"{each.value}\t{each.help}" if each.help else each.value for each in found]
    if shell != "zsh":
        return [each.value for each in found]
    if not found:
        return ["_files"]
    listed = "\n".join(_of_zsh(each) for each in found)
    return [f"_arguments '*: :(({listed}))'"]


def _of_zsh(found: Candidate) -> str:
    value, text = (
        part.replace("'", "''")
        .replace('"', '""')
        .replace("$", "\\$")
        .replace("`", "\\`")
        .replace(":", "\\\\:")
        for part in found
    )
    return f'"{value}":"{text}"' if text else f'"{value}"'
