"""The demo, whole: it starts, its printed tour does what it says, and Ctrl-C leaves nothing behind.

It lives on fixed ports, as a demo must; where another program has them, these tests are skipped.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.cli.commands.demo import ADMIN_PORT, BACKEND_PORTS, PROXY_PORT
from tests.reconciler.cli.program import KAKEHI, kakehi

PORTS = (PROXY_PORT, ADMIN_PORT, *BACKEND_PORTS)
START_S = 40.0


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


needs_ports = pytest.mark.skipif(
    not all(map(is_free, PORTS)), reason="another program has the ports of the demo"
)


class Demo:
    """A running demo in a directory of its own."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.output = place.parent / "output"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [KAKEHI, "demo", str(place)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "NO_COLOR": "1"},
            )
        deadline = time.monotonic() + START_S
        while "End: Ctrl-C" not in self.text():
            assert self.process.poll() is None, self.text()
            assert time.monotonic() < deadline, self.text()
            time.sleep(0.05)

    def text(self) -> str:
        return self.output.read_text()

    def tour(self) -> list[str]:
        """Return the commands that the tour prints, in their order."""
        printed = self.text().partition("In another terminal:")[2]
        return [
            line.strip() for line in re.findall(r"^ {2,5}(?! |\d\.)(.+)$", printed, re.MULTILINE)
        ]

    def interrupt(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(20)


@pytest.fixture
def place() -> Iterator[Path]:
    # Shorter than pytest's tmp_path: a Unix socket's path has 107 bytes.
    base = Path(tempfile.mkdtemp(prefix="kk-"))
    yield base / "demo"
    assert left_over(base) == []
    shutil.rmtree(base)


def left_over(base: Path) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                environment = (entry / "environ").read_bytes()
            except OSError:
                continue
            if str(base) in command or os.fsencode(base) in environment:
                found.append(command)
    return found


@needs_ports
def test_the_tour_does_what_it_says(place: Path) -> None:
    demo = Demo(place)
    try:
        commands = [command for command in demo.tour() if "--watch" not in command]
        assert len(commands) == 10
        script = "set -euo pipefail\n" + "\n".join(f"echo '==>'\n{each}" for each in commands)
        environment = {**os.environ, "NO_COLOR": "1", "GIT_CONFIG_GLOBAL": os.devnull}
        done = subprocess.run(
            ["bash", "-c", script], capture_output=True, text=True, timeout=60, env=environment
        )
        assert done.returncode == 0, done.stdout + done.stderr
        said = done.stdout.split("==>\n")[1:]
        assert re.fullmatch(r"hello from shop-[12]: GET /\n", said[1])
        assert said[2] == "hello from shop-3: GET /\n"
        assert '"127.0.0.1:9001" → "127.0.0.1:9003"' in said[4]
        assert "Plan: 0 to add, 1 to change, 0 to remove." in said[4]
        assert "runs on every worker (generation 2)" in said[5]
        assert set(said[6].splitlines()) <= {f"hello from shop-{n}: GET /" for n in (2, 3)}
        assert "runs on every worker (generation 3)" in said[7]
        assert said[8].count("applied") == 3
        assert "services/catalog.yaml" in said[9]
    finally:
        code = demo.interrupt()
    assert code == 0, demo.text()
    assert "The demo has ended: no process is left." in demo.text()
    assert all(map(is_free, PORTS))


@needs_ports
def test_a_second_ctrl_c_does_not_wait_for_a_client_that_stalls(place: Path) -> None:
    demo = Demo(place)
    with socket.create_connection(("127.0.0.1", PROXY_PORT)) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 10\r\n\r\nabc")
        time.sleep(0.5)
        demo.process.send_signal(signal.SIGINT)
        deadline = time.monotonic() + 10
        while "requests in flight may finish, for at most 30 s" not in demo.text():
            assert time.monotonic() < deadline, demo.text()
            time.sleep(0.05)
        time.sleep(1)
        assert demo.process.poll() is None, demo.text()
        assert "Ctrl-C again ends them now" in demo.text()
        code = demo.interrupt()
    assert code == 0, demo.text()
    assert "Traceback" not in demo.text(), demo.text()
    assert "Error" not in demo.text(), demo.text()


@needs_ports
def test_the_repository_is_kept_for_the_next_time(place: Path) -> None:
    Demo(place).interrupt()
    subprocess.run(
        ["git", "-C", str(place), "commit", "--quiet", "--allow-empty", "-m", "mine"], check=True
    )
    again = Demo(place)
    try:
        assert "Keeping the repository" in again.text()
        log = subprocess.run(
            ["git", "-C", str(place), "log", "--format=%s"], capture_output=True, text=True
        )
        assert log.stdout.splitlines()[0] == "mine"
        status = subprocess.run(
            ["git", "-C", str(place), "status", "--porcelain"], capture_output=True, text=True
        )
        assert status.stdout == "", "sockets and state are none of git's business"
    finally:
        again.interrupt()


@needs_ports
def test_kakehi_stop_ends_the_demo_too(place: Path) -> None:
    demo = Demo(place)
    assert kakehi("demo", str(place)).stderr.startswith("kakehi demo: the demo is running already")
    kakehi("stop", "--runtime-dir", str(place / ".kakehi" / "run"))
    assert demo.process.wait(30) == 0


@needs_ports
@pytest.mark.parametrize("port", [PROXY_PORT, BACKEND_PORTS[1]])
def test_a_taken_port_is_one_sentence(port: int, place: Path) -> None:
    with socket.create_server(("127.0.0.1", port)):
        done = kakehi("demo", str(place))
    assert done.returncode == 1
    assert done.stderr.startswith(f"kakehi demo: the demo needs port {port}, and something else")
    assert len(done.stderr.splitlines()) == 2
    assert not place.exists(), "nothing was begun"


def test_a_path_too_long_for_sockets_is_one_sentence(tmp_path: Path) -> None:
    done = kakehi("demo", str(tmp_path / ("x" * 100)))
    assert done.returncode == 1
    assert "too long for a Unix socket" in done.stderr
