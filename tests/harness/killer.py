"""Ends the daemon at its n-th call that writes, syncs, renames or sends: `killer.c`, preloaded.

Used by `tests.faults.killing`. Needs the C compiler that the engine's build links
with.
"""

from __future__ import annotations

import mmap
import shutil
import struct
import subprocess
from pathlib import Path

_SOURCE = Path(__file__).with_name("killer.c")
_WORDS = struct.Struct("<QQQ16s")
# More calls than any apply makes: they are counted, and nobody ends.
_NEVER = 1 << 62


def build(directory: Path) -> Path:
    """Compile the library into a directory."""
    return compile_library(_SOURCE, directory)


def compile_library(source: Path, directory: Path) -> Path:
    """Compile what is to be preloaded."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    assert compiler is not None, "a C compiler is needed, as for the build of the engine"
    library = directory / f"{source.stem}.so"
    command = [compiler, "-O1", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True)
    return library


class Killer:
    """What a daemon shares with us that is started in `environment`."""

    def __init__(self, library: Path, directory: Path) -> None:
        self._file = directory / "killer"
        self._file.write_bytes(bytes(_WORDS.size))
        with self._file.open("r+b") as opened:
            self._shared = mmap.mmap(opened.fileno(), _WORDS.size)
        self.environment = {"LD_PRELOAD": str(library), "KILLER_FILE": str(self._file)}

    def count(self) -> None:
        """Count from here on."""
        self._set(_NEVER)

    def kill_at(self, call: int, *, by_half: bool = False) -> None:
        """End it at so many calls from here on; `by_half`: when half of its bytes are out."""
        self._set(call, by_half)

    def counted(self) -> int:
        """Stop counting; return how many calls there were."""
        count: int = _WORDS.unpack_from(self._shared)[1]
        self._set(0)
        return count

    @property
    def name(self) -> str:
        """The call at which it ended."""
        name: bytes = _WORDS.unpack_from(self._shared)[3]
        return name.rstrip(b"\0").decode()

    def _set(self, at: int, by_half: bool = False) -> None:
        # Counting begins with the first word, so that goes last.
        _WORDS.pack_into(self._shared, 0, 0, 0, by_half, b"")
        struct.pack_into("<Q", self._shared, 0, at)
