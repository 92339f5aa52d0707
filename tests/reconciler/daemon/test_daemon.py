"""The running daemon, its engine and real traffic: commits, refusals, restarts, deaths."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.daemon import EXECUTABLE
from tests.harness.ports import address
from tests.reconciler.live import Shop, eventually, serves, shop


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with shop(tmp_path_factory.mktemp("shop")) as made:
        yield made


@pytest.fixture
def running(shared: Shop) -> Shop:
    """Two workers, and the daemon of all tests that can begin with a commit."""
    shared.begin()
    return shared


def test_a_commit_moves_traffic_and_its_revert_takes_it_back(running: Shop) -> None:
    pids, generation = running.daemon.worker_pids(), running.daemon.generation
    assert running.served_by() == 0
    running.commit(1)
    assert running.served_by() == 1
    running.daemon.revert()
    assert running.served_by() == 0
    status = running.daemon.status()
    assert status["generation"] == generation + 2
    assert status["commit"] == running.repo.head()
    assert {worker["digest"] for worker in status["workers"]} == {status["digest"]}
    assert running.daemon.worker_pids() == pids
    cores = {worker["cpu"] for worker in status["workers"]}
    assert len(cores) == min(2, len(os.sched_getaffinity(0)))
    for worker in status["workers"]:
        assert os.sched_getaffinity(worker["pid"]) == {worker["cpu"]}


def test_signals_that_mean_nothing_end_nobody(running: Shop) -> None:
    pids, generation = running.daemon.worker_pids(), running.daemon.generation
    for name in ("USR2", "ALRM", "VTALRM", "PROF", "IO", "PWR", "STKFLT", "WINCH", "PIPE"):
        os.kill(running.pid, getattr(signal, f"SIG{name}"))
        assert running.daemon.generation == generation, name
    assert running.daemon.worker_pids() == pids
    running.commit(1)


def test_a_commit_that_changes_no_entity_needs_no_transaction(running: Shop) -> None:
    generation = running.daemon.generation
    running.daemon.commit({"README.md": "hello"})
    files = running.files(0)
    files["shop.yaml"] = "# a comment\n" + json.dumps(files["shop.yaml"], indent=2)
    sha = running.daemon.commit(files)
    status = running.daemon.status()
    assert (status["generation"], status["commit"]) == (generation, sha)
    (frontend,) = running.daemon.json("show", "frontend/web")["entities"]
    lines = str(files["shop.yaml"]).splitlines()
    written = next(number for number, line in enumerate(lines, 1) if '"web"' in line)
    assert frontend["source"]["line"] == written
    entries = running.daemon.json("history")["entries"]
    assert [entry["outcome"] for entry in entries[:2]] == ["unchanged", "unchanged"]


BROKEN = {
    "syntax": ("a: ]", "broken.yaml:"),
    "unknown key": ("frontends: {x: {listeners: [public], cluster: shop, hostnam: a}}", "hostname"),
    "type": ("clusters: {x: {retries: many}}", "broken.yaml:1:"),
    "dangling": ("frontends: {x: {listeners: [public], cluster: shp}}", "shp"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_an_invalid_commit_changes_nothing_and_the_next_one_applies(
    running: Shop, name: str
) -> None:
    text, expected = BROKEN[name]
    before = running.daemon.status()
    bad = running.repo.commit({"broken.yaml": text})
    waited = running.daemon.run_cli("wait", "--commit", bad)
    assert waited.returncode == 6, waited.stderr
    assert "broken.yaml:1" in waited.stderr
    status = running.daemon.status()
    assert (status["generation"], status["digest"]) == (before["generation"], before["digest"])
    error = status["last_error"]
    assert (error["commit"], error["file"], error["line"]) == (bad, "broken.yaml", 1)
    assert error["stage"] == "validation"
    assert expected in json.dumps(error)
    assert running.served_by() == 0
    entry = running.daemon.json("history")["entries"][0]
    assert (entry["outcome"], entry["commit"], entry["file"]) == ("refused", bad, "broken.yaml")
    good = running.daemon.commit({"broken.yaml": None, **running.files(1)})
    status = running.daemon.status()
    assert (status["commit"], status["last_error"]) == (good, None)
    assert running.served_by() == 1


def test_a_port_that_is_taken_is_refused_with_its_line(running: Shop) -> None:
    generation = running.daemon.generation
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        free = address()
        text = f"listeners:\n  good: {{address: '{free}'}}\n  bad: {{address: '{taken}'}}\n"
        bad = running.repo.commit({"more.yaml": text})
        running.daemon.refusal(bad)
        waited = running.daemon.run_cli("wait", "--commit", bad, "--timeout", "1s")
        assert waited.returncode == 6
        assert (
            f'more.yaml:3:3: listener "bad": cannot bind {taken}: address already' in waited.stderr
        )
        with pytest.raises(ConnectionRefusedError):
            running.get(free)
        assert running.daemon.generation == generation
        fixed = text.replace(taken, address())
        running.daemon.commit({"more.yaml": fixed})
        assert running.get(free) == 404


def test_one_worker_that_refuses_keeps_all_from_changing(running: Shop) -> None:
    """An access log in a directory that is not there: only the engine can find out."""
    before = running.daemon.status()
    bad = running.repo.commit(running.files(1, access_log="/nonexistent/access.log"))
    running.daemon.refusal(bad)
    waited = running.daemon.run_cli("wait", "--commit", bad, "--timeout", "1s")
    assert waited.returncode == 6
    assert "settings.yaml:2:" in waited.stderr
    after = running.daemon.status()
    assert after["digest"] == before["digest"]
    assert [w["digest"] for w in after["workers"]] == [before["digest"]] * 2
    assert after["last_error"]["stage"] == "prepare"
    assert running.served_by() == 0
    running.commit(1)
    assert running.served_by() == 1


def test_listeners_come_and_go(running: Shop) -> None:
    more = address("::1")
    running.daemon.commit({"more.yaml": f"listeners: {{more: {{address: '{more}'}}}}"})
    assert running.get(more) == 404
    moved = address()
    running.daemon.commit({"more.yaml": f"listeners: {{more: {{address: '{moved}'}}}}"})
    assert running.get(moved) == 404
    with pytest.raises(ConnectionRefusedError):
        running.get(more)
    # Renamed and with the same address: the socket stays.
    running.daemon.commit({"more.yaml": f"listeners: {{renamed: {{address: '{moved}'}}}}"})
    assert [running.get(moved) for _ in range(10)] == [404] * 10
    running.daemon.commit({"more.yaml": None})
    with pytest.raises(ConnectionRefusedError):
        running.get(moved)


def test_a_burst_of_commits_ends_at_the_newest(running: Shop) -> None:
    commits = [running.repo.commit(running.files(number % 2)) for number in range(10)]
    broken = running.repo.commit({"broken.yaml": "a: ["})
    last = running.daemon.commit({"broken.yaml": None, **running.files(1)})
    assert running.daemon.status()["commit"] == last
    assert running.served_by() == 1
    for commit in commits:
        # A commit is there when a descendant is.
        assert running.daemon.run_cli("wait", "--commit", commit).returncode == 0
    # Refused and passed by, if it was looked at at all.
    assert running.daemon.run_cli("wait", "--commit", broken).returncode in (0, 6)
    known = {entry["commit"] for entry in running.daemon.json("history", "-n", "50")["entries"]}
    assert {*commits, broken, last} <= known


def test_a_rollback_by_reset_is_just_another_commit(running: Shop) -> None:
    first, generation = running.repo.head(), running.daemon.generation
    second = running.commit(1)
    running.repo.git("reset", "-q", "--hard", first)
    running.daemon.wait(first)
    assert running.served_by() == 0
    assert running.daemon.generation == generation + 2
    waited = running.daemon.run_cli("wait", "--commit", second, "--timeout", "3s")
    assert waited.returncode != 0
    assert "does not contain it" in waited.stdout + waited.stderr


@pytest.mark.parametrize("way", ["deleted branch", "empty commit", "missing repository"])
def test_what_is_gone_is_held_and_never_deleted(tmp_path: Path, way: str) -> None:
    with shop(tmp_path, workers=1) as running:
        repo = running.repo
        if way == "deleted branch":
            repo.git("checkout", "-q", "-b", "other")
            repo.git("branch", "-D", "main")
        elif way == "empty commit":
            repo.commit(dict.fromkeys(running.files()))
        else:
            shutil.move(repo.directory, tmp_path / "away")
        eventually(lambda: running.daemon.status()["source"]["state"] == "holding")
        assert running.daemon.status()["source"]["problem"]
        assert running.served_by() == 0
        assert running.daemon.generation == 1
        if way == "deleted branch":
            repo.git("checkout", "-q", "-b", "main")
        elif way == "missing repository":
            shutil.move(tmp_path / "away", repo.directory)
        running.commit(1)
        assert running.daemon.status()["source"]["state"] == "following"
        assert running.served_by() == 1


@pytest.mark.parametrize("directory", ["", "proxy/"], ids=["at the top", "in a directory"])
def test_a_commit_without_configuration_is_refused_at_once(tmp_path: Path, directory: str) -> None:
    running = Shop(tmp_path, workers=1)
    daemon, repo = running.daemon, running.repo
    try:
        files = {f"{directory}{name}": each for name, each in running.files().items()}
        repo.commit({**files, "README": "a shop\n"})
        daemon.directory = repo.directory / directory
        daemon.start()
        good = repo.head()
        empty = repo.commit(dict.fromkeys(files))
        waited = daemon.run_cli("wait", "--commit", empty, "--timeout", "30s")
        assert waited.returncode == 6, waited.stderr
        newest = daemon.json("history")["entries"][0]
        assert (newest["commit"], newest["outcome"]) == (empty, "refused")
        status = daemon.status()
        assert (status["source"]["state"], status["last_error"]["commit"]) == ("holding", empty)
        assert newest["message"] == status["last_error"]["message"] == status["source"]["problem"]
        assert running.served_by() == 0
        time.sleep(2.5)
        assert daemon.log().count(" refused ") == 1
        daemon.revert()
        assert daemon.status()["last_error"] is None
        assert running.served_by() == 0
        assert good != repo.head()
    finally:
        running.stop()


def test_a_control_plane_that_is_killed_comes_back_to_running_workers(running: Shop) -> None:
    running.commit(1)
    before = running.daemon.status()
    running.crash()
    assert running.served_by() == 1, "nobody needs a control plane to be served"
    missed = running.repo.commit(running.files(0))
    running.daemon.start()
    status = running.daemon.status()
    assert [w["pid"] for w in status["workers"]] == [w["pid"] for w in before["workers"]]
    assert (status["commit"], status["epoch"]) == (missed, before["epoch"] + 1)
    assert status["generation"] == before["generation"] + 1
    assert running.served_by() == 0


def test_sigterm_leaves_the_workers_and_the_next_daemon_takes_them_over(running: Shop) -> None:
    pids = running.daemon.worker_pids()
    assert running.leave() == 0
    assert running.served_by() == 0
    running.daemon.start()
    assert running.daemon.worker_pids() == pids
    running.commit(1)
    assert running.served_by() == 1


def test_the_last_state_comes_back_without_workers_and_without_a_repository(
    tmp_path: Path,
) -> None:
    with shop(tmp_path) as running:
        running.commit(1)
        before = running.daemon.status()
        pids = running.daemon.worker_pids()
        running.crash()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        shutil.move(running.repo.directory, tmp_path / "away")
        running.daemon.start(wait=False)
        eventually(lambda: serves(running))
        assert running.served_by() == 1
        status = running.daemon.status()
        assert (status["commit"], status["digest"]) == (before["commit"], before["digest"])
        assert status["source"]["state"] == "holding"
        shutil.move(tmp_path / "away", running.repo.directory)
        running.commit(0)
        assert running.served_by() == 0


def test_after_a_restart_a_commit_is_checked_against_what_runs(running: Shop) -> None:
    running.crash()
    running.daemon.start()
    again = "clusters: {shop: {}}"
    bad = running.repo.commit({"again.yaml": again})
    waited = running.daemon.run_cli("wait", "--commit", bad)
    assert waited.returncode == 6
    assert "defined twice" in waited.stderr
    gone = running.files(0)
    del gone["shop.yaml"]["clusters"]
    bad = running.repo.commit({"again.yaml": None, **gone})
    waited = running.daemon.run_cli("wait", "--commit", bad)
    assert waited.returncode == 6
    assert "shop.yaml" in waited.stderr
    # What moves to another file is still the same thing.
    files = running.files(1)
    running.daemon.commit({**files, "shop.yaml": None, "moved.yaml": files["shop.yaml"]})
    assert running.served_by() == 1
    entries = running.daemon.json("history", "-n", "1")["entries"]
    assert [change["action"] for change in entries[0]["changes"]] == ["update"]


def test_more_listeners_than_a_worker_can_be_handed_are_refused(running: Shop) -> None:
    many = {f"l{number}": {"address": f"127.0.0.1:{20_000 + number}"} for number in range(300)}
    bad = running.repo.commit({"many.yaml": {"listeners": many}})
    waited = running.daemon.run_cli("wait", "--commit", bad)
    assert waited.returncode == 6
    assert "301 listeners are more than the 252 supported" in waited.stderr


def test_a_killed_worker_is_replaced_on_its_core_and_its_socket(running: Shop) -> None:
    running.commit(1)
    before = running.daemon.status()
    victim = before["workers"][0]
    os.kill(victim["pid"], signal.SIGKILL)
    # Its queue waits for the successor: nobody is refused.
    assert [running.get() for _ in range(20)] == [200] * 20
    eventually(lambda: _replaced(running, victim))
    after = running.daemon.status()
    assert after["workers"][0]["cpu"] == victim["cpu"]
    assert os.sched_getaffinity(after["workers"][0]["pid"]) == {victim["cpu"]}
    assert after["workers"][0]["digest"] == after["digest"] == before["digest"]
    assert after["workers"][1]["pid"] == before["workers"][1]["pid"]
    assert after["workers"][0]["restarts"] == victim["restarts"] + 1


def _replaced(running: Shop, victim: dict[str, int]) -> bool:
    worker = running.daemon.status()["workers"][victim["id"]]
    return bool(worker["pid"] != victim["pid"] and worker["state"] == "running")


def test_a_worker_that_leaves_by_sigterm_has_a_successor_at_once(running: Shop) -> None:
    victim = running.daemon.status()["workers"][1]
    os.kill(victim["pid"], signal.SIGTERM)
    assert [running.get() for _ in range(20)] == [200] * 20
    eventually(lambda: _replaced(running, victim))
    eventually(lambda: not Path(f"/proc/{victim['pid']}/cmdline").exists())


def test_all_workers_killed_at_once_come_back(running: Shop) -> None:
    for pid in running.daemon.worker_pids():
        os.kill(pid, signal.SIGKILL)
    sha = running.repo.commit(running.files(1))
    running.daemon.wait(sha)
    assert running.served_by() == 1


def test_a_stopped_worker_holds_up_a_commit_only_for_so_long(running: Shop) -> None:
    victim = running.daemon.status()["workers"][0]
    os.kill(victim["pid"], signal.SIGSTOP)
    sha = running.repo.commit(running.files(1))
    eventually(lambda: _waits_for(running, victim["id"]))
    waited = running.daemon.run_cli("wait", "--commit", sha, "--timeout", "1s")
    assert waited.returncode == 8
    assert "worker 0" in waited.stderr
    running.daemon.wait(sha)
    assert running.served_by() == 1
    assert running.daemon.status()["workers"][0]["pid"] != victim["pid"]


def _waits_for(running: Shop, worker: int) -> bool:
    transaction = running.daemon.status()["transaction"]
    return bool(transaction and transaction["waiting_for"] == [worker])


def test_a_second_daemon_is_one_sentence(running: Shop) -> None:
    command = [EXECUTABLE, "run", str(running.repo.directory)]
    done = subprocess.run(
        command, env=running.daemon.environment, capture_output=True, text=True, timeout=90
    )
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert f"another daemon (process {running.pid}) uses" in line


@pytest.mark.parametrize("kind", ["no repository", "no directory", "no such state"])
def test_what_cannot_be_run_is_one_sentence(tmp_path: Path, kind: str) -> None:
    directory = tmp_path / "plain"
    if kind != "no directory":
        directory.mkdir()
    state = tmp_path / "state"
    if kind == "no such state":
        subprocess.run(["git", "init", "-q", directory], check=True)
        state.write_text("")
    command = [EXECUTABLE, "run", str(directory), "--runtime-dir", str(tmp_path / "run")]
    command += ["--state-dir", str(state)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert "Traceback" not in done.stderr


def test_a_repository_without_commits_is_waited_for(tmp_path: Path) -> None:
    running = Shop(tmp_path, workers=1)
    try:
        running.daemon.start(wait=False)
        eventually((running.daemon.runtime_dir / "control.sock").exists)
        eventually(lambda: running.daemon.status()["source"]["state"] == "holding")
        running.commit(0)
        assert running.served_by() == 0
    finally:
        running.stop()


def test_workers_are_started_and_drained_while_it_runs(tmp_path: Path) -> None:
    running = Shop(tmp_path)
    running.daemon.workers = 0
    try:
        running.repo.commit(running.files(0, workers=1))
        _start_without_workers_option(running)
        (first,) = running.daemon.worker_pids()
        running.commit(0, workers=3)
        eventually(lambda: _all_run(running, 3))
        assert running.daemon.worker_pids()[0] == first
        pids = running.daemon.worker_pids()
        running.commit(1, workers=1)
        assert running.daemon.worker_pids() == [first]
        assert [running.get() for _ in range(20)] == [200] * 20
        for pid in pids[1:]:
            eventually(lambda pid=pid: not Path(f"/proc/{pid}/cmdline").exists())  # type: ignore[misc]
        assert running.served_by() == 1
    finally:
        running.stop()


def _all_run(running: Shop, count: int) -> bool:
    workers = running.daemon.status()["workers"]
    return len(workers) == count and all(worker["state"] == "running" for worker in workers)


def _start_without_workers_option(running: Shop) -> None:
    daemon = running.daemon
    with daemon.output.open("ab") as output:
        daemon.process = subprocess.Popen(
            [EXECUTABLE, "run", str(daemon.repo.directory)],
            env=daemon.environment,
            stdout=output,
            stderr=output,
        )
    daemon.wait_ready()


def test_metrics_follow_the_settings(running: Shop) -> None:
    admin = address()
    running.commit(0, admin=admin)
    assert running.get(admin, "/healthz") == 200
    assert running.get(admin, "/metrics") == 200
    other = address()
    running.commit(0, admin=other)
    assert running.get(other, "/metrics") == 200
    with pytest.raises(ConnectionRefusedError):
        running.get(admin)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        bad = running.repo.commit(running.files(0, admin=where))
        running.daemon.refusal(bad)
        waited = running.daemon.run_cli("wait", "--commit", bad, "--timeout", "1s")
        assert waited.returncode == 6
        assert f"cannot bind {where}" in waited.stderr
    assert running.get(other, "/metrics") == 200
    running.crash()
    running.daemon.start(wait=False)
    eventually(running.daemon.answers)
    running.commit(0)
    with pytest.raises(ConnectionRefusedError):
        running.get(other)


def test_a_drained_backend_gets_nothing_also_from_a_fresh_worker(running: Shop) -> None:
    two = running.files(0)
    two["shop.yaml"]["clusters"]["shop"]["backends"]["two"] = {
        "address": running.backends[1].address
    }
    running.daemon.commit(two)
    running.daemon.run_cli("drain", "shop/one", "--wait", check=True)
    seen = len(running.backends[0].requests)
    assert [running.get() for _ in range(20)] == [200] * 20
    victim = running.daemon.status()["workers"][0]
    os.kill(victim["pid"], signal.SIGKILL)
    eventually(lambda: _replaced(running, victim))
    running.crash()
    running.daemon.start()
    assert [running.get() for _ in range(20)] == [200] * 20
    assert len(running.backends[0].requests) == seen
    (drain,) = running.daemon.status()["drains"]
    assert (drain["backend"], drain["active"]) == ("shop/one", 0)
    running.daemon.run_cli("undrain", "shop/one", check=True)
    assert [running.get() for _ in range(20)] == [200] * 20
    assert len(running.backends[0].requests) > seen


def test_kakehi_stop_ends_everything(tmp_path: Path) -> None:
    running = Shop(tmp_path)
    try:
        running.start()
        pids = running.daemon.worker_pids()
        running.daemon.run_cli("stop", check=True)
        assert running.daemon.process is not None
        assert running.daemon.process.wait(10) == 0
        assert not any(Path(f"/proc/{pid}/cmdline").exists() for pid in pids)
    finally:
        running.stop()


_FILL = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA wal_autocheckpoint=0")
for _ in range(100):
    text = os.urandom(100_000).hex()
    connection.execute("REPLACE INTO kept VALUES ('of a test', ?, x'')", (text,))
os._exit(0)
"""


def test_what_a_killed_daemon_left_in_the_log_is_copied_before_the_next_commit(
    tmp_path: Path,
) -> None:
    with shop(tmp_path, workers=1) as running:
        running.daemon.kill()
        state = running.daemon.state_dir
        subprocess.run([sys.executable, "-c", _FILL, str(state / "state.db")], check=True)
        running.daemon.start()

        def left() -> int:
            # https://sqlite.org/walformat.html#the_wal_index_header
            index = (state / "state.db-shm").read_bytes()
            frames, copied = (int.from_bytes(index[at : at + 4], sys.byteorder) for at in (16, 96))
            assert frames > 2_000
            return frames - copied

        eventually(lambda: left() == 0)
