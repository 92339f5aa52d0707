"""A daemon with pinned workers in front of backends that say their names.

What the transaction and fault tests share: hosts that are routed to clusters of named backends, a
daemon that may be killed and started again, and questions that every single worker answers.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from reconciler.catalog.catalog import load_directory
from tests.harness import control, daemon, ports, processes
from tests.harness.daemon import Kakehi
from tests.harness.manager import ServiceManager
from tests.harness.named import NamedBackends
from tests.harness.rawclient import Connection
from tests.harness.repo import Content, Repo

# The kernel spreads the connections of an address; so many always meet every worker.
_BATCH, _BATCHES_MAX = 4, 50
# A commit that no test expects to be slow; generous, since the machine may be.
WAIT_S = 40.0


class Daemon(Kakehi):
    """A daemon whose environment can be prepared, and that can die and come again."""

    def __init__(self, repo: Repo, *, workers: int, options: tuple[str, ...] = ()) -> None:
        super().__init__(repo, workers=workers, options=options)
        self.extra: dict[str, str] = {}
        # What starts the daemon and keeps its sockets, in the tests that have one.
        self.manager: ServiceManager | None = None

    @property
    def environment(self) -> dict[str, str]:
        return {**super().environment, **self.extra}

    def start(self, *, wait: bool = True) -> None:
        if self.manager is None:
            super().start(wait=wait)
            return
        command = [daemon.EXECUTABLE, "run", str(self.repo.directory), f"--workers={self.workers}"]
        managed, environment, descriptors = self.manager.launch([*command, *self.options])
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                managed,
                env={**self.environment, **environment},
                pass_fds=descriptors,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        daemon.RUNNING.append(self)
        if wait:
            self.wait_ready()

    def wait_ready(self) -> None:
        """As the one of `Kakehi`, over the socket: two cores start daemons and nothing else."""
        head = self.repo.head()
        deadline = time.monotonic() + daemon.START_DEADLINE_S
        outcome = ""
        while outcome != "applied":
            assert self.process is not None
            with contextlib.suppress(OSError):
                outcome = control.ask(self.runtime_dir, "wait", commit=head, timeout_s=20.0)[
                    "outcome"
                ]
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"{head[:12]} is not served, but {outcome!r}\n{self.log()}")
            time.sleep(0.01)
        self._remember()

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def ask(self, request: str, deadline_s: float = control.DEADLINE_S, **fields: Any) -> Any:
        """A request over the control socket; waits for a daemon that is just starting."""
        return control.ask_when_there(self.runtime_dir, request, deadline_s, **fields)

    def outcome(self, commit: str, timeout_s: float = WAIT_S) -> str:
        """What `kakehi wait` would say of a commit: applied, refused, superseded, timeout."""
        return str(self.ask("wait", commit=commit, timeout_s=timeout_s)["outcome"])

    def leave(self, number: signal.Signals = signal.SIGKILL) -> int:
        """End the daemon alone, by a signal; return its exit code."""
        assert self.process is not None
        self._remember()
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.await_end()

    def await_end(self) -> int:
        assert self.process is not None
        code = self.process.wait(daemon.START_DEADLINE_S)
        if self in daemon.RUNNING:
            daemon.RUNNING.remove(self)
        return code

    def ends_before(self, commit: str) -> bool:
        """Wait until a commit runs, or the daemon has died of it; say whether it has."""
        assert self.process is not None

        def decided() -> bool:
            assert self.process is not None
            with contextlib.suppress(OSError):
                if control.ask(self.runtime_dir, "status")["commit"] == commit:
                    return True
            return self.process.poll() is not None

        processes.wait_until(decided, f"{commit} runs, or the daemon has died of it", 60)
        with contextlib.suppress(subprocess.TimeoutExpired):
            # Compacting comes after the last worker's answer.
            self.process.wait(0.5)
        return self.process.poll() is not None

    def return_(self, *, wait: bool = True, **extra: str) -> None:
        """Start it again on what it left behind, with another environment."""
        self.extra = extra
        self.start(wait=wait)


class Site:
    """Use as a context manager: backends run from the start, the daemon from `start` on."""

    def __init__(
        self,
        directory: Path,
        names: Iterable[str] = ("red", "blue"),
        *,
        workers: int = 2,
        options: tuple[str, ...] = (),
    ) -> None:
        self.directory = directory
        self.backends = NamedBackends(directory / "nginx", names)
        self.address = ports.address()
        self.repo = Repo(directory / "repository")
        self.daemon = Daemon(self.repo, workers=workers, options=options)
        self.settings: dict[str, Any] = {
            "access_log": str(self.daemon.access_log),
            "drain_timeout": "20s",
            "generation_header": True,
        }
        self._kept: dict[int, Connection] = {}

    def __enter__(self) -> Site:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            print(f"--- what {self.directory} said ---\n{self.daemon.log()[-6000:]}")
        for connection in self._kept.values():
            connection.close()
        try:
            if self.daemon.process is not None:
                # One that the test has ended itself leaves nothing to check.
                runs = self.daemon.process.poll() is None
                self.daemon.stop(check=runs and kind is None)
        finally:
            self.backends.stop()

    def start(self, files: Mapping[str, Content], **extra: str) -> None:
        """Commit the first files and start the daemon on them."""
        self.repo.commit(files, "first")
        self.daemon.extra = extra
        self.daemon.start()

    def begin(self, files: Mapping[str, Content]) -> None:
        """The same, of a site that tests share: one that runs goes on to them by a commit."""
        self.daemon.begin(files)

    # Configuration

    def document(
        self,
        clusters: Mapping[str, Iterable[str]],
        frontends: Mapping[str, str],
        *,
        listeners: Mapping[str, str] | None = None,
        **cluster_settings: Any,
    ) -> dict[str, Any]:
        """Clusters of backends by their names (or addresses), and hosts `LABEL.test` for them."""
        return {
            "settings": self.settings,
            "listeners": {
                name: {"address": address}
                for name, address in (listeners or {"main": self.address}).items()
            },
            "clusters": {
                cluster: {
                    **cluster_settings,
                    "backends": {
                        f"b{number}": {"address": self.backends.address.get(name, name)}
                        for number, name in enumerate(names)
                    },
                }
                for cluster, names in clusters.items()
            },
            "frontends": {
                label: {
                    "listeners": list(listeners or ["main"]),
                    "hostname": f"{label}.test",
                    "cluster": cluster,
                }
                for label, cluster in frontends.items()
            },
        }

    def commit(self, files: Mapping[str, Content], message: str = "change") -> str:
        """Commit, wait until every worker runs it, and return its id."""
        sha = self.repo.commit(files, message)
        self.wait(sha)
        return sha

    def wait(self, sha: str) -> None:
        """What `kakehi wait` does, without the start of the command line."""
        result = self.daemon.ask("wait", commit=sha, timeout_s=WAIT_S)
        assert result["outcome"] == "applied", f"{result}\n{self.daemon.log()}"

    def wait_by_command(self, sha: str) -> None:
        """`kakehi wait` itself, for the tests that are about it."""
        command = ("wait", "--commit", sha, "--timeout", f"{WAIT_S:.0f}s")
        self.daemon.run_cli(*command, check=True)

    def history(self, count: int = 1) -> list[dict[str, Any]]:
        """The newest entries of the history, newest first."""
        entries: list[dict[str, Any]] = self.daemon.ask("history", limit=count)["entries"]
        return entries

    # What runs

    def committed_digest(self, commit: str = "HEAD") -> str:
        """The digest that a fresh load of a whole commit has."""
        names = self.repo.git("ls-tree", "-r", "--name-only", commit).splitlines()
        files = [
            (name, self.repo.git("show", f"{commit}:{name}").encode())
            for name in names
            if name.endswith(".yaml")
        ]
        state, diagnostics = load_directory(files)
        assert state is not None, diagnostics
        return state.digest

    def running(self) -> tuple[int, str]:
        """(generation, digest), after making sure that every worker has the same."""
        status = self.daemon.ask("status")
        mine = status["generation"], status["digest"]
        theirs = {(worker["generation"], worker["digest"]) for worker in status["workers"]}
        assert theirs == {mine}, status
        return mine

    def worker_pids(self) -> list[int]:
        return [worker["pid"] for worker in self.daemon.ask("status")["workers"]]

    def identity(self) -> dict[int, tuple[int, frozenset[int]]]:
        """Per worker, by pid: when it started, and the inodes of its listening sockets."""
        return {
            pid: (processes.started(pid), frozenset(processes.listening(pid)))
            for pid in self.worker_pids()
        }

    # Questions to every worker

    def kept(self, host: str, path: str = "/", pids: list[int] | None = None) -> dict[int, str]:
        """What each worker answers over a connection that is kept from one call to the next.

        `pids` names the workers when there is no daemon that could be asked for them.
        """
        pids = pids or self.worker_pids()
        for pid in list(self._kept):
            if pid not in pids:
                self._kept.pop(pid).close()
        if set(self._kept) != set(pids):
            self._connect(pids)
        return {pid: _body(self._kept[pid], host, path) for pid in pids}

    def kept_field(self, host: str, field: str) -> dict[int, list[str]]:
        """The values of a field of each worker's answer, over the same connections."""
        answers = {pid: self._kept[pid].get(host) for pid in self.worker_pids()}
        return {pid: [each.decode() for each in one.all(field)] for pid, one in answers.items()}

    def return_without_repository(self) -> Path:
        """All is killed and the repository moves away (returned: where to); a daemon comes back."""
        self.daemon.kill()
        self.daemon.await_end()
        elsewhere = self.repo.directory.with_name("elsewhere")
        shutil.move(self.repo.directory, elsewhere)
        self.daemon.return_(wait=False)
        processes.wait_until(
            lambda: {each["state"] for each in self.daemon.ask("status")["workers"]} == {"running"},
            "all workers in service",
        )
        return elsewhere

    def fresh(self, host: str, path: str = "/", address: str = "") -> dict[int, set[str]]:
        """What each worker answers over new connections."""
        address, pids = address or self.address, self.worker_pids()
        answers: dict[int, set[str]] = {}
        for _ in range(_BATCHES_MAX):
            with contextlib.ExitStack() as stack:
                bodies = {}
                for _ in range(_BATCH):
                    connection = stack.enter_context(Connection(address))
                    bodies[connection.local_port] = _body(connection, host, path)
                served = processes.servers(pids, address)
            for port, body in bodies.items():
                answers.setdefault(served[port], set()).add(body)
            if set(answers) == set(pids):
                return answers
        raise AssertionError(f"all connections met only {list(answers)} of {pids}")

    def everywhere(self, host: str, path: str = "/") -> set[str]:
        """The answers of all workers, over kept connections first and new ones then."""
        return set(self.kept(host, path).values()).union(*self.fresh(host, path).values())

    def _connect(self, pids: list[int]) -> None:
        """Open connections until every worker has one, and keep one of each."""
        for _ in range(_BATCHES_MAX):
            with contextlib.ExitStack() as stack:
                batch = [stack.enter_context(Connection(self.address)) for _ in range(_BATCH)]
                for connection in batch:
                    connection.get("nobody.test")
                served = processes.servers(pids, self.address)
                for connection in batch:
                    self._kept.setdefault(served[connection.local_port], connection)
                for connection in batch:
                    if connection not in self._kept.values():
                        connection.close()
                stack.pop_all()
            if set(self._kept) == set(pids):
                return
        raise AssertionError(f"all connections met only {list(self._kept)} of {pids}")


def refuses(address: str) -> bool:
    """Whether nobody listens there."""
    try:
        socket.create_connection(ports.split(address), timeout=10).close()
    except ConnectionRefusedError:
        return True
    return False


def _body(connection: Connection, host: str, path: str) -> str:
    response = connection.get(host, path)
    text = response.body.decode("latin-1")
    return text if response.status == 200 else f"{response.status}"
