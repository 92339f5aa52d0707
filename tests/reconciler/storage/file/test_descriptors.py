"""SQLite says only that it cannot open a file; why is told when no file can be opened."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from reconciler.storage.file.database import Database, translated
from reconciler.storage.store import Store


@contextmanager
def none_left() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [os.dup(0)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (taken[0] + 1, hard))
    try:
        with suppress(OSError):
            while True:
                taken.append(os.dup(0))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for each in taken:
            os.close(each)


def test_that_descriptors_have_run_out_is_the_reason(tmp_path: Path) -> None:
    Store(tmp_path).close()
    with none_left(), pytest.raises(OSError, match="Too many open files") as raised, translated():
        Database(tmp_path).connect()
    assert raised.value.errno == errno.EMFILE
    (tmp_path / "state.db").unlink()
    with pytest.raises(OSError, match="unable to open") as raised, translated():
        Database(tmp_path).connect()
    assert raised.value.errno == errno.ENOENT
