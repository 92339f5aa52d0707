"""`kakehi demo`: the example shop on this machine, for `make run`.

One process of backends, one daemon with its workers, a repository to play with, and a printed tour.
All of it lives below one directory (sockets and state in its `.kakehi`) and ends with Ctrl-C.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

from reconciler.cli import output
from reconciler.cli.asking import ask
from reconciler.cli.exits import DONE, CommandError
from reconciler.cli.parameters import DIRECTORY, Argument

PROXY_PORT = 8080
ADMIN_PORT = 9901
BACKEND_PORTS = (9001, 9002, 9003)
"""As in config.example: shop-1, shop-2 and shop-3."""

START_S = 30.0
END_S = 30.0
"""How much longer than `drain_timeout`, which bounds requests in flight, the end may take."""

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

SOCKET_PATH_BYTES_MAX = 107
"""A Unix socket's path is no longer (sun_path has 108 bytes with its end)."""


class _EndedError(Exception):
    """Somebody pressed Ctrl-C, or asked the demo to end in another way."""


def demo(
    directory: Annotated[
        str, Argument("[DIR]", help="Where the demo lives.", completes=DIRECTORY)
    ] = "demo",
) -> int:
    """Run the example shop: three backends, the proxy with its repository, and a tour.

    A repository that is there from the last time is kept as it is.

    Examples:
      kakehi demo
      kakehi demo /tmp/shop
    """
    place = Path(directory).resolve()
    runtime = place / ".kakehi" / "run"
    if shutil.which("git") is None:
        raise CommandError("git is missing", "install it: apt-get install git")
    _check_path(runtime)
    _check_ports(runtime)
    _prepare(place)
    for number in SIGNALS:
        signal.signal(number, _on_signal)
    limit_s = 0.0
    started: list[subprocess.Popen[bytes]] = []
    try:
        backends = _start_backends(started)
        daemon = _start_daemon(started, place, runtime)
        _await_ready(daemon, runtime)
        for text in _tour(place, runtime):
            output.line(text)
        sys.stdout.flush()
        _watch(daemon, backends)
    except _EndedError:
        limit_s = _drain_s(runtime)
        limit = f", for at most {output.duration(limit_s * 1_000)}" if limit_s else ""
        output.note(f"\nEnding: requests in flight may finish{limit}.")
        output.note("Ctrl-C again ends them now.")
    finally:
        _end(started, runtime, limit_s + END_S)
    output.note("The demo has ended: no process is left.")
    return DONE


def _on_signal(number: int, frame: object) -> None:
    # Once: `_end` says what the next one does.
    for each in SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    raise _EndedError


def _drain_s(runtime: Path) -> float:
    """Return how long requests in flight may take, as the settings that run have it."""
    try:
        shown = ask(str(runtime), "show", {"kind": "settings", "entity": None}, timeout_s=2.0)
    except CommandError:
        return 0.0
    return float(sum(found["value"]["drain_timeout"] for found in shown["entities"])) / 1_000


def _check_path(runtime: Path) -> None:
    longest = runtime / "workers" / "999.sock"
    if len(os.fsencode(longest)) > SOCKET_PATH_BYTES_MAX:
        raise CommandError(
            f"the path {runtime} is too long for a Unix socket",
            "name a shorter one: make run DEMO=/tmp/demo",
        )


def _check_ports(runtime: Path) -> None:
    try:
        ask(str(runtime), "status", timeout_s=2.0)
    except CommandError:
        pass
    else:
        raise CommandError(
            "the demo is running already", f"end it: kakehi stop --runtime-dir {runtime}"
        )
    for port in (PROXY_PORT, ADMIN_PORT, *BACKEND_PORTS):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                raise CommandError(
                    f"the demo needs port {port}, and something else has it "
                    f"({(error.strerror or '').lower()})",
                    f"see who: ss -ltnp 'sport = :{port}'",
                ) from None


def _prepare(place: Path) -> None:
    """Make the repository, unless there is one from the last time."""
    from reconciler.cli.commands.init import scaffold

    if (place / ".git").exists():
        output.note(f"Keeping the repository {place} as it is.")
        return
    commit = scaffold(place)
    with (place / ".git" / "info" / "exclude").open("a", encoding="utf-8") as exclude:
        exclude.write("/.kakehi/\n")
    if _git(place, "var", "GIT_COMMITTER_IDENT") != 0:
        # The tour commits, and git refuses to for somebody whose name it does not know.
        _git(place, "config", "user.name", "Kakehi demo")
        _git(place, "config", "user.email", "demo@localhost")
    output.note(f"Made the repository {place}, commit {commit[:12]}.")


def _git(place: Path, *arguments: str) -> int:
    command = ["git", "-C", str(place), *arguments]
    return subprocess.run(command, check=False, capture_output=True).returncode


def _start_backends(started: list[subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "reconciler.cli.demo_backends", *map(str, BACKEND_PORTS)]
    backends = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )
    started.append(backends)
    assert backends.stdout is not None
    if backends.stdout.readline() != b"ready\n":
        raise CommandError("the backends of the demo did not start")
    return backends


def _start_daemon(
    started: list[subprocess.Popen[bytes]], place: Path, runtime: Path
) -> subprocess.Popen[bytes]:
    state = place / ".kakehi" / "state"
    for directory in (runtime, state):
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    workers = min(2, len(os.sched_getaffinity(0)))
    command = [sys.executable, "-m", "reconciler.cli.program", "run", str(place)]
    command += ["--workers", str(workers), "--runtime-dir", str(runtime), "--state-dir", str(state)]
    output.note(f"Starting the proxy with {output.count(workers, 'worker')} …")
    with _access_log(place).open("wb") as log:
        # In a session of its own, so that Ctrl-C reaches it through us, once and in order. What it
        # says about commits is shown here, below the tour.
        daemon = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, start_new_session=True
        )
    started.append(daemon)
    return daemon


def _await_ready(daemon: subprocess.Popen[bytes], runtime: Path) -> None:
    """Wait until every worker serves the newest commit."""
    deadline = time.monotonic() + START_S
    reason = ""
    while time.monotonic() < deadline and daemon.poll() is None:
        try:
            result = ask(str(runtime), "wait", {"commit": "HEAD", "timeout_s": 5.0}, 10.0)
        except CommandError as error:
            reason = error.message
            time.sleep(0.05)
            continue
        if result["outcome"] == "applied":
            return
        reason = result["message"]
        if result["outcome"] == "refused":
            break
    if daemon.poll() is not None:
        reason = f"it ended with status {daemon.poll()}"
    raise CommandError(f"the proxy did not start: {reason}")


def _watch(daemon: subprocess.Popen[bytes], backends: subprocess.Popen[bytes]) -> None:
    """Return when the proxy was ended by `kakehi stop`; Ctrl-C ends the wait by an exception."""
    while daemon.poll() is None:
        if backends.poll() is not None:
            raise CommandError("the backends of the demo ended")
        time.sleep(0.2)


def _end(started: list[subprocess.Popen[bytes]], runtime: Path, limit_s: float) -> None:
    """End the daemon (and its workers), then the backends that they may still be talking to."""

    def hurry(number: int, frame: object) -> None:
        # A second SIGINT has the daemon end its workers at once.
        for process in started:
            if process.stdin is None:
                process.send_signal(signal.SIGINT)

    for process in reversed(started):
        if process.poll() is None:
            if process.stdin is not None:
                process.stdin.close()
            else:
                process.send_signal(signal.SIGINT)
        for number in SIGNALS:
            signal.signal(number, hurry)
        try:
            process.wait(limit_s)
        except subprocess.TimeoutExpired:
            output.note("It does not end; ending it by force.")
            process.kill()
            process.wait()
            _kill_workers(runtime)


def _kill_workers(runtime: Path) -> None:
    """End what a daemon that was killed has left behind."""
    from reconciler.workers.processes.orphans import find

    for pid in find(runtime):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _access_log(place: Path) -> Path:
    return place / ".kakehi" / "access.log"


def _tour(place: Path, runtime: Path) -> list[str]:
    paint = output.painter()
    binaries = Path(sys.executable).parent
    url = f"http://127.0.0.1:{PROXY_PORT}"
    steps = [
        ("Ask it", [f"curl {url}/", f"curl -H 'X-Canary: always' {url}/"]),
        ("Watch it, in a third terminal", ["kakehi status --watch"]),
        ("Edit", [f"sed -i 's/127.0.0.1:9001/127.0.0.1:9003/' {place}/services/shop.yaml"]),
        ("See what that would do", ["kakehi plan"]),
        (
            "Commit: that is all",
            [f"git -C {place} commit -am 'Move shop-1' && kakehi wait --commit HEAD"],
        ),
        ("Ask again", [f"for i in 1 2 3 4; do curl -s {url}/; done"]),
        (
            "Take it back",
            [f"git -C {place} revert --no-edit HEAD && kakehi wait --commit HEAD"],
        ),
        ("Look around", ["kakehi history", f"kakehi explain {url}/api/catalog/7"]),
    ]
    text = [
        "",
        paint("bold", f"The shop is open: {url}"),
        "",
        "In another terminal:",
        "",
        f"  export KAKEHI_RUNTIME_DIR={runtime} PATH={binaries}:$PATH",
    ]
    for number, (title, commands) in enumerate(steps, start=1):
        text.extend(["", f"  {number}. {title}"])
        text.extend(f"     {paint('add', command)}" for command in commands)
    text.extend(["", f"Access log: {_access_log(place)}", "End: Ctrl-C", ""])
    return text
