"""The table in which all workers of the host count: rates, and behind them requests in flight.

Whoever has used a rate up has done so whatever is committed. The workers write it by a layout that
is the engine's (`policy/limits/meter`, `policy/limits/columns`). Without it each worker counts by
itself. Called by `reconciler.workers.slots.bringup` for what a worker has to know.
"""

from __future__ import annotations

from pathlib import Path

from reconciler.workers.telling.host_table import HostTable, Layout

RATES_BYTES = 4096 + 65536 * 16
"""A page with magic, seed and the boot whose clock is meant; 65,536 places for keys."""
_KEPT_BYTES = RATES_BYTES + 4096
TABLE_BYTES = _KEPT_BYTES + 128 * 8192 * 16
"""A page that tells which columns count; 128 columns, with memory when a worker takes one."""

_LAYOUT = Layout(
    file="rates",
    magic=b"kakehi rates  1\n",
    kept_bytes=_KEPT_BYTES,
    whole_bytes=TABLE_BYTES,
    # One of a version that counted rates alone goes on as it is.
    known_bytes=(RATES_BYTES, TABLE_BYTES),
    otherwise="each worker counts rates by itself",
)


class RateTableKeeper(HostTable):
    """The table of one host."""

    def __init__(self, runtime_dir: Path) -> None:
        super().__init__(runtime_dir, _LAYOUT)
