"""Lines for a reader who may not read: whoever writes them never waits.

Stderr may be a pipe that nobody empties, or a terminal that was halted. A write to it would hold
the daemon or a worker's shell up for as long. So a thread writes, and alone waits; what does not
fit behind it is dropped, counted, and told in place of the lines. Shared by `reconciler.log` and
`proxy.shell`; the engine's access log has a writer of its own.
"""

from __future__ import annotations

import contextlib
import os
import queue
import select
import threading

LINES_MAX = 256
LINE_BYTES_MAX = 8 * 1024
# A burst may come faster than the thread gets its turns: it is waited for so long, and never again
# before somebody reads.
_BURST_S = 0.02
_CUT = " …"


class LineWriter:
    """Writes to one descriptor. Its thread begins with the first line."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lines: queue.Queue[bytes] = queue.Queue(LINES_MAX)
        self._thread: threading.Thread | None = None
        self._told = 0
        self.dropped = 0
        """How many lines nobody will ever read."""

    @property
    def is_stuck(self) -> bool:
        """Whether lines were dropped, and that could not be told yet."""
        return self.dropped > self._told

    def write(self, line: str) -> None:
        """Take one line, without its end. Never raises."""
        content = line.encode(errors="backslashreplace")
        if len(content) > LINE_BYTES_MAX:
            content = content[:LINE_BYTES_MAX].decode(errors="ignore").encode() + _CUT.encode()
        if self._thread is None and not self._begin():
            self._write_at_once(content + b"\n")
            return
        try:
            self._lines.put(content + b"\n", not self.is_stuck, _BURST_S)
        except queue.Full:
            self.dropped += 1

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything is written; whether that was in time."""
        done = self._lines.all_tasks_done
        with done:
            return done.wait_for(lambda: not self._lines.unfinished_tasks, timeout_s)

    def _begin(self) -> bool:
        # Not waited for at the end of the process: it may never come back.
        thread = threading.Thread(target=self._run, name="lines", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            # No memory for a thread, which is what there is to tell.
            return False
        self._thread = thread
        return True

    def _write_at_once(self, content: bytes) -> None:
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        # A pipe that is ready takes this much without waiting.
        if not poll.poll(0) or not self._write(content[: select.PIPE_BUF]):
            self.dropped += 1

    def _run(self) -> None:
        while True:
            content = self._lines.get()
            missing = self.dropped - self._told
            if missing:
                told = f"{missing} lines were dropped: nobody has read what was written here\n"
                content = told.encode() + content
            if self._write(content):
                self._told += missing
            else:
                self.dropped += 1
            self._lines.task_done()

    def _write(self, content: bytes) -> bool:
        view = memoryview(content)
        while view:
            try:
                view = view[os.write(self._descriptor, view) :]
            except BlockingIOError:
                # Somebody who shares the descriptor has made it so.
                self._wait()
            except OSError:
                return False
        return True

    def _wait(self) -> None:
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        with contextlib.suppress(OSError):
            poll.poll(1000)


STDERR = LineWriter(2)
