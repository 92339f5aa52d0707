"""The daemon's own log: one plain line to stderr for each thing that an operator would ask about.

`time level message key=value …`; under systemd the time is left to the journal, which has its own.
Never a traceback: `internal_error` says in one line where a program error happened. The daemon logs
`in_background`: a stderr that nobody reads holds nothing up.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sys
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from schemas.messages.lines import STDERR

_UNDER_SYSTEMD = "JOURNAL_STREAM" in os.environ
# The journal reads the priority from such a prefix (sd-daemon(3)).
_PRIORITIES = {"info": "<6>", "warning": "<4>", "error": "<3>"}
# How long the end of the daemon waits for whoever reads its last lines.
_FLUSH_S = 1.0
_LACKING = {
    number: os.strerror(number)[0].lower() + os.strerror(number)[1:]
    for number in (
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOSPC,
        errno.EDQUOT,
        errno.ENOMEM,
        errno.EROFS,
    )
}
_background = False


@contextlib.contextmanager
def in_background() -> Iterator[None]:
    """Write by a thread, which alone waits for the reader; also what libraries have to say."""
    global _background  # noqa: PLW0603  # there is one stderr
    _background = True
    bridge = _Bridge(logging.WARNING)
    logging.getLogger().addHandler(bridge)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(bridge)
        _background = False
        STDERR.flush(_FLUSH_S)


class _Bridge(logging.Handler):
    """Lines of libraries, in our form and without tracebacks."""

    def emit(self, record: logging.LogRecord) -> None:
        warning(record.getMessage(), by=record.name)


def dropped() -> int:
    """How many lines nobody will ever read."""
    return STDERR.dropped


def dropping() -> str | None:
    """A sentence, while lines are dropped."""
    if not STDERR.is_stuck:
        return None
    return f"nobody reads the log on stderr: {STDERR.dropped} lines were dropped"


def info(message: str, **fields: object) -> None:
    """Something happened as it should."""
    _write("info", message, fields)


def warning(message: str, **fields: object) -> None:
    """Something is not as it should be, and serving goes on."""
    _write("warning", message, fields)


def error(message: str, **fields: object) -> None:
    """Something was not done."""
    _write("error", message, fields)


def internal_error(doing: str, failure: BaseException) -> str:
    """Logs a program error in one line, and returns its sentence for status and history."""
    sentence = internal_sentence(doing, failure)
    error(sentence)
    return sentence


def internal_sentence(doing: str, failure: BaseException) -> str:
    """What a program error is called, for who tells it himself; want of something is none."""
    lacking = _lacking(failure)
    if lacking is not None:
        return f"{lacking} while {doing}"
    frames = traceback.extract_tb(failure.__traceback__)
    where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
    return f"internal error while {doing}: {type(failure).__name__}: {failure} ({where})"


def _lacking(failure: BaseException | None) -> str | None:
    """What a machine has no more of, if something failed by that; libraries wrap it."""
    while failure is not None:
        if isinstance(failure, MemoryError):
            return "out of memory"
        if isinstance(failure, OSError) and failure.errno in _LACKING:
            return _LACKING[failure.errno]
        if isinstance(failure, ImportError):
            for number, lacking in _LACKING.items():
                if os.strerror(number) in str(failure):
                    return lacking
        failure = failure.__cause__ or failure.__context__
    return None


def _write(level: str, message: str, fields: dict[str, object]) -> None:
    words = [_escape(message), *(f"{key}={_value(value)}" for key, value in fields.items())]
    if _UNDER_SYSTEMD:
        line = _PRIORITIES[level] + " ".join(words)
    else:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]
        line = f"{now}Z {level} {' '.join(words)}"
    if _background:
        STDERR.write(line)
        return
    try:
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
    except OSError:
        # Nobody reads our stderr any more; serving does not depend on it.
        return


def _value(value: object) -> str:
    text = _escape(str(value))
    return f'"{text}"' if " " in text or not text else text


def _escape(text: str) -> str:
    # A commit's subject or a file's name must not start a new line or drive a terminal.
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
