"""How a command declares its parameters: once, in the signature of its function.

    def status(
        watch: Annotated[bool, Option("--watch", "-w", help="Refresh until Ctrl-C.")] = False,
    ) -> int: ...

`parsers` makes argparse's parsers out of these signatures, and with them help and completion. The
annotations are read as they are, so a command's module must not postpone their evaluation
(`from __future__ import annotations`).
"""

from collections.abc import Callable, Sequence
from typing import Annotated, NamedTuple

from reconciler.cli.exits import UsageError

Completes = str | Callable[[], Sequence[str]] | None
"""What a shell offers for a value: one of those below, or these words."""

FILE = "file"
DIRECTORY = "directory"
COMMITS = "commits"
ENTITIES = "entities"
SHOWN = "shown"
LIMITS = "limits"
BACKENDS = "backends"
DRAINED = "drained"
PLANNED = "planned"
URLS = "urls"


class Option:
    """An option: a flag where the parameter is a bool, otherwise one that takes a value."""

    __slots__ = ("completes", "env", "flags", "help", "metavar")

    def __init__(
        self,
        *flags: str,
        help: str,  # noqa: A002  # as argparse calls it
        metavar: str | None = None,
        env: str | None = None,
        completes: Completes = None,
    ) -> None:
        self.completes = completes
        self.flags = flags
        self.help = help
        self.metavar = metavar
        self.env = env


class Argument:
    """A positional argument; it may be left out where the parameter has a default."""

    __slots__ = ("completes", "help", "metavar")

    def __init__(
        self,
        metavar: str,
        help: str,  # noqa: A002  # as argparse calls it
        completes: Completes = None,
    ) -> None:
        self.completes = completes
        self.metavar = metavar
        self.help = help


class Parameter(NamedTuple):
    """One parameter of a command, as read from its signature."""

    name: str
    kind: type
    """What it holds: bool, str, int, or tuple for one that may be repeated."""
    marker: Option | Argument
    default: object
    required: bool


def parameters(function: object) -> list[Parameter]:
    """Read the parameters of a command from the annotations and defaults of its function."""
    annotations: dict[str, object] = getattr(function, "__annotations__", {})
    defaults: tuple[object, ...] = getattr(function, "__defaults__", None) or ()
    names = [name for name in annotations if name != "return"]
    first_default = len(names) - len(defaults)
    found = []
    for position, name in enumerate(names):
        annotation = annotations[name]
        marker = getattr(annotation, "__metadata__")[0]  # noqa: B009 - object has none, for mypy
        required = position < first_default
        default = None if required else defaults[position - first_default]
        found.append(Parameter(name, _kind(annotation), marker, default, required))
    return found


def _kind(annotation: object) -> type:
    """Return the type behind `Annotated[int | None, …]` and the like."""
    declared = getattr(annotation, "__origin__", str)
    kinds = (declared, getattr(declared, "__origin__", None), *getattr(declared, "__args__", ()))
    for candidate in (bool, int, tuple):
        if candidate in kinds:
            return candidate
    return str


AsJson = Annotated[bool, Option("--json", help="Print JSON, stable and documented.")]

ConfigDirectory = Annotated[
    str,
    Argument("[DIR]", help="The config directory [default: the current one].", completes=DIRECTORY),
]

Identity = Annotated[
    str | None,
    Option(
        "--identity",
        metavar="FILE",
        env="KAKEHI_IDENTITY",
        completes=FILE,
        help="Opens private keys that are committed encrypted: an identity of age, or a key of ssh "
        "[default: the systemd credential kakehi.identity].",
    ),
]

RuntimeDir = Annotated[
    str | None,
    Option(
        "--runtime-dir",
        metavar="DIR",
        env="KAKEHI_RUNTIME_DIR",
        completes=DIRECTORY,
        help="Where the daemon has its sockets [default: $XDG_RUNTIME_DIR/kakehi, as root "
        "/run/kakehi].",
    ),
]

HOURS_MAX = 87_600
"""Ten years: what clocks, timers and sockets can all say. `control.SECONDS_MAX` is the same."""

_DIGITS_MAX = 15
_UNITS_MS = (("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000))


def milliseconds(text: str, name: str) -> int:
    """Return the milliseconds of a duration, written as in the configuration.

    `name` is the option it was given to. `schemas.values.units` reads the same; importing it takes
    longer than a command such as `wait` may take to start.
    """
    for unit, factor in _UNITS_MS:
        digits = text.removesuffix(unit)
        if digits != text and digits.isascii() and digits.isdigit():
            found = int(digits) * factor if len(digits) <= _DIGITS_MAX else None
            if found is None or found > HOURS_MAX * 3_600_000:
                raise UsageError(f"{name} must be at most {HOURS_MAX}h")
            return found
    raise UsageError(f'{name} needs a duration such as "500ms", "30s" or "5m", not {text!r}')
