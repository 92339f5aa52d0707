"""A disk that is broken: calls below directories fail with an I/O error by `failing.c`, preloaded.

Used by `tests.faults.test_failing_disk` and `tests.faults.test_repository`. Needs the C compiler
that the engine's build links with.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tests.harness.killer import compile_library

WRITES = "write,pwrite,pwrite64"
SYNCS = "fsync,fdatasync"
LENGTHS = "ftruncate,ftruncate64"
NAMES = "create,rename,unlink,mkdir"
OPENS = "open"
WATCHES = "inotify_add_watch"
READS = "read,pread,pread64,sendfile,sendfile64"


class Failing:
    """Breaks the disk for whoever is started in `environment`, until `mend`, and from `fail` on.

    `under`: how the paths begin at which calls fail.
    """

    def __init__(self, directory: Path, calls: str, under: Iterable[Path]) -> None:
        library = compile_library(Path(__file__).with_name("failing.c"), directory)
        self._broken = directory / "broken"
        self.fail()
        self.environment = {
            "LD_PRELOAD": str(library),
            "FAILING_CALLS": calls,
            "FAILING_UNDER": ",".join(map(str, under)),
            "FAILING_WHILE": str(self._broken),
        }

    def fail(self) -> None:
        """From here on calls fail."""
        self._broken.touch()

    def mend(self) -> None:
        """From here on nothing fails."""
        self._broken.unlink()
