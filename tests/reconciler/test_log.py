"""What is called a program error, and what is none."""

from __future__ import annotations

import errno
import os

import pytest

from reconciler.log import internal_sentence


def raised(failure: Exception, cause: Exception | None = None) -> Exception:
    try:
        raise failure from cause
    except type(failure) as error:
        return error


@pytest.mark.parametrize(
    ("failure", "sentence"),
    [
        (
            raised(ZeroDivisionError("a bug")),
            "internal error while counting: ZeroDivisionError: a bug (test_log.py:",
        ),
        (
            raised(FileNotFoundError(errno.ENOENT, "gone")),
            "internal error while counting: FileNotFoundError",
        ),
        (
            raised(OSError(errno.EMFILE, os.strerror(errno.EMFILE), "some.py")),
            "too many open files while counting",
        ),
        (
            raised(RuntimeError("wrapped"), OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))),
            "no space left on device while counting",
        ),
        (
            raised(ImportError("libm.so: cannot open shared object file: Too many open files")),
            "too many open files while counting",
        ),
        (raised(MemoryError()), "out of memory while counting"),
    ],
)
def test_what_the_machine_lacks_is_no_program_error(failure: Exception, sentence: str) -> None:
    assert internal_sentence("counting", failure).startswith(sentence)
