"""Durations as options take them: written as in the configuration. Called by commands that wait.

`schemas.values.units` reads the same; importing it takes longer than a command such as `wait` may
take to start.
"""

from reconciler.cli.exits import UsageError

_UNITS_MS = (("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000))


def milliseconds(text: str, name: str) -> int:
    """Return the milliseconds of a duration; `name` is the option it was given to."""
    for unit, factor in _UNITS_MS:
        digits = text.removesuffix(unit)
        if digits != text and digits.isascii() and digits.isdigit():
            return int(digits) * factor
    raise UsageError(f'{name} needs a duration such as "500ms", "30s" or "5m", not {text!r}')
