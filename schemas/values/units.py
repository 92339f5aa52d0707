"""Durations, sizes and shares: `250ms`, `30s`, `64KiB`, `10%` in YAML.

In the state they are whole milliseconds, bytes and hundredths.

Both directions live here: the models parse with `Measured`, a plan prints with it. A number without
a unit is refused, since nobody can tell seconds from milliseconds by looking at it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import core_schema

from schemas.base import fault, shown
from schemas.record import record

Unit = Literal["duration", "size", "share"]

DURATION_MS_MAX = 7 * 24 * 3_600_000
"""A week. It fits 32 bits of milliseconds, which is what a timer wheel wants, with room."""

SIZE_BYTES_MAX = 1 << 50
"""A pebibyte: far over any body, and far under where a signed 64-bit count would overflow."""

_DURATION_UNITS = {"h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
_SIZE_UNITS = {"TiB": 1 << 40, "GiB": 1 << 30, "MiB": 1 << 20, "KiB": 1 << 10, "B": 1}
# ASCII digits only: \d would take the digits of every script.
_DURATION = re.compile(r"([0-9]{1,15})(ms|s|m|h)")
_SIZE = re.compile(r"([0-9]{1,18})(B|KiB|MiB|GiB|TiB)")
_SHARE = re.compile(r"([0-9]{1,3})%")
_SIZE_LOOSE = re.compile(r"([0-9]+) ?([kKmMgGtT]?)(i?[bB])?")

DURATION_EXPECTED = 'expected a duration like "250ms", "30s", "5m"'
SIZE_EXPECTED = 'expected a size like "512B", "64KiB", "1MiB"'


def parse_duration(value: object) -> int:
    """Return the milliseconds of a duration as written in YAML."""
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise fault(f"{DURATION_EXPECTED}, not {shown(value)}", _duration_hint(value))
    milliseconds = int(match[1]) * _DURATION_UNITS[match[2]]
    if milliseconds > DURATION_MS_MAX:
        raise fault(f"{shown(value)} is too long: a duration is at most 168h")
    return milliseconds


def format_duration(milliseconds: int) -> str:
    """Return a duration as one would write it: the largest unit that leaves nothing over."""
    return _format(milliseconds, _DURATION_UNITS, "0s")


def parse_size(value: object) -> int:
    """Return the bytes of a size as written in YAML."""
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise fault(f"{SIZE_EXPECTED}, not {shown(value)}", _size_hint(value))
    size = int(match[1]) * _SIZE_UNITS[match[2]]
    if size > SIZE_BYTES_MAX:
        raise fault(f"{shown(value)} is too large: a size is at most 1024TiB")
    return size


def format_size(size: int) -> str:
    """Return a size as one would write it: the largest unit that leaves nothing over."""
    return _format(size, _SIZE_UNITS, "0B")


def parse_share(value: object) -> int:
    """Return the hundredths of a share as written in YAML."""
    match = _SHARE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        is_number = isinstance(value, int) and not isinstance(value, bool)
        hint = f"write the unit: {value}%" if is_number else "write whole numbers"
        raise fault(f'expected a share like "10%", not {shown(value)}', hint)
    return int(match[1])


def format_share(share: int) -> str:
    """Return a share as one would write it."""
    return f"{share}%"


@record
class Measured:
    """Makes an `int` field a duration, a size or a share, bounds included.

    It is written `Annotated[int, Measured(…)]`.

    The plan finds it on the field to print the value as it is written in YAML.
    """

    unit: Unit
    minimum: str
    maximum: str

    def parse(self, value: object) -> int:
        """Return the milliseconds, bytes or hundredths of a value as written in YAML."""
        parse = _UNITS[self.unit].parse
        amount = parse(value)
        if not parse(self.minimum) <= amount <= parse(self.maximum):
            bounds = f"from {self.minimum} to {self.maximum}"
            raise fault(f"{shown(value)} is out of range: it must be {bounds}")
        return amount

    def format(self, amount: int) -> str:
        """Return the YAML form of an amount."""
        return _UNITS[self.unit].format(amount)

    def __get_pydantic_core_schema__(
        self, _source: object, _handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(self.parse)

    def __get_pydantic_json_schema__(
        self, _schema: core_schema.CoreSchema, _handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"type": "string", "pattern": f"^{_UNITS[self.unit].pattern.pattern}$"}


@record
class _Written:
    """How amounts of a unit are written."""

    parse: Callable[[object], int]
    format: Callable[[int], str]
    pattern: re.Pattern[str]


_UNITS: dict[Unit, _Written] = {
    "duration": _Written(parse_duration, format_duration, _DURATION),
    "size": _Written(parse_size, format_size, _SIZE),
    "share": _Written(parse_share, format_share, _SHARE),
}


Duration = Annotated[int, Measured("duration", "1ms", "168h")]
"""A timeout. Zero is left out: an operator who writes it means "none", which no timeout offers."""


def _format(amount: int, units: dict[str, int], zero: str) -> str:
    if amount == 0:
        return zero
    unit = next(unit for unit, factor in units.items() if amount % factor == 0)
    return f"{amount // units[unit]}{unit}"


def _duration_hint(value: object) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"write the unit: {value}s or {value}ms"
    return "write whole numbers of a smaller unit" if "." in str(value) else None


def _size_hint(value: object) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"write the unit: {value}B or {value}KiB"
    match = _SIZE_LOOSE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return None
    return f'did you mean "{match[1]}{match[2].upper()}{"i" if match[2] else ""}B"?'
