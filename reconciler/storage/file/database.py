"""The database file: opened, checked, migrated, and its errors in words of ours.

One SQLite file in the state directory, in WAL mode with `synchronous=FULL`: a write transaction is
durable when it returns, readers see whole transactions and never wait. Called by
`reconciler.storage.store` and `reconciler.storage.reading.state`.

SQLite notices a damaged page structure, not a flipped bit in a value, and ends early at a damaged
frame of the WAL; so every entity carries its hash, and the header row its own (`state`, `store`).
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any

from reconciler.durable import rename_durably, sync_directory
from reconciler.errors import MachineError
from reconciler.presence import is_directory, is_there
from reconciler.storage.file.kept_open import KeptOpen

FILE_NAME = "state.db"

# A reader never waits for a writer in WAL mode; a writer may meet a checkpoint.
_BUSY_TIMEOUT_S = 5.0
_CACHE_KIB = 8 * 1024
# By what SQLite knows a file, also an empty one once it has been opened for a log.
_HEAD = b"SQLite format 3\0"
CONTENT_BYTES = 16
"""Of a row's hash: what an entity adds to the digest."""
_PLACE_BYTES = 8
# Between two looks at the clock: of SQLite's virtual machine, about a millisecond.
_STEPS = 10_000

_FIRST = """
CREATE TABLE running (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  generation INTEGER NOT NULL,
  digest TEXT NOT NULL,
  commit_id TEXT,
  tree TEXT,
  applied_at TEXT,
  epoch INTEGER NOT NULL,
  language TEXT NOT NULL,
  check_sum TEXT NOT NULL
);
CREATE TABLE entities (
  kind TEXT NOT NULL,
  name TEXT NOT NULL,
  value BLOB NOT NULL,
  hash BLOB NOT NULL,
  file TEXT NOT NULL,
  line INTEGER NOT NULL,
  position INTEGER NOT NULL,
  PRIMARY KEY (kind, name)
) WITHOUT ROWID;
CREATE TABLE counts (kind TEXT PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE relations (
  relation TEXT NOT NULL,
  term TEXT NOT NULL,
  kind TEXT NOT NULL,
  name TEXT NOT NULL,
  note TEXT NOT NULL,
  PRIMARY KEY (relation, term, kind, name)
) WITHOUT ROWID;
CREATE TABLE files (path TEXT PRIMARY KEY, defines TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE kept (name TEXT PRIMARY KEY, text TEXT NOT NULL, hash BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE unfinished (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  base_generation INTEGER NOT NULL,
  base_digest TEXT NOT NULL,
  puts TEXT NOT NULL,
  removes TEXT NOT NULL
);
"""
# The history, and a hash for what a file defines.
_SECOND = """
CREATE TABLE history (
  number INTEGER PRIMARY KEY,
  commit_id TEXT NOT NULL,
  topic TEXT NOT NULL,
  told TEXT NOT NULL,
  size INTEGER NOT NULL,
  entry TEXT NOT NULL,
  hash BLOB NOT NULL
);
CREATE INDEX history_commits ON history (commit_id);
CREATE INDEX history_sizes ON history (size);
ALTER TABLE files RENAME TO former_files;
CREATE TABLE files (path TEXT PRIMARY KEY, defines TEXT NOT NULL, hash BLOB NOT NULL) WITHOUT ROWID;
INSERT INTO files SELECT path, defines, text_hash(path, defines) FROM former_files;
DROP TABLE former_files;
"""
# Values without their defaults. The tables are the same: by the name of the language `upgrade` sees
# that the values are of before.
_THIRD = ""
# The hash of an entity with a sum of where it is written.
_FOURTH = """
UPDATE entities SET hash = with_place(hash, kind, name, file, line, position);
"""
_FORMS = (_FIRST, _SECOND, _THIRD, _FOURTH)
"""What makes a file of each form from one of the form before."""
VERSION = len(_FORMS)
"""`user_version`. A newer file is refused untouched; an older one is migrated forward."""


class DamagedError(MachineError):
    """The database, or a row of it, is not what was written."""


class UnreadError(DamagedError):
    """SQLite could make nothing of what it has read, or could not read it: it says the same."""

    def __init__(self, reason: object) -> None:
        super().__init__(f"the state database cannot be read: {reason}")
        self.reason = reason

    def confirmed(self) -> DamagedError:
        """It reads well, and does not fit."""
        return DamagedError(f"the state database is damaged: {self.reason}")


class Damage:
    """What somebody has come upon in the database, until somebody else sees to it."""

    def __init__(self, refuse: Callable[[], None] = lambda: None) -> None:
        """`refuse` raises `OSError` while nobody is to read: the disk does not answer."""
        self._found: DamagedError | None = None
        self.refuse = refuse

    def note(self, found: DamagedError) -> None:
        """Keep what was found, for whoever asks by `take`."""
        self._found = found

    @contextlib.contextmanager
    def noted(self) -> Iterator[None]:
        """Within, damage is noted, and raised all the same."""
        try:
            yield
        except DamagedError as error:
            self.note(error)
            raise

    def take(self) -> DamagedError | None:
        """Return what was noted since the last call."""
        found, self._found = self._found, None
        return found


class NewerError(MachineError):
    """The database is of a newer version of Kakehi."""


def text_hash(name: object, text: object) -> bytes:
    """What a kept text is stored with. A damaged row may have values of another type."""
    return blake2b(f"{name}\0{text}".encode("utf-8", "replace"), digest_size=16).digest()


def with_place(
    content: object, kind: object, name: object, file: object, line: object, position: object
) -> bytes:
    """The hash that a row of an entity is checked by: of its content, and of where it is written.

    Only the first is a part of the digest, which is the same wherever things are written. A damaged
    row may have values of another type.
    """
    own = content[:CONTENT_BYTES] if isinstance(content, bytes) else b""
    place = f"{kind}\0{name}\0{file}\0{line}\0{position}"
    return own + blake2b(place.encode("utf-8", "replace"), digest_size=_PLACE_BYTES).digest()


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn SQLite's errors into `OSError` (disk full, read-only) and `DamagedError`."""
    try:
        yield
    except sqlite3.OperationalError as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_ERROR:
            # Our statements are right: what they are about is not there any more.
            raise UnreadError(error) from error
        if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_IOERR_SHORT_READ:
            raise UnreadError(f"it is cut off ({error})") from error
        if code == sqlite3.SQLITE_CANTOPEN and (reason := _why_none_opens()) is not None:
            raise OSError(reason, os.strerror(reason)) from error
        raise OSError(_ERRNO.get(code, errno.EIO), str(error)) from error
    # SQLite may cite what it cannot read. An I/O error of a read it calls a malformed file.
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        raise UnreadError(error) from error


_ERRNO = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_READONLY: errno.EROFS,
    sqlite3.SQLITE_BUSY: errno.EBUSY,
    sqlite3.SQLITE_CANTOPEN: errno.ENOENT,
    sqlite3.SQLITE_NOMEM: errno.ENOMEM,
    sqlite3.SQLITE_PERM: errno.EACCES,
    sqlite3.SQLITE_INTERRUPT: errno.ETIMEDOUT,
}


def _why_none_opens() -> int | None:
    """SQLite does not tell why it cannot open a file: whether no file at all can be opened."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        return error.errno
    return None


def end_after(connection: sqlite3.Connection, seconds: float) -> None:
    """Whatever a connection is asked raises an error from a moment on."""
    end = time.monotonic() + seconds
    connection.set_progress_handler(lambda: time.monotonic() > end, _STEPS)


class _Connection(sqlite3.Connection):
    """One that has the index of the log looked at before each statement."""

    guard: Callable[[], None] | None = None

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        if self.guard is not None:
            self.guard()
        return super().execute(sql, parameters)


class Database:
    """The path, and how to connect to it."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / FILE_NAME
        self._kept_open = KeptOpen(self.path)
        self.guard: Callable[[], None] | None = None
        """What keeps the index of the log as long as it is mapped."""

    def connect(self) -> sqlite3.Connection:
        """Open a connection; transactions are begun by hand. Raises `sqlite3.Error`."""
        # A file that is gone is not made anew by whoever only reads it.
        connection = self._connect("rw")
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA wal_autocheckpoint=0")
        except BaseException:
            connection.close()
            raise
        return connection

    def connect_reading(self) -> sqlite3.Connection:
        """Open a connection for a process beside the daemon's. Raises `sqlite3.Error`.

        Whoever may write and is the last to close takes the log away; a daemon that has died
        meanwhile has left it to the next one, who would take it for lost.
        """
        return self._connect("ro")

    def _connect(self, mode: str) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"{self.path.absolute().as_uri()}?mode={mode}",
            uri=True,
            timeout=_BUSY_TIMEOUT_S,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
            factory=_Connection,
        )
        connection.guard = self.guard
        try:
            connection.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
        except BaseException:
            connection.close()
            raise
        return connection

    def open(self, found: Callable[[], None] = lambda: None) -> sqlite3.Connection:
        """Open it for writing, made or migrated. Raises `OSError`, `DamagedError`, `NewerError`.

        `found` is called when the log has been read, and nothing is written yet.
        """
        with translated():
            if not is_there(self.path):
                self.path.touch(mode=0o600)
                sync_directory(self.path.parent)
            connection = self.connect()
            try:
                connection.execute("PRAGMA user_version").fetchone()
                found()
                self._migrate(connection)
            except BaseException:
                connection.close()
                raise
        return connection

    def checkpoint(self) -> None:
        """Copy the WAL into the file, as far as no reader needs it. For a thread of its own."""
        with translated(), contextlib.closing(self.connect()) as connection:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()

    @property
    def files(self) -> tuple[Path, Path]:
        """What holds the state while it is open: the file, and its WAL once it was written to."""
        return self.path, self.log

    def replace(self, source: sqlite3.Connection) -> None:
        """Put a copy of what a connection reads in place of whatever is there. Raises `OSError`."""
        fresh = self._beside(".new")
        fresh.unlink(missing_ok=True)
        try:
            fresh.touch(mode=0o600)
            with translated(), contextlib.closing(sqlite3.connect(fresh)) as target:
                source.backup(target)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise
        if is_directory(self.path):
            self.set_aside()
        # A WAL of another file would be taken for one of this.
        for suffix in ("-wal", "-shm"):
            self._beside(suffix).unlink(missing_ok=True)
        rename_durably(fresh, self.path)

    def copy_files(self, directory: Path) -> bool:
        """Copy it to another directory: all that is there, or nothing where that cannot be read."""
        try:
            with (
                contextlib.suppress(FileNotFoundError),
                (directory / self.path.name).open("wb") as copy,
            ):
                copy.writelines(self._kept_open.parts())
            with contextlib.suppress(FileNotFoundError):
                shutil.copyfile(self.log, directory / self.log.name)
        except OSError:
            for path in self.files:
                (directory / path.name).unlink(missing_ok=True)
            return False
        return True

    def read_through(self) -> None:
        """Raises `OSError` where the disk does not give back what is there: that is no damage."""
        # SQLite has no locks on the log.
        for file in (self._kept_open, KeptOpen(self.log)):
            with contextlib.suppress(FileNotFoundError):
                for _ in file.parts():
                    pass

    def check_head(self) -> None:
        """Raises `DamagedError` where the file does not begin as a database does.

        What is read may be in the log, all of it: then nobody meets what is lost in the file, which
        is what a checkpoint or a start without that log would read.
        """
        # A file that is gone, or a disk that does not read, is met by others.
        with contextlib.suppress(OSError):
            if self._kept_open.beginning(len(_HEAD)) != _HEAD:
                raise DamagedError("the state database is damaged: it is no database any more")

    def fits(self) -> bool:
        """Whether SQLite finds nothing wrong in it. Raises `OSError`."""
        try:
            with translated(), contextlib.closing(self.connect()) as connection:
                found: tuple[str] = connection.execute("PRAGMA quick_check(1)").fetchone()
        except DamagedError:
            return False
        return found == ("ok",)

    @property
    def log(self) -> Path:
        """The WAL."""
        return self._beside("-wal")

    @property
    def index(self) -> Path:
        """The index of the WAL, while somebody has the file open."""
        return self._beside("-shm")

    def _beside(self, suffix: str) -> Path:
        return self.path.with_name(FILE_NAME + suffix)

    def set_aside(self) -> str:
        """Rename a damaged file, with what belongs to it; return its new name."""
        number = 1
        while is_there(aside := self.path.with_name(f"{FILE_NAME}.damaged-{number}")):
            number += 1
        for suffix in ("", "-wal", "-shm"):
            found = self._beside(suffix)
            with contextlib.suppress(FileNotFoundError):
                found.rename(aside.with_name(aside.name + suffix))
        sync_directory(self.path.parent)
        return aside.name

    def _migrate(self, connection: sqlite3.Connection) -> None:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            raise NewerError(
                f"{self.path} was written by a newer version of Kakehi (form {version}; this one "
                f"knows {VERSION}): run that version, or move the file away to start from the "
                "repository"
            )
        if version == VERSION:
            return
        connection.create_function("text_hash", 2, text_hash, deterministic=True)
        connection.create_function("with_place", 6, with_place, deterministic=True)
        steps = "".join(_FORMS[version:])
        connection.executescript(f"BEGIN IMMEDIATE;{steps}PRAGMA user_version={VERSION};COMMIT;")
