"""Contents of certificates, keys and the like, by hash, in the state directory.

Workers read them there: so a restart without the repository, and a worker that is replaced, have
all that they need. Called by `reconciler.loop` around a transaction.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from reconciler.durable import replace_durably
from reconciler.errors import UnreadableError
from schemas.change import Change
from schemas.entity import Entity
from schemas.material import materials_of

DIRECTORY = "material"


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class MaterialStore:
    """Contents by hash, each a file that only its owner may read."""

    def __init__(self, state_dir: Path, running: Iterable[Entity]) -> None:
        self.directory = state_dir / DIRECTORY
        with contextlib.suppress(OSError):
            self.make()
        self._uses: Counter[str] = Counter()
        self.uses(running)

    def make(self) -> None:
        """Make the directory. Raises `OSError`."""
        self.directory.mkdir(mode=0o700, exist_ok=True)

    def uses(self, running: Iterable[Entity]) -> None:
        """These are the running entities."""
        self._uses = Counter(
            material.sha256 for entity in running for material in materials_of(entity)
        )

    def forget_unused(self) -> None:
        """What no running entity needs is a leftover, once it is sure what runs."""
        for path in self.directory.iterdir():
            if path.name not in self._uses:
                path.unlink(missing_ok=True)

    def keep(self, entities: Iterable[Entity], contents: dict[str, bytes]) -> None:
        """Make durable what entities need, before anybody is told of them. Raises `OSError`."""
        for entity in entities:
            for material in materials_of(entity):
                path = self.directory / material.sha256
                if material.sha256 in contents and not path.exists():
                    replace_durably(path, contents[material.sha256])

    def applied(self, changes: Iterable[Change]) -> None:
        """Forget what no running entity needs any more."""
        released: set[str] = set()
        for change in changes:
            for material in materials_of(change.after) if change.after else ():
                self._uses[material.sha256] += 1
            for material in materials_of(change.before) if change.before else ():
                self._uses[material.sha256] -= 1
                released.add(material.sha256)
        for digest in released:
            if self._uses[digest] <= 0:
                del self._uses[digest]
                (self.directory / digest).unlink(missing_ok=True)

    def dropped(self, entities: Iterable[Entity]) -> None:
        """Forget what was kept for entities that came to nothing: a refused key is no one's."""
        for entity in entities:
            for material in materials_of(entity):
                if self._uses[material.sha256] <= 0:
                    (self.directory / material.sha256).unlink(missing_ok=True)

    def mend(self, entities: Iterable[Entity], read: Callable[[str], bytes]) -> list[str]:
        """Write anew what is missing or was altered; return the paths that it was read from.

        What has another content by now where it came from stays as it is. Raises `OSError`.
        """
        mended = []
        for found in {
            each.sha256: each for entity in entities for each in materials_of(entity)
        }.values():
            path = self.directory / found.sha256
            if path.exists() and _hash(path.read_bytes()) == found.sha256:
                continue
            with contextlib.suppress(UnreadableError):
                content = read(found.path)
                if _hash(content) == found.sha256:
                    replace_durably(path, content)
                    mended.append(found.path)
        return mended

    def needed(self, entities: Iterable[Entity]) -> list[str]:
        """The hashes that a worker has to read for these entities."""
        return sorted({found.sha256 for entity in entities for found in materials_of(entity)})
