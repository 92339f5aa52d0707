"""The real `kakehi run` as a child process, with directories of its own and a bounded end.

Used by every end-to-end test. The executable is the one in this checkout's environment;
KAKEHI_BIN names another, so that an installed one can be put through the same tests.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.harness import control
from tests.harness.forked import OF_TESTS, Forked, forkserver
from tests.harness.repo import Content, Repo

ROOT = Path(__file__).resolve().parents[2]
EXECUTABLE = os.environ.get("KAKEHI_BIN", str(Path(sys.prefix) / "bin" / "kakehi"))
START_DEADLINE_S = 60.0
END_DEADLINE_S = 15.0

# Starts root without the rights that let it ignore the mode of a file; others never had them.
_ROOT_RIGHTS = "-dac_override,-dac_read_search"
UNPRIVILEGED: tuple[str, ...] = (
    ("setpriv", f"--bounding-set={_ROOT_RIGHTS}", f"--inh-caps={_ROOT_RIGHTS}")
    if os.geteuid() == 0
    else ()
)

# As `ProcSubset=pid` of the unit: nothing of /proc but processes, in a mount namespace of its own.
PROCESSES_ONLY: tuple[str, ...] = (
    *("unshare", "--mount", "sh", "-c"),
    'mount -t proc -o subset=pid proc /proc && exec "$@"',
    "sh",
)

# Daemons that are running now; the report of a failed test shows what they said.
RUNNING: list[Kakehi] = []


class Kakehi:
    """One daemon on one repository. Use as a context manager, or call start() and stop()."""

    def __init__(self, repo: Repo, *, workers: int = 1, options: tuple[str, ...] = ()) -> None:
        self.repo = repo
        # The config directory, if it is not the repository's own.
        self.directory: Path | None = None
        self.workers = workers
        self.options = options
        # What the command begins with, such as `UNPRIVILEGED`.
        self.launcher: tuple[str, ...] = ()
        # Unix socket paths hold 107 bytes: too few for below pytest's tmp_path.
        self.base = Path(tempfile.mkdtemp(prefix="kk-"))
        self.runtime_dir = self.base / "run"
        self.state_dir = self.base / "state"
        self.access_log = self.base / "access.log"
        self.output = self.base / "output"
        self.process: subprocess.Popen[bytes] | Forked | None = None
        self._known_pids: set[int] = set()

    def __enter__(self) -> Kakehi:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "KAKEHI_RUNTIME_DIR": str(self.runtime_dir),
            "KAKEHI_STATE_DIR": str(self.state_dir),
            **OF_TESTS,
        }

    # Life

    def start(self, *, wait: bool = True) -> None:
        """Start the daemon and, unless told otherwise, wait until it serves HEAD."""
        command = [
            *self.launcher,
            EXECUTABLE,
            "run",
            str(self.directory or self.repo.directory),
            "--workers",
            str(self.workers),
            *self.options,
        ]
        with self.output.open("ab") as output:
            self.process = forkserver.start(command, self.environment, output) or subprocess.Popen(
                command,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        RUNNING.append(self)
        if wait:
            try:
                self.wait_ready()
            except BaseException:
                text = self.log()
                self.stop(check=False)
                sys.stderr.write(f"--- what kakehi run said ---\n{text}\n")
                raise

    def wait_ready(self) -> None:
        """Wait until HEAD is served; the control socket may not be there in the beginning."""
        assert self.process is not None
        head = self.repo.head()
        deadline = time.monotonic() + START_DEADLINE_S
        while True:
            outcome = self._outcome(head, 5)
            if outcome == "applied":
                break
            refused = outcome in ("refused", "superseded")
            if refused or self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(
                    f"kakehi run does not serve {head[:12]}: {outcome}\n{self.log()}"
                )
            time.sleep(0.01)
        self._remember()

    def stop(self, *, check: bool = True) -> None:
        """End everything by SIGINT, then by force; remove the directories."""
        if self in RUNNING:
            RUNNING.remove(self)
        try:
            code = self.interrupt()
            text = self.log()
        finally:
            left = self.kill()
            shutil.rmtree(self.base, ignore_errors=True)
        if check:
            assert code == 0, f"kakehi run ended with {code}\n{text}"
            assert not left, f"processes outlived kakehi run: {left}\n{text}"

    def interrupt(self) -> int | None:
        """Send SIGINT and return the exit code, None when it did not end in time."""
        assert self.process is not None
        self._remember()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(END_DEADLINE_S)
        except subprocess.TimeoutExpired:
            return None

    def kill(self) -> list[str]:
        """SIGKILL what is left of this daemon, workers included; return what that was."""
        left = []
        for pid in self.left():
            with contextlib.suppress(OSError):
                command = Path(f"/proc/{pid}/cmdline").read_bytes()
                os.kill(pid, signal.SIGKILL)
                left.append(f"{pid} ({command.decode(errors='replace')[:200]!r})")
        if self.process is not None:
            if self.process.poll() is None:
                self.process.kill()
                left.append(str(self.process.pid))
            self.process.wait(END_DEADLINE_S)
        return left

    def left(self) -> list[int]:
        """The processes of this daemon that live, but for itself."""
        self._remember()
        return [pid for pid in sorted(self._known_pids) if self._is_ours(pid)]

    def _remember(self) -> None:
        """Note every process that carries this daemon's runtime directory, so that none is lost."""
        for entry in os.listdir("/proc"):
            if entry.isdigit() and self._is_ours(int(entry)):
                self._known_pids.add(int(entry))
        if self.process is not None:
            self._known_pids.discard(self.process.pid)

    def _is_ours(self, pid: int) -> bool:
        marker = f"KAKEHI_RUNTIME_DIR={self.runtime_dir}".encode()
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            return False
        return marker in environment.split(b"\0") and _is_alive(pid)

    # The command line

    def run_cli(
        self,
        *arguments: str,
        check: bool = False,
        timeout_s: float = 60,
        within: tuple[str, ...] = (),
    ) -> subprocess.CompletedProcess[str]:
        """Run `kakehi ARGUMENTS` against this daemon; `within`: what the command begins with."""
        done = subprocess.run(
            [*within, EXECUTABLE, *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
        if check and done.returncode:
            raise AssertionError(
                f"kakehi {' '.join(arguments)} exited with {done.returncode}\n"
                f"{done.stdout}{done.stderr}\n{self.log()}"
            )
        return done

    def json(self, *arguments: str) -> Any:
        """Run a command with --json and return what it printed."""
        return json.loads(self.run_cli(*arguments, "--json", check=True).stdout)

    def commit(self, files: Mapping[str, Content], message: str = "change") -> str:
        """Commit files and wait until every worker runs the commit; return its id."""
        sha = self.repo.commit(files, message)
        self.wait(sha)
        return sha

    def begin(self, files: Mapping[str, Content]) -> None:
        """Serve these files and nothing else, with an empty access log: for who shares a daemon.

        The first test starts it; for the others it goes on to their files by a commit.
        """
        commit = self.repo.replace(files)
        if self.process is None or self.process.poll() is not None:
            self.start()
            return
        self.wait(commit)
        with contextlib.suppress(FileNotFoundError):
            os.truncate(self.access_log, 0)

    def revert(self, commit: str = "HEAD") -> str:
        sha = self.repo.revert(commit)
        self.wait(sha)
        return sha

    def wait(self, sha: str, timeout_s: int = 30) -> None:
        deadline = time.monotonic() + timeout_s
        while (outcome := self._outcome(sha, timeout_s)) is None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert outcome == "applied", f"{sha[:12]}: {outcome or 'no daemon'}\n{self.log()}"

    def refusal(self, sha: str) -> Any:
        """What is told of a commit as soon as it is refused, though it be tried again.

        Whoever waits for it would wait for what that comes to, until the time is over.
        """
        deadline = time.monotonic() + START_DEADLINE_S
        while True:
            error = control.ask_when_there(self.runtime_dir, "status")["last_error"]
            if error is not None and error["commit"] == sha:
                break
            assert time.monotonic() < deadline, f"{sha[:12]} is not refused\n{self.log()}"
            time.sleep(0.02)
        assert self._outcome(sha, 0) == "refused"
        return error

    def _outcome(self, sha: str, timeout_s: int) -> str | None:
        """What became of a commit, as soon as it is known; None: there is no daemon to ask."""
        try:
            told = self._ask("wait", timeout_s + 30, commit=sha, timeout_s=timeout_s)
        except OSError:
            return None
        return str(told["outcome"])

    def _ask(self, request: str, deadline_s: float = 60, **fields: object) -> Any:
        """Ask as the command line does; its start would be most of what that takes."""
        return control.ask(self.runtime_dir, request, deadline_s, **fields)

    def status(self) -> dict[str, Any]:
        try:
            status: dict[str, Any] = self._ask("status")
        except OSError as error:
            raise AssertionError(f"no daemon answers: {error}\n{self.log()}") from error
        return status

    def answers(self) -> bool:
        """Whether a daemon is there that tells its status."""
        try:
            self._ask("status", 5)
        except OSError:
            return False
        return True

    @property
    def generation(self) -> int:
        return int(self.status()["generation"])

    def worker_pids(self) -> list[int]:
        return [worker["pid"] for worker in self.status()["workers"]]

    # What it left behind

    def log(self) -> str:
        """Everything that the daemon and its workers printed."""
        try:
            return self.output.read_text(errors="replace")
        except OSError:
            return ""

    def access_entries(self) -> list[dict[str, Any]]:
        """The access log's lines so far; a line that is not JSON is an error."""
        if not self.access_log.exists():
            return []
        text = self.access_log.read_text(encoding="utf-8")
        lines = text.split("\n")
        return [json.loads(line) for line in lines[:-1]]  # the last one may still be unfinished

    def wait_for_access(
        self, wanted: Callable[[dict[str, Any]], bool], count: int = 1
    ) -> list[dict[str, Any]]:
        """Wait until the access log holds so many entries of this kind; return them."""
        deadline = time.monotonic() + START_DEADLINE_S
        while True:
            found = [entry for entry in self.access_entries() if wanted(entry)]
            if len(found) >= count:
                return found
            if time.monotonic() > deadline:
                raise AssertionError(
                    f"{len(found)} of {count} entries in the access log; its last ones: "
                    f"{self.access_entries()[-3:]}"
                )
            time.sleep(0.02)


def resident_kib(pid: int) -> int:
    """The resident memory of a process that belongs to it alone, shared file pages not counted."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1])
    raise AssertionError(f"process {pid} has no RssAnon")


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Hold a process by SIGSTOP, so that what happens meanwhile is one moment to it."""
    os.kill(pid, signal.SIGSTOP)
    try:
        deadline = time.monotonic() + START_DEADLINE_S
        while any(_state(task) != "T" for task in Path(f"/proc/{pid}/task").iterdir()):
            assert time.monotonic() < deadline, f"process {pid} does not stop"
            time.sleep(0.001)
        yield
    finally:
        # Somebody may have ended it meanwhile.
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def _state(process: Path) -> str:
    return (process / "stat").read_text().rpartition(")")[2].split()[0]


def _is_alive(pid: int) -> bool:
    try:
        return _state(Path(f"/proc/{pid}")) not in "ZX"
    except OSError:
        return False
