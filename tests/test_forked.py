"""A daemon that is forked for a test is what an executed one is, in all that the kernel tells."""

import os
import re
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.harness import processes
from tests.harness.daemon import Kakehi
from tests.harness.forked import Forked, forkserver
from tests.harness.repo import Repo

SETTINGS = {"settings.yaml": "settings: {drain_timeout: 1s}\n"}
# What `/proc/PID/status` says of what a process has from the one before.
INHERITED = re.compile(
    "Name|Umask|Uid|Gid|Groups|NoNewPrivs|Seccomp|Cpus_allowed"
    "|(Sig|Shd)(Pnd|Blk|Ign|Cgt)|Cap(Inh|Prm|Eff|Bnd|Amb)"
)
NUMBERS = re.compile(r":\[\d+\]|\d{5,}")
# The connection over which a test has waited is closed a moment later.
SETTLED_S = 0.3


def facts(daemon: Kakehi) -> dict[str, object]:
    """What the kernel knows of a daemon, whose own directory and numbers are left out."""
    assert daemon.process is not None
    process = Path(f"/proc/{daemon.process.pid}")

    def alike(text: str) -> str:
        return NUMBERS.sub("", text.replace(str(daemon.base), "BASE"))

    status = [line.split(":", 1) for line in (process / "status").read_text().splitlines()]
    fields = (process / "stat").read_text().rpartition(")")[2].split()
    streams = [alike(os.readlink(process / "fd" / str(number))) for number in range(3)]
    return {
        "command": alike((process / "cmdline").read_text().rstrip("\0")).split("\0"),
        "variables": sorted(filter(None, alike((process / "environ").read_text()).split("\0"))),
        "directory": os.readlink(process / "cwd"),
        "program": os.readlink(process / "exe"),
        "limits": (process / "limits").read_text().splitlines(),
        "group, session, priority": (*fields[2:4], *fields[15:17]),
        "streams": streams,
        "descriptors": sorted(alike(os.readlink(each)) for each in (process / "fd").iterdir()),
        "status": [each for each in status if INHERITED.fullmatch(each[0])],
    }


@pytest.fixture
def narrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Another directory, umask and limit than those of when the first daemon was forked."""
    monkeypatch.chdir(tmp_path)
    umask = os.umask(0o027)
    limits = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_CORE, limits)
    os.umask(umask)


def test_the_kernel_sees_no_difference(
    repo: Repo, daemons: Callable[..., Kakehi], narrow: None
) -> None:
    repo.commit(SETTINGS)
    forkserver.allow(False)
    with daemons(repo) as executed:
        assert not isinstance(executed.process, Forked)
        time.sleep(SETTLED_S)
        wanted = facts(executed)
    forkserver.allow(True)
    with daemons(repo) as forked:
        assert isinstance(forked.process, Forked)
        time.sleep(SETTLED_S)
        assert facts(forked) == wanted


def test_it_ends_as_one_does_that_was_executed(repo: Repo, daemons: Callable[..., Kakehi]) -> None:
    repo.commit(SETTINGS)
    daemon = daemons(repo)
    for number, code in ((signal.SIGKILL, -9), (signal.SIGTERM, 0), (signal.SIGINT, 0)):
        daemon.start()
        assert isinstance(daemon.process, Forked)
        assert daemon.process.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            daemon.process.wait(0.01)
        daemon.process.send_signal(number)
        assert daemon.process.wait(20) == daemon.process.poll() == code
        # Of one that has ended, the number may be another's by now.
        daemon.process.kill()
        assert not processes.is_alive(daemon.process.pid)


def test_an_interrupt_that_comes_at_once_is_not_lost(
    repo: Repo, daemons: Callable[..., Kakehi]
) -> None:
    repo.commit(SETTINGS)
    daemon = daemons(repo)
    for _ in range(10):
        daemon.start(wait=False)
        assert isinstance(daemon.process, Forked)
        daemon.process.send_signal(signal.SIGINT)
        assert daemon.process.wait(20) in (0, 130, -signal.SIGINT)
    daemon.start()


@pytest.mark.parametrize("name", ["LD_PRELOAD", "GIT_CONFIG_GLOBAL", "JOURNAL_STREAM"])
def test_what_is_there_before_the_first_import_is_executed(
    repo: Repo, daemons: Callable[..., Kakehi], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    repo.commit(SETTINGS)
    daemon = daemons(repo)
    variables = {**daemon.environment, name: ""}
    monkeypatch.setattr(Kakehi, "environment", variables)
    daemon.start()
    assert isinstance(daemon.process, subprocess.Popen)
