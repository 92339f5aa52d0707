from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from reconciler.errors import MachineError
from reconciler.workers.processes import forking, spawning, worker_sockets
from reconciler.workers.processes.forking import Zygote
from schemas.messages import wire
from tests.reconciler.live import eventually, shop


def test_only_a_worker_of_that_number_is_one() -> None:
    assert not spawning.is_worker(os.getpid(), 0)
    assert not spawning.is_worker(2**22 + 1, 0)
    named = "import time; open('/proc/self/comm', 'w').write('kakehi-w4'); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", named, "proxy"]) as process:
        while Path(f"/proc/{process.pid}/comm").read_text() != "kakehi-w4\n":
            pass
        assert spawning.is_worker(process.pid, 4)
        assert not spawning.is_worker(process.pid, 0)
        process.kill()


def test_a_path_that_is_too_long_is_a_sentence(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 100)
    (deep / "workers").mkdir(parents=True)
    with pytest.raises(MachineError, match="too long for a socket"):
        spawning.spawn(worker_sockets.socket_path(deep, 0), 0, 0)


def test_a_directory_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="cannot start worker 0: No such file"):
        spawning.spawn(worker_sockets.socket_path(tmp_path, 0), 0, 0)


@contextmanager
def worker(directory: Path, number: int = 0) -> Iterator[int]:
    """A worker's process, ended with the block."""
    (directory / "workers").mkdir(exist_ok=True)
    path = worker_sockets.socket_path(directory, number)
    pid = spawning.spawn(path, number, max(os.sched_getaffinity(0)))
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        assert os.waitpid(pid, 0) == (pid, signal.SIGKILL)


@pytest.fixture(autouse=True)
def own_zygote(monkeypatch: pytest.MonkeyPatch) -> Iterator[Zygote]:
    """A zygote of the test's own."""
    monkeypatch.setattr(spawning, "zygote", Zygote())
    yield spawning.zygote
    spawning.zygote.end()


def answers(directory: Path, number: int = 0) -> bool:
    """Whether a worker's shell welcomes whoever says hello."""
    found = worker_sockets.connect(worker_sockets.socket_path(directory, number))
    assert found is not None
    with found[0] as connection:
        connection.setblocking(True)
        connection.settimeout(20)
        connection.sendall(wire.encode(wire.Hello(epoch=1)))
        return bool(connection.recv(1))


def test_the_service_managers_words_are_not_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere")
    monkeypatch.setenv("LISTEN_FDS", "1")
    with worker(tmp_path) as pid:
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        names = {each.partition(b"=")[0] for each in variables}
        assert not names & {b"NOTIFY_SOCKET", b"LISTEN_FDS"}
        assert (tmp_path / "workers" / "0.sock").stat().st_mode & 0o777 == 0o600


def test_a_worker_is_our_child_in_a_group_of_its_own_with_nothing_of_ours(tmp_path: Path) -> None:
    with (tmp_path / "ours").open("w") as ours, worker(tmp_path) as pid:
        os.set_inheritable(ours.fileno(), True)
        with worker(tmp_path, 11) as other:
            assert answers(tmp_path, 11)
            for each, number in ((pid, 0), (other, 11)):
                assert spawning.is_worker(each, number)
                fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
                assert int(fields[1]) == os.getpid()
                assert os.getpgid(each) == each
                assert os.getsid(each) == os.getsid(0)
            held = []
            for entry in Path(f"/proc/{other}/fd").iterdir():
                with contextlib.suppress(FileNotFoundError):  # closed since it was listed
                    held.append(os.readlink(entry))
            assert held
            assert not [each for each in held if each.startswith(str(tmp_path / "ours"))]
            assert os.sched_getaffinity(other) == {max(os.sched_getaffinity(0))}


def test_the_limit_of_open_files_is_ours_of_the_moment(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    spawning.zygote.start()
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft - 7, hard))
        with worker(tmp_path):
            # A worker raises its own, up to the hard limit.
            assert spawning.zygote._process is not None
            pid = spawning.zygote._process.pid
            assert resource.prlimit(pid, resource.RLIMIT_NOFILE) == (soft - 7, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_workers_live_on_without_the_zygote_and_the_next_one_gets_a_new_one(
    tmp_path: Path,
) -> None:
    with worker(tmp_path) as pid:
        first = spawning.zygote._process
        assert first is not None
        first.kill()
        first.wait()
        assert answers(tmp_path)
        with worker(tmp_path, 1) as other:
            assert answers(tmp_path, 1)
            assert spawning.is_worker(pid, 0)
            assert spawning.is_worker(other, 1)
        spawning.zygote.end()
        assert answers(tmp_path)


def test_a_zygote_that_does_not_answer_is_a_sentence_and_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forking, "_FIRST_FORK_TIMEOUT_S", 1.0)
    spawning.zygote.start()
    stopped = spawning.zygote._process
    assert stopped is not None
    os.kill(stopped.pid, signal.SIGSTOP)
    (tmp_path / "workers").mkdir()
    with pytest.raises(MachineError, match="cannot start worker 0: timed out"):
        spawning.spawn(worker_sockets.socket_path(tmp_path, 0), 0, -1)
    assert stopped.returncode == -signal.SIGKILL
    monkeypatch.setattr(forking, "_FIRST_FORK_TIMEOUT_S", 15.0)
    with worker(tmp_path):
        assert answers(tmp_path)


# A machine on which the process between zygote and worker has to wait for a core.
LATE = """
import sys, time, proxy.zygote
from pathlib import Path
from reconciler.errors import MachineError
from reconciler.workers.processes import forking, spawning

beget = proxy.zygote._beget

def late(worker, writer):
    time.sleep(1)
    beget(worker, writer)

proxy.zygote._beget = late
forking._FIRST_FORK_TIMEOUT_S = 0.5
forking.zygote.start(proxy.zygote.run)
try:
    spawning.spawn(Path(sys.argv[1]), 0, -1)
except MachineError as error:
    print(error, flush=True)
time.sleep(1.5)
"""


def test_no_worker_comes_from_a_zygote_that_was_given_up(tmp_path: Path) -> None:
    (tmp_path / "workers").mkdir()
    path = worker_sockets.socket_path(tmp_path, 0)
    with subprocess.Popen(
        [sys.executable, "-c", LATE, str(path)],
        env={**os.environ, "GIVEN_UP": str(tmp_path)},
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"cannot start worker 0: timed out\n"
        # Before the one between would have begotten it, nothing is left that could, and no corpse.
        assert _with_variable(f"GIVEN_UP={tmp_path}") == [process.pid]
        assert _children(process.pid) == []
        process.wait(20)
    assert _with_variable(f"GIVEN_UP={tmp_path}") == []


def test_a_zygote_that_has_answered_before_is_not_waited_for(tmp_path: Path) -> None:
    with worker(tmp_path):
        stopped = spawning.zygote._process
        assert stopped is not None
        os.kill(stopped.pid, signal.SIGSTOP)
        begun = time.monotonic()
        with pytest.raises(MachineError, match="cannot start worker 1: timed out"):
            spawning.spawn(worker_sockets.socket_path(tmp_path, 1), 1, -1)
        assert time.monotonic() - begun < 5
        with worker(tmp_path, 1):
            assert answers(tmp_path, 1)


@contextmanager
def parent(life: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A process that has started a zygote, which stays its child; and what that one is."""
    script = (
        "import os, proxy.zygote; from reconciler.workers.processes.forking import zygote\n"
        "os.set_inheritable(os.open('/dev/zero', os.O_RDONLY), True)\n"
        f"zygote.start({life})\n"
        "print(zygote._process.pid, flush=True)\n"
        "while input() == 'end':\n"
        "    zygote.end()\n"
        "    print('ended', flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script],
        env={**os.environ, "NOTIFY_SOCKET": "/nowhere"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        try:
            assert process.stdout is not None
            yield process, int(process.stdout.readline())
        finally:
            process.kill()


FORKED, EXECUTED = "proxy.zygote.run", ""
LIVES = pytest.mark.parametrize("life", [FORKED, EXECUTED], ids=["forked", "executed"])


@LIVES
def test_a_zygote_ends_with_whoever_started_it(life: str) -> None:
    with parent(life) as (process, pid):
        zygote = os.pidfd_open(pid)
        process.kill()
    assert select.select([zygote], [], [], 20)[0]
    os.close(zygote)


@LIVES
def test_a_zygote_is_ended_and_reaped(life: str) -> None:
    with parent(life) as (process, pid):
        assert process.stdin is not None
        assert process.stdout is not None
        # The second time there is nothing to end.
        for _ in range(2):
            process.stdin.write(b"end\n")
            process.stdin.flush()
            assert process.stdout.readline() == b"ended\n"
            assert not Path(f"/proc/{pid}").exists()


@LIVES
def test_a_zygote_has_nothing_of_the_process_that_started_it(life: str) -> None:
    with parent(life) as (process, pid):
        comm = Path(f"/proc/{pid}/comm")
        eventually(lambda: comm.read_text() == "kakehi-zygote\n")
        held = {each.name: os.readlink(each) for each in Path(f"/proc/{pid}/fd").iterdir()}
        assert held.pop("0") == "/dev/null"
        assert held.pop("1") == os.readlink(f"/proc/{process.pid}/fd/1")
        assert held.pop("2") == os.readlink(f"/proc/{process.pid}/fd/2")
        assert [each.partition(":")[0] for each in held.values()] == ["socket"]
        assert os.getpgid(pid) == pid
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        assert b"proxy" in words
        assert b"-c" not in words


def test_a_daemon_forks_its_workers_from_a_zygote_that_imports_nothing(tmp_path: Path) -> None:
    """And whoever looks for the daemon by its command line finds the daemon alone."""
    with shop(tmp_path, workers=1) as running:
        [pid] = running.daemon.worker_pids()
        assert running.daemon.process is not None
        daemon = running.daemon.process.pid
        processes = Path("/proc").glob("[0-9]*/comm")
        [zygote] = [int(path.parent.name) for path in processes if _is_zygote_of(path, daemon)]
        assert spawning.is_worker(pid, 0)
        for each in (pid, zygote):
            assert b"run" not in Path(f"/proc/{each}/cmdline").read_bytes().split(b"\0")
        fields = Path(f"/proc/{zygote}/stat").read_text().rpartition(")")[2].split()
        # Importing what workers need takes ten times as long.
        assert int(fields[11]) + int(fields[12]) <= 0.05 * os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("way", ["stop", "interrupt"])
def test_a_worker_that_comes_when_all_is_ended_is_ended_too(tmp_path: Path, way: str) -> None:
    """`kakehi stop` and SIGINT, while the process that forks workers is slow."""
    with shop(tmp_path, workers=1) as running:
        daemon = running.daemon
        processes = Path("/proc").glob("[0-9]*/comm")
        [zygote] = [int(path.parent.name) for path in processes if _is_zygote_of(path, running.pid)]
        os.kill(zygote, signal.SIGSTOP)
        os.kill(daemon.worker_pids()[0], signal.SIGKILL)
        eventually(lambda: daemon.status()["workers"][0]["state"] == "starting")
        time.sleep(0.3)
        with ThreadPoolExecutor(1) as aside:
            if way == "stop":
                stopped: Future[object] = aside.submit(daemon.run_cli, "stop")
            else:
                stopped = aside.submit(daemon.interrupt)
            time.sleep(0.5)
            os.kill(zygote, signal.SIGCONT)
            stopped.result(30)
        assert daemon.process is not None
        assert daemon.process.wait(15) == 0
        # Leaving the block checks that no process has outlived the daemon.


def _with_variable(variable: str) -> list[int]:
    """The processes that have this in their environment."""
    found = []
    for each in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if variable.encode() in each.read_bytes().split(b"\0"):
                found.append(int(each.parent.name))
    return found


def _children(pid: int) -> list[str]:
    """The names of its children, those included that have ended and were not waited for."""
    found = []
    for each in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError):
            status = each.read_text()
            if f"\nPPid:\t{pid}\n" in status:
                found.append(status.partition("\n")[0])
    return found


def _is_zygote_of(comm: Path, parent: int) -> bool:
    try:
        status = (comm.parent / "status").read_text()
        return comm.read_text().strip() == "kakehi-zygote" and f"PPid:\t{parent}\n" in status
    except OSError:
        return False
