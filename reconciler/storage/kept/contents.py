"""Contents of certificates, keys and the like, by hash, in the state directory.

Workers read them there: so a restart without the repository, and a worker that is replaced, have
all that they need. Called by `reconciler.loop` around a transaction.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from reconciler import log
from reconciler.durable import make_own_directory, replace_durably
from reconciler.errors import UnreadableError
from reconciler.presence import is_there
from reconciler.storage.kept.copies import Copies
from schemas.changes.change import Change, with_files
from schemas.entities.entity import Entity
from schemas.entities.material import materials_of
from schemas.messages.files import read_regular

DIRECTORY = "material"


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class MaterialStore:
    """Contents by hash, each a file that only its owner may read."""

    def __init__(
        self,
        state_dir: Path,
        is_needed: Callable[[str], bool],
        ask: Callable[[], None] = lambda: None,
    ) -> None:
        """`is_needed` says of a hash whether a running entity has it.

        `ask` raises `OSError` where the state directory does not answer.
        """
        self.directory = self._home = state_dir / DIRECTORY
        """Where workers read them now: elsewhere while the state directory cannot be written."""
        self._is_needed = is_needed
        self._ask = ask
        self._copies = Copies()
        # Whoever reads a former state needs what it names; what nobody else needs goes then.
        self._readers = 0
        self._left: set[str] = set()
        with contextlib.suppress(OSError):
            self.make()

    def make(self) -> None:
        """Make the directory. Raises `OSError`."""
        self._answered()
        make_own_directory(self.directory)

    def _answered(self) -> None:
        """Before anything is touched there. Raises `OSError`."""
        if self.directory == self._home:
            self._ask()

    def copy(self) -> None:
        """Have in memory what a start found there. For a thread."""
        with contextlib.suppress(OSError):
            self._answered()
            self._copies.fill(self.directory)

    def stand_in(self, directory: Path) -> None:
        """From here on they lie in this directory. Raises `OSError`.

        Those in the state directory by links; what stood in before is about to go.
        """
        elsewhere = directory / DIRECTORY
        make_own_directory(elsewhere)
        with contextlib.suppress(OSError):
            self._answered()
            for path in self.directory.iterdir():
                if self.directory == self._home or path.is_symlink():
                    (elsewhere / path.name).symlink_to(path.resolve())
                else:
                    replace_durably(elsewhere / path.name, read_regular(path))
        self.directory = elsewhere

    def write_home(self) -> None:
        """Write what has come elsewhere to the state directory. Raises `OSError`."""
        self._ask()
        make_own_directory(self._home)
        if self.directory != self._home:
            # Whoever tidies up there may have taken it: then `mend` has to write them.
            with contextlib.suppress(FileNotFoundError):
                for path in self.directory.iterdir():
                    if not path.is_symlink():
                        replace_durably(self._home / path.name, read_regular(path))

    def be_home(self) -> None:
        """From here on they lie in the state directory again."""
        self.directory = self._home

    def content_of(self, entity: Entity | None) -> bytes | None:
        """Return the content of an entity's only file; None when it has none, or several."""
        digests = {material.sha256 for material in materials_of(entity)} if entity else set()
        if len(digests) == 1:
            with contextlib.suppress(OSError):
                self._answered()
                return read_regular(self.directory / digests.pop())
        return None

    def forget_unused(self) -> None:
        """What no running entity needs is a leftover, once it is sure what runs."""
        self._answered()
        self._let_go([path.name for path in self.directory.iterdir()])

    def keep(self, entities: Iterable[Entity], contents: dict[str, bytes]) -> None:
        """Make durable what entities need, before anybody is told of them. Raises `OSError`."""
        for entity in with_files(entities):
            for material in materials_of(entity):
                path = self.directory / material.sha256
                self._answered()
                content = contents.get(material.sha256)
                if content is None:
                    continue
                if not is_there(path):
                    replace_durably(path, content)
                self._copies.hold(material.sha256, content)

    def applied(self, changes: Iterable[Change]) -> None:
        """Forget what no running entity needs any more."""
        self._let_go(
            material.sha256
            for change in with_files(changes)
            if change.before is not None
            for material in materials_of(change.before)
        )

    def dropped(self, entities: Iterable[Entity]) -> None:
        """Forget what was kept for entities that came to nothing: a refused key is no one's."""
        self._let_go(
            found.sha256 for entity in with_files(entities) for found in materials_of(entity)
        )

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Within, nothing is taken away, whatever is applied."""
        self._readers += 1
        try:
            yield
        finally:
            self._readers -= 1
            if not self._readers:
                left, self._left = self._left, set()
                self._let_go(left)

    def names(self) -> frozenset[str] | None:
        """The hashes that files lie there for; None where the place of the directory is gone.

        For a thread. Raises `OSError`.
        """
        directory = self.directory
        self._answered()
        try:
            with os.scandir(directory) as found:
                return frozenset(each.name for each in found)
        except FileNotFoundError:
            return frozenset() if is_there(directory.parent) else None

    def stamp(self) -> tuple[int, int]:
        """What is another one when a file has come or gone."""
        try:
            self._answered()
            found = self.directory.stat()
        except OSError:
            return 0, 0
        return found.st_ino, found.st_mtime_ns

    def holds(self, digest: str) -> bool:
        """Tell whether a content is there as it was written. For any thread.

        Raises `OSError` where that is not to be known.
        """
        self._answered()
        with contextlib.suppress(OSError):
            return _hash(read_regular(self.directory / digest)) == digest
        return False

    def _let_go(self, digests: Iterable[str]) -> None:
        if self._readers:
            self._left.update(digests)
            return
        failed: OSError | None = None
        for digest in dict.fromkeys(digests):
            try:
                self._answered()
                if not self._is_needed(digest):
                    self._copies.drop(digest)
                    (self.directory / digest).unlink(missing_ok=True)
            except OSError as error:
                failed = error
        if failed is not None:
            # The next start tries again; meanwhile whoever may read the directory still can.
            reason = failed.strerror or failed
            log.warning("files that nobody needs any more are left over", reason=reason)

    def mend(
        self, entities: Iterable[Entity], read: Callable[[str], bytes]
    ) -> tuple[list[str], dict[str, str]]:
        """Write anew what is missing or was altered; return the paths that it is of, and the rest.

        That rest is nowhere (where it came from is another content by now): path by hash. Raises
        `OSError`.
        """
        self.make()
        mended, lost = list[str](), dict[str, str]()
        for found in {
            each.sha256: each for entity in entities for each in materials_of(entity)
        }.values():
            if self.holds(found.sha256):
                continue
            content = self._copies.get(found.sha256)
            if content is None:
                with contextlib.suppress(UnreadableError):
                    content = read(found.path)
            if content is None or _hash(content) != found.sha256:
                lost[found.sha256] = found.path
                continue
            replace_durably(self.directory / found.sha256, content)
            mended.append(found.path)
        return mended, lost
