"""What `kakehi run` was told. Read by all of the room; made by `reconciler.cli.commands.run`."""

from __future__ import annotations

from pathlib import Path

from schemas.record import record


@record
class DaemonOptions:
    """What the command line says. `workers` overrides the settings; `remote` is fetched from."""

    directory: Path
    ref: str | None
    workers: int | None
    runtime_dir: Path
    state_dir: Path
    remote: str | None = None
    fetch_interval_s: float | None = None
    identity: Path | None = None
    """Opens private keys that are committed encrypted."""
