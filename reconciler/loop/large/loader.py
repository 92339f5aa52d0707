"""The process that stages a large change, so that the daemon's loop, memory and lock stay its own.

It reads one request from its standard input and tells on its standard output how far it is and at
last what it found; the changes lie in a file (`reconciler.storage.writing.bulk`). Other processes
parse (`reconciler.loop.large.pool`), and it ends with the daemon, whatever that dies of. Started
by `reconciler.loop.large.loading`.
"""

from __future__ import annotations

import base64
import contextlib
import gc
import json
import os
import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from reconciler.catalog.catalog import Candidate, Settled, Warn, files_naming, stage_parsed
from reconciler.catalog.relations import View
from reconciler.catalog.views import MemoryView
from reconciler.language.findings import Finding
from reconciler.loop.large.pool import Blob, Parsers, die_with_parent
from reconciler.loop.large.request import Request
from reconciler.loop.stager import has_moved, served_before
from reconciler.materials.external import Signature, signature_of
from reconciler.planning.planner import position
from reconciler.source.git.repository_errors import NoConfigurationError, RepositoryError
from reconciler.source.source import Changed, Source
from reconciler.storage.file.database import Database
from reconciler.storage.kept import parsed
from reconciler.storage.kept.parsed import ParsedBlobs
from reconciler.storage.reading.state import StoredState
from reconciler.storage.reading.upgrade import LANGUAGE
from reconciler.storage.writing import bulk
from reconciler.storage.writing.bulk import BulkWriter
from schemas.entities.entity import Entity, EntityKey

_TELL_EVERY_S = 0.2
# Another number is what makes results of another program unknown.
_FORM = f"3 {LANGUAGE}"

_Change = tuple[EntityKey, Entity | None, Entity | None]


class ForkedWork:
    """Work of another process, which has all that this one has at this moment."""

    def __init__(self, work: Callable[[], dict[str, Any]]) -> None:
        """Raises `OSError`."""
        reader, writer = os.pipe()
        parent = os.getpid()
        self._pid = os.fork()
        if self._pid == 0:
            die_with_parent()
            if os.getppid() != parent:
                os._exit(1)
            try:
                said = {"result": work()}
            except (OSError, sqlite3.Error) as error:
                said = {"problem": {"reason": str(error)}}
            with os.fdopen(writer, "w") as told:
                json.dump(said, told)
            os._exit(0)
        os.close(writer)
        self._reader = reader

    @cached_property
    def result(self) -> dict[str, Any]:
        """Waits for it. Raises `OSError`."""
        with os.fdopen(self._reader) as told:
            said = told.read()
        os.waitpid(self._pid, 0)
        found: dict[str, Any] = json.loads(said) if said else {}
        if "result" not in found:
            reason = found.get("problem", {}).get("reason", "the process that writes has died")
            raise OSError(reason)
        result: dict[str, Any] = found["result"]
        return result


class Loader:
    """Stages one large change, in the process of its own."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._source = Source(Path(request.directory), None)
        self._machine = request.machine
        self._outside: dict[str, Signature | None] = {}
        self._told_at = 0.0
        self._parsing: Parsers | None = None
        self._files = 0
        self._writing: ForkedWork | None = None

    def run(self) -> dict[str, Any]:
        """Return what was found. Raises `RepositoryError`, `sqlite3.Error` and `OSError`."""
        with contextlib.closing(
            Database(Path(self._request.database)).connect_reading()
        ) as connection:
            connection.execute("BEGIN")
            row = connection.execute("SELECT generation, digest FROM running").fetchone()
            generation, digest = row or (0, "0" * 32)
            return self._stage(StoredState(connection, digest), generation)

    def _stage(self, state: StoredState, generation: int) -> dict[str, Any]:
        request = self._request
        self._tell("comparing")
        found = self._source.compared(request.base, request.tree)
        self._machine = replace(self._machine, served=served_before(state, self._source))
        others = found.others.union(request.touched)
        # What is there costs a question for each entity; where nothing is, none need be asked.
        running: View = state if len(state) else MemoryView()
        base: View = MemoryView() if found.full else running
        changed = Changed({}, (), full=found.full, others=others, tree=request.tree)
        blobs = dict(found.blobs)
        named = self._source.with_naming(changed, files_naming(base, others)).files
        contents = {path: content for path, content in named.items() if path not in blobs}
        write = partial(self._write, state, running, full=found.full)
        candidate = self._candidate(base, blobs, contents, changed, write)
        result: dict[str, Any] = {
            "generation": generation,
            "diagnostics": [asdict(each) for each in candidate.diagnostics],
            "warnings": [asdict(each) for each in found.warnings],
            "full": found.full,
            "outside": self._outside,
        }
        if candidate.ok:
            self._tell("writing", now=True)
            assert self._writing is not None, "it was begun before the check"
            result |= self._writing.result["written"]
            result["contents"] = {
                digest: base64.b64encode(content).decode()
                for digest, content in candidate.contents.items()
            }
        return result

    def _candidate(
        self,
        base: View,
        blobs: Mapping[str, bytes | None],
        contents: Mapping[str, bytes | None],
        changed: Changed,
        write: Callable[[Settled], dict[str, Any]],
    ) -> Candidate:
        def content(path: str) -> bytes | None:
            return contents[path] if path in contents else self._source.content(blobs[path])

        asked: list[Blob] = sorted((path, blobs.get(path)) for path in {*blobs, *contents})
        self._files = len(asked)
        known = ParsedBlobs(Path(self._request.place) / parsed.FILE_NAME, _FORM)
        directory = Path(self._request.directory)
        self._parsing = Parsers(directory, known, partial(self._tell, "reading"))
        with contextlib.closing(known):
            files = self._parsing.run(asked)
            read = partial(self._read_file, changed)
            return stage_parsed(
                base,
                files,
                content,
                read,
                changed.others,
                self._machine,
                partial(self._settled, write),
            )

    def _settled(self, write: Callable[[Settled], dict[str, Any]], found: Settled) -> Warn:
        """Have another process write it and look for warnings; this one looks for errors."""
        self._tell("checking", now=True)

        def work() -> dict[str, Any]:
            return {"written": write(found), "warnings": [asdict(each) for each in found.warn()]}

        writing = self._writing = ForkedWork(work)

        def warnings() -> list[Finding]:
            return [_finding(**each) for each in writing.result["warnings"]]

        return warnings

    def _read_file(self, changed: Changed, path: str) -> bytes:
        if path.startswith("/"):
            self._outside[path] = signature_of(path)
        return self._source.read_file(changed, path)

    def _write(
        self, state: StoredState, running: View, found: Settled, *, full: bool
    ) -> dict[str, Any]:
        # A connection is not for two processes.
        database = Database(Path(self._request.database))
        with contextlib.closing(database.connect_reading()) as own:
            own.execute("BEGIN")
            stored = StoredState(own, state.digest)
            return self._write_all(stored, stored if len(stored) else running, found, full=full)

    def _write_all(
        self, state: StoredState, running: View, found: Settled, *, full: bool
    ) -> dict[str, Any]:
        desired: dict[EntityKey, Entity | None] = dict(found.desired)
        if full:
            desired.update((key, None) for key in state if key not in desired)
        changes = list(_changes(desired, running))
        touched = {key for key, _, _ in changes}
        writer = BulkWriter(Path(self._request.place) / bulk.FILE_NAME, found.relate)
        writer.changes(sorted(changes, key=_position))
        writer.relations(
            (after for _, _, after in changes if after is not None),
            (before for _, before, _ in changes if before is not None),
        )
        writer.files(found.files)
        moved = [
            entity
            for entity in (*found.moved.values(), *desired.values())
            if entity is not None and entity.key not in touched and has_moved(running, entity)
        ]
        writer.moved(moved)
        writer.finish()
        digest = (int(state.digest, 16) + writer.difference) % (1 << 128)
        return {"digest": f"{digest:032x}", "moved": len(moved)}

    def _tell(self, phase: str, *, now: bool = False) -> None:
        if not now and time.monotonic() < self._told_at + _TELL_EVERY_S:
            return
        self._told_at = time.monotonic()
        parsing = self._parsing
        read, fresh = (parsing.read, parsing.parsed) if parsing else (0, 0)
        _say({"phase": phase, "files": self._files, "read": read, "parsed": fresh})


def _finding(key: list[str], path: list[str], **said: Any) -> Finding:
    return Finding(key=EntityKey(*key), path=tuple(path), **said)


def _changes(desired: Mapping[EntityKey, Entity | None], running: View) -> Iterator[_Change]:
    for key, after in desired.items():
        before = running.get(key)
        if after is None and before is None:
            continue
        if after is None or before is None or before.value != after.value:
            yield key, before, after


def _position(change: _Change) -> tuple[int, str]:
    key, _, after = change
    return position(key, removed=after is None)


def _say(said: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()


def main() -> int:
    """Stages what it is asked for."""
    # What a terminal sends to the daemon is the daemon's to tell.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent()
    # It may have died before that.
    if os.getppid() != int(sys.argv[1]):
        return 1
    asked = sys.stdin.readline()
    if not asked:
        return 1
    # It ends before a collection would have paid.
    gc.disable()
    try:
        _say({"result": Loader(Request(**json.loads(asked))).run()})
    except NoConfigurationError as error:
        _say({"empty": str(error), "commit": error.commit})
    except RepositoryError as error:
        _say({"held": str(error)})
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _say({"unwritable": f"{where}{error.strerror or error}"})
    except sqlite3.Error as error:
        # It names none itself.
        _say({"unwritable": f"a file in {json.loads(asked)['place']}: {error}"})
    # Taking a large state apart object by object is for nobody.
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
