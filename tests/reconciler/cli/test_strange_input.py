"""What no command can make sense of is refused plainly, and drives neither daemon nor terminal."""

import os
import pty
import re
import select
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from reconciler.cli import parameters
from schemas.messages import control
from tests.harness import control as asking
from tests.harness import processes
from tests.harness.daemon import Kakehi
from tests.harness.ports import address
from tests.harness.repo import Repo
from tests.reconciler.cli.program import KAKEHI
from tests.reconciler.cli.test_live import configuration

USAGE = 64
# Of a screen that is drawn anew each second.
WATCHED_S = 60
_WITHOUT_RIGHTS = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search")
"""Who is root may read everything; so he is not asked whether a file can be read."""
RINGING = "eve\x1b]0;pwn\x07\nroot"


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kakehi]:
    """Return a daemon that follows a repository with a directory beside its files."""
    repo = Repo(tmp_path_factory.mktemp("strange") / "shop")
    listener = address()
    repo.commit(
        {
            "shop.yaml": configuration(listener),
            "services/more.yaml": "clusters: {more: {backends: {x: {address: '127.0.0.1:9'}}}}\n",
        }
    )
    with Kakehi(repo, workers=1) as daemon:
        yield daemon


def run(live: Kakehi, *line: str) -> subprocess.CompletedProcess[str]:
    """Run a command line in the directory that the daemon follows."""
    return subprocess.run(
        [*(_WITHOUT_RIGHTS if os.getuid() == 0 else ()), KAKEHI, *line],
        env={**os.environ, "KAKEHI_RUNTIME_DIR": str(live.runtime_dir)},
        cwd=live.repo.directory,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("named", "told"),
    [
        ("front", "did you mean frontend?"),
        ("fronted/shop", "did you mean frontend/shop?"),
        ("shop.yaml", "shop.yaml is not a directory"),
        ("servcies", "did you mean services?"),
        (".git", "git's own"),
        ("services", "is not what the proxy follows"),
    ],
)
def test_a_plan_of_another_place_is_refused(live: Kakehi, named: str, told: str) -> None:
    done = run(live, "plan", named)
    assert (done.returncode, done.stdout) == (USAGE, "")
    assert told in done.stderr


def test_a_place_that_is_none_is_refused_alike_without_a_daemon(live: Kakehi) -> None:
    for line in (("plan", "shop.yaml", "--from", "HEAD"), ("validate", "shop.yaml")):
        done = run(live, *line)
        assert (done.returncode, done.stdout) == (USAGE, ""), line
        assert "shop.yaml" in done.stderr


def test_a_plan_of_what_is_nowhere_says_so(live: Kakehi) -> None:
    for line in (("plan", "frontend/shp"), ("plan", "frontend/shp", "--from", "HEAD")):
        done = run(live, *line)
        assert (done.returncode, done.stdout) == (1, ""), line
        assert 'there is no frontend "shp"' in done.stderr
        assert 'did you mean "shop"?' in done.stderr
    assert run(live, "plan", "frontend/shop").returncode == 0
    assert run(live, "plan", "frontend/shop", "--from", "HEAD").returncode == 0


@pytest.mark.parametrize(
    "line",
    [
        ("history", "-n", "99999999999999999999"),
        ("drain", "shop/shop-1", "--for", "9999999999999h"),
        ("drain", "shop/shop-1", "--for", f"{'9' * 5000}h"),
        ("drain", "shop/shop-1", "--wait", "--timeout", "9999999999999h"),
        ("wait", "--timeout", "9999999999999h"),
        ("stop", "--timeout", "9999999999999h"),
        ("run", "--workers", "99999999999999999999"),
        ("run", "--remote", "origin", "--fetch-interval", "9999999999999h"),
    ],
)
def test_a_number_beyond_all_measure_is_refused(live: Kakehi, line: tuple[str, ...]) -> None:
    done = run(live, *line)
    assert (done.returncode, done.stdout) == (USAGE, "")
    assert "at most" in done.stderr
    assert "Kakehi itself" not in done.stderr


@pytest.mark.parametrize(
    ("request_name", "fields"),
    [
        ("history", {"limit": 2**70}),
        ("drain", {"backend": "shop/shop-1", "ttl_s": 1e300}),
        ("drain", {"backend": "shop/shop-1", "ttl_s": float("nan")}),
        ("drain", {"backend": "shop/shop-1", "timeout_s": float("inf"), "wait": True}),
        ("wait", {"commit": "HEAD", "timeout_s": 1e300}),
    ],
)
def test_the_daemon_refuses_such_numbers_too(
    live: Kakehi, request_name: str, fields: dict[str, object]
) -> None:
    with pytest.raises(AssertionError, match="'code': 'usage'"):
        asking.ask(live.runtime_dir, request_name, **fields)
    assert live.status()["drains"] == []


def test_both_sides_have_the_same_bound() -> None:
    assert parameters.HOURS_MAX * 3600 == control.SECONDS_MAX


def test_whose_a_drain_is_does_not_drive_the_terminal(live: Kakehi) -> None:
    assert run(live, "drain", "shop/shop-1", "--owner", RINGING).returncode == 0
    try:
        told = [
            run(live, "status"),
            run(live, "history"),
            run(live, "drain", "shop/shop-1", "--owner", "\x9bme"),
            run(live, "drain", "shop/shop-1", "--owner", "you"),
        ]
        text = "".join(each.stdout + each.stderr for each in told)
        assert not {"\x1b", "\x07", "\x9b"} & set(text)
        assert text.count(r"eve\x1b]0;pwn\x07\nroot") >= 2
        assert r"\x9bme" in text
        assert run(live, "drain", "shop/shop-1", "--owner", "").returncode == USAGE
    finally:
        run(live, "undrain", "shop/shop-1")


def test_nothing_else_drives_it_and_colours_stay() -> None:
    """On a terminal too, where lines have colours of ours."""
    code = (
        "from reconciler.cli import output\n"
        "output.line(output.painter()('error', 'red') + '\\x1b]0;pwn\\x07 \\x1b[2J')\n"
    )
    parent, child = pty.openpty()
    environment = {"TERM": "xterm", "PATH": "/usr/bin"}
    python = str(Path(KAKEHI).with_name("python"))
    with open(parent, "rb", buffering=0) as reading:
        with open(child, "wb", buffering=0) as writing:
            subprocess.run([python, "-c", code], stdout=writing, env=environment, check=True)
        told = reading.read(1000)
    assert told == b"\x1b[31;1mred\x1b[0m\\x1b]0;pwn\\x07 \\x1b[2J\r\n"


def test_a_status_that_is_watched_has_no_markup_of_others(live: Kakehi) -> None:
    """It is drawn by a library of its own, which knows more than colours."""
    owner = "[bold red]eve[/] [link=http://evil/]\x1b[2J :smile:"
    assert run(live, "drain", "shop/shop-1", "--owner", owner).returncode == 0
    live.repo.commit({"\x1b]0;[blink]pwn\x07.yaml": "a: ["})
    try:
        processes.wait_until(lambda: live.status()["last_error"], "it is refused")
        told = watched(live, b"refused")
    finally:
        live.repo.git("reset", "--quiet", "--hard", "HEAD~1")
        live.wait(live.repo.head())
        run(live, "undrain", "shop/shop-1")
    assert r"[bold red]eve[/] [link=http://evil/]\x1b[2J :smile:" in told
    assert r"\x1b]0;[blink]pwn\x07.yaml" in told


def watched(live: Kakehi, until: bytes) -> str:
    """What a terminal is sent by `status --watch`, without what the library draws by."""
    pid, descriptor = pty.fork()
    if pid == 0:
        environment = {**live.environment, "TERM": "xterm", "COLUMNS": "500", "LINES": "60"}
        # Whoever runs the tests behind a shell may have it ignored.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.execve(KAKEHI, [KAKEHI, "status", "--watch"], environment)
    told, end = bytearray(), time.monotonic() + WATCHED_S
    try:
        while b"\n" not in told.partition(until)[2]:
            assert select.select([descriptor], [], [], max(0, end - time.monotonic()))[0], told
            told += os.read(descriptor, 65536)
    finally:
        os.kill(pid, signal.SIGINT)
        with suppress(OSError):
            while os.read(descriptor, 65536):
                pass
        os.waitpid(pid, 0)
        os.close(descriptor)
    text = told.decode()
    assert not re.search("\x1b[^\\[]|\x1b\\[2J|\x07", text), text
    return text


def test_a_commit_that_is_none_is_a_fault_of_the_line(live: Kakehi) -> None:
    for line in (("plan", "--ref", "nope"), ("validate", "--ref", "nope")):
        done = run(live, *line)
        assert (done.returncode, "nope" in done.stderr) == (USAGE, True), line


@pytest.mark.parametrize(
    "line",
    [
        ("plan", "--json", "--format", "markdown"),
        ("plan", "--json", "--format", "text"),
        ("status", "--json", "--watch"),
        ("status", "--detailed-exitcode", "--watch"),
        ("status", "--watch"),
        ("drain", "shop/shop-1", "--timeout", "1s"),
        ("drain", "shop/shop-1", "--for", "1m", "--for", "2m"),
        ("drain", "shop/shop-1", "--for", "0s"),
        ("plan", "--full", "--json"),
        ("plan", "--from", "HEAD", "--runtime-dir", "/elsewhere"),
        ("plan", "--ref", "HEAD", "--ref", "main"),
        ("history", "-n", "1", "--limit", "2"),
        ("run", "--fetch-interval", "30s"),
        ("run", "--workers", "1", "--workers", "2"),
        ("wait", "--timeout", "1s", "--timeout", "2s"),
    ],
)
def test_options_that_contradict_each_other(live: Kakehi, line: tuple[str, ...]) -> None:
    """Or do nothing: refused before anything is done, with what to do."""
    done = run(live, *line)
    assert done.returncode == USAGE, done.stderr
    assert done.stdout == "" or "--json" in line
    assert live.status()["drains"] == []
    assert run(live, "plan", "--json", "--format", "json").returncode == 0


@pytest.mark.parametrize("header", ["X: a\nb", "X: a\x00", "X Y: a", "X\r: a", "Ä: a", "X: \x7f"])
def test_a_header_that_no_client_can_send(live: Kakehi, header: str) -> None:
    url = f"http://{live.status()['source']['ref']}.test/"
    if "\x00" not in header:
        done = run(live, "explain", url, "-H", header)
        assert (done.returncode, done.stdout) == (USAGE, "")
    name, _, value = header.partition(":")
    with pytest.raises(AssertionError, match="'code': 'usage'"):
        asking.ask(live.runtime_dir, "explain", url=url, headers=[[name, value]])


def test_a_url_that_no_client_can_send(live: Kakehi) -> None:
    assert run(live, "explain", "http://shop.test/a\nb").returncode == USAGE


def test_wait_does_not_wait_for_a_branch_that_is_gone(live: Kakehi) -> None:
    """HEAD before its first commit may come; one that had commits, and has none, is none."""
    head = live.repo.head()
    live.repo.git("update-ref", "-d", "refs/heads/main")
    try:
        done = run(live, "wait", "--timeout", "20s")
        assert done.returncode == USAGE
        assert "names no commit" in done.stderr
    finally:
        live.repo.git("update-ref", "refs/heads/main", head)


def test_no_time_at_all_is_a_time(live: Kakehi) -> None:
    """A timeout of 0 is no way to read without waiting."""
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(live.base / "control.sock"))
        silent.listen()
        stop = [KAKEHI, "stop", "--timeout", "0s", "--runtime-dir", str(live.base)]
        done = subprocess.run(stop, capture_output=True, text=True, timeout=60)
    assert done.returncode == 8
    assert done.stderr.startswith("kakehi stop: the daemon did not answer within 0 s\n  hint: ")


@pytest.fixture
def closed(live: Kakehi, request: pytest.FixtureRequest) -> Iterator[str]:
    """Return a file or directory of the working tree that its owner may not read."""
    directory = live.repo.directory
    live.repo.write({"new.yaml": "{}\n", ".gitignore": "mine/\n"})
    for name in ("folder", "mine"):
        (directory / name).mkdir()
    (directory / "mine").chmod(0)
    name: str = request.param
    if name == "mine":
        yield name
    else:
        # Git looks into a file only if its times or its mode have changed.
        before = (directory / name).stat().st_mode
        (directory / name).chmod(0)
        yield name
        (directory / name).chmod(before & 0o777)
    for each in ("folder", "mine"):
        (directory / each).rmdir()
    live.repo.write({"new.yaml": None, ".gitignore": None})


_LINES = (("validate",), ("plan",), ("plan", "--from", "HEAD"))


@pytest.mark.parametrize("closed", ["shop.yaml", "services", "new.yaml", "folder"], indirect=True)
@pytest.mark.parametrize("line", _LINES)
def test_what_cannot_be_read_is_told_with_its_path(
    live: Kakehi, closed: str, line: tuple[str, ...]
) -> None:
    done = run(live, *line)
    assert (done.returncode, done.stdout) == (1, "")
    (told,) = done.stderr.splitlines()
    assert told.startswith(f"kakehi {line[0]}: ")
    assert closed in told
    assert told.endswith(": permission denied")


@pytest.mark.parametrize("closed", ["mine"], indirect=True)
@pytest.mark.parametrize("line", _LINES)
def test_what_git_ignores_may_be_closed(live: Kakehi, closed: str, line: tuple[str, ...]) -> None:
    done = run(live, *line)
    assert (done.returncode, closed in done.stderr) == (0, False), done.stderr


NOT_UTF8 = "b\udcff"
"""As Python has what somebody types in Latin-1."""


@pytest.mark.parametrize(
    "line",
    [
        ("drain", f"c1/{NOT_UTF8}"),
        ("show", f"frontend/{NOT_UTF8}"),
        ("plan", f"frontend/{NOT_UTF8}"),
        ("plan", "--ref", NOT_UTF8),
        ("plan", "--from", NOT_UTF8),
        ("validate", "--ref", NOT_UTF8),
        ("wait", "--commit", NOT_UTF8),
        ("explain", f"http://o:8080/{NOT_UTF8}"),
        ("explain", "http://o:8080/", "-H", f"X: {NOT_UTF8}"),
        ("forgive", "--who", NOT_UTF8),
        ("run", "--ref", NOT_UTF8),
    ],
    ids=" ".join,
)
def test_bytes_that_are_no_text_are_refused_before_anybody_is_asked(
    live: Kakehi, line: tuple[str, ...]
) -> None:
    done = run(live, *line)
    assert done.returncode == USAGE, done
    assert "is not UTF-8" in done.stderr
    assert "internal error" not in live.log()


def test_text_in_a_locale_that_has_no_letters_is_text_all_the_same(live: Kakehi) -> None:
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [KAKEHI, "show", "frontend/é"],
        env={**os.environ, **locale, "KAKEHI_RUNTIME_DIR": str(live.runtime_dir)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1, done
    assert r'no frontend "\xe9" running' in done.stderr


def test_a_zone_is_no_address_of_a_client(live: Kakehi) -> None:
    done = run(live, "explain", "http://o:8080/", "--client-address", "fe80::1%eth0")
    assert done.returncode == USAGE, done
    assert "is not an IP address that a client may have" in done.stderr
