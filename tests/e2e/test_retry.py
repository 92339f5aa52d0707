"""What fails for a reason that is not the commit's own is tried again, for as long as it takes."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from reconciler.cli.commands.wait import TOLD_S
from tests.harness import control, ports
from tests.reconciler.live import Shop, eventually, serves, shop

DEATHS = 3


def status(running: Shop) -> dict[str, Any]:
    found: dict[str, Any] = control.ask_when_there(running.daemon.runtime_dir, "status")
    return found


def taken(address: str) -> socket.socket:
    """A socket of somebody else's on an address."""
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(ports.split(address))
    holder.listen()
    return holder


def scraped(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{address}/healthz", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def by_itself(_: Shop) -> None:
    """Nobody does anything."""


def by_command(running: Shop) -> None:
    done = running.daemon.run_cli("retry", check=True)
    assert running.repo.head()[:12] in done.stdout


def by_signal(running: Shop) -> None:
    os.kill(running.pid, signal.SIGHUP)


@pytest.mark.parametrize("told", [by_itself, by_command, by_signal])
@pytest.mark.parametrize("what", ["listener", "metrics"])
def test_a_port_that_is_taken_at_the_first_start(
    tmp_path: Path, what: str, told: Callable[[Shop], None]
) -> None:
    made = Shop(tmp_path, workers=1)
    metrics = ports.address()
    try:
        with taken(made.listener if what == "listener" else metrics):
            head = made.repo.commit(made.files(0, admin=metrics))
            made.daemon.start(wait=False)
            made.daemon.refusal(head)
            waited = made.daemon.run_cli("wait", "--commit", head, "--timeout", "2s")
            assert waited.returncode == 6, "whoever waits is told in the end"
            assert "address already in use" in waited.stderr
            assert "tried again" in waited.stderr
            found = status(made)
            assert (found["generation"], found["retry"]["commit"]) == (0, head)
            assert "address already in use" in found["retry"]["reason"]
            assert "kakehi retry" in made.daemon.run_cli("status", check=True).stdout
        told(made)
        eventually(lambda: serves(made), timeout_s=20)
        eventually(lambda: scraped(metrics))
        # It is told when the ref of the applied commit is moved as well.
        eventually(lambda: status(made)["last_error"] is None)
        assert status(made)["retry"] is None
        entries = made.daemon.json("history")["entries"]
        outcomes = [each["outcome"] for each in entries]
        assert outcomes == ["applied", "refused"], f"one refusal, however often: {entries}"
    finally:
        made.stop()


def test_who_has_a_port_may_be_found_out_later(tmp_path: Path) -> None:
    """It is one refusal still. A socket that is on its way to a process is nobody's."""
    made = Shop(tmp_path, workers=1)
    ours, theirs = socket.socketpair()
    try:
        with taken(made.listener) as sent:
            socket.send_fds(ours, [b"it"], [sent.fileno()])
        made.repo.commit(made.files(0))
        made.daemon.start(wait=False)
        eventually(lambda: status(made)["last_error"])
        assert " by " not in status(made)["last_error"]["message"]
        _, [received], _, _ = socket.recv_fds(theirs, 2, 1)
        told = f"address already in use by {Path('/proc/self/comm').read_text().strip()} (process"
        eventually(lambda: f"{told} {os.getpid()})" in status(made)["last_error"]["message"])
        os.close(received)
        eventually(lambda: serves(made), timeout_s=20)
        entries = made.daemon.json("history")["entries"]
        assert [each["outcome"] for each in entries] == ["applied", "refused"]
    finally:
        ours.close()
        theirs.close()
        made.stop()


def test_a_port_that_is_free_again_is_waited_for(tmp_path: Path) -> None:
    """It is told meanwhile what stands in the way."""
    with shop(tmp_path, workers=1) as running, ThreadPoolExecutor(1) as pool:
        port = ports.address()
        with taken(port):
            more = {"more.yaml": f"listeners: {{more: {{address: '{port}'}}}}"}
            head = running.repo.commit(more)
            waited = pool.submit(running.daemon.run_cli, "wait", "--commit", head)
            eventually(lambda: status(running)["last_error"])
            time.sleep(TOLD_S + 0.5)
            assert not waited.done()
        done = waited.result(30)
        assert (done.returncode, head[:12] in done.stdout) == (0, True), done
        assert "waiting for" in done.stderr
        assert "address already in use" in done.stderr


def test_what_is_refused_for_good_is_not_tried_again_for_what_it_failed_of_before(
    tmp_path: Path,
) -> None:
    """The port is taken first, then free, and a file is gone that the commit names."""
    with shop(tmp_path, workers=1) as running:
        port = ports.address()
        with taken(port):
            page = tmp_path / "page.txt"
            page.write_text("page")
            more = {
                "listeners": {"more": {"address": port}},
                "frontends": {"more": {"listeners": ["more"], "respond": {"file": str(page)}}},
            }
            bad = running.repo.commit({"more.yaml": more})
            eventually(lambda: status(running)["retry"])
            page.unlink()
        done = running.daemon.run_cli("wait", "--commit", bad, "--timeout", "30s")
        assert done.returncode == 6
        assert str(page) in done.stderr
        assert "tried again" not in done.stderr
        assert status(running)["retry"] is None


def test_metrics_whose_port_is_taken_at_a_restart(tmp_path: Path) -> None:
    metrics = ports.address()
    with shop(tmp_path, workers=1, admin=metrics) as running:
        assert running.leave() == 0
        with taken(metrics):
            running.daemon.start()
            eventually(lambda: any(metrics in text for text in status(running)["warnings"]))
        eventually(lambda: scraped(metrics))
        assert not any(metrics in text for text in status(running)["warnings"])


def test_a_commit_whose_workers_die_is_not_given_up(tmp_path: Path) -> None:
    """The one worker dies while it prepares, and then there is none for longer than three tries."""
    with shop(tmp_path, workers=1) as running:
        for death in range(DEATHS):
            pid = int(status(running)["workers"][0]["pid"])
            os.kill(pid, signal.SIGSTOP)
            head = running.repo.commit(running.files(1 - death % 2))
            eventually(lambda: waits_for(running, 0))
            os.kill(pid, signal.SIGKILL)
            running.daemon.wait(head)
        assert running.served_by() == 1 - (DEATHS - 1) % 2
        outcomes = {each["outcome"] for each in running.daemon.json("history")["entries"]}
        assert outcomes == {"applied"}, "it was never refused"


def test_a_retry_with_nothing_to_try(tmp_path: Path) -> None:
    with shop(tmp_path, workers=1) as running:
        done = running.daemon.run_cli("retry", check=True)
        assert "nothing waits to be tried" in done.stdout
        broken = running.repo.commit({"broken.yaml": "a: ["})
        assert running.daemon.run_cli("wait", "--commit", broken).returncode == 6
        assert broken[:12] in running.daemon.run_cli("retry", check=True).stdout
        assert running.daemon.run_cli("wait", "--commit", broken).returncode == 6
        entries = running.daemon.json("history")["entries"]
        assert [each["outcome"] for each in entries] == ["refused", "applied"]


def waits_for(running: Shop, number: int) -> bool:
    transaction = status(running)["transaction"]
    return transaction is not None and (transaction["phase"], transaction["waiting_for"]) == (
        "preparing",
        [number],
    )


def test_a_wait_beyond_what_the_daemon_takes_ends_with_a_code_that_help_names(
    tmp_path: Path,
) -> None:
    other = ports.address()
    with taken(other), shop(tmp_path, workers=1) as running, ExitStack() as stack:
        running.repo.commit(
            {"more.yaml": {"listeners": {"more": {"address": other}}}}, "it waits for its port"
        )
        for _ in range(128):
            connection = stack.enter_context(socket.socket(socket.AF_UNIX))
            connection.connect(str(running.daemon.runtime_dir / "control.sock"))
            connection.sendall(b'{"request":"wait","commit":"HEAD","timeout_s":60}\n')

        def is_full() -> bool:
            try:
                control.ask(running.daemon.runtime_dir, "wait", 5, commit="HEAD", timeout_s=0.1)
            except AssertionError as error:
                return "128 wait at once already" in str(error)
            except BlockingIOError:
                # It has not accepted all of them yet.
                return False
            return False

        eventually(is_full)
        done = running.daemon.run_cli("wait", "--timeout", "1500ms")
        assert done.returncode == 8
        assert "it is not known whether it is everywhere: 128 wait at once already" in done.stderr
        told = running.daemon.run_cli("wait", "--timeout", "1500ms", "--json")
        assert told.returncode == 8
        assert json.loads(told.stdout)["error"]["exit_code"] == 8
        assert "128 wait already" in " ".join(
            running.daemon.run_cli("wait", "--help").stdout.split()
        )
