"""Durations as options take them: written as in the configuration. Called by commands that wait.

`schemas.values.units` reads the same; importing it takes longer than a command such as `wait` may
take to start.
"""

from reconciler.cli.exits import UsageError

HOURS_MAX = 87_600
"""Ten years: what clocks, timers and sockets can all say. `control.SECONDS_MAX` is the same."""

_DIGITS_MAX = 15
_UNITS_MS = (("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000))


def milliseconds(text: str, name: str) -> int:
    """Return the milliseconds of a duration; `name` is the option it was given to."""
    for unit, factor in _UNITS_MS:
        digits = text.removesuffix(unit)
        if digits != text and digits.isascii() and digits.isdigit():
            found = int(digits) * factor if len(digits) <= _DIGITS_MAX else None
            if found is None or found > HOURS_MAX * 3_600_000:
                raise UsageError(f"{name} must be at most {HOURS_MAX}h")
            return found
    raise UsageError(f'{name} needs a duration such as "500ms", "30s" or "5m", not {text!r}')
