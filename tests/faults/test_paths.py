"""Paths that cannot be looked at: whatever a commit names, the daemon goes on following.

A path of the machine leads through directories that may be closed, and to things that are no files.
Each is a finding about the entity that names it, never the end of a part.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.harness import pki
from tests.harness.daemon import UNPRIVILEGED
from tests.reconciler.live import Shop, eventually


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    made = Shop(tmp_path_factory.mktemp("paths"), workers=1)
    made.daemon.launcher = UNPRIVILEGED
    try:
        made.start()
        yield made
    finally:
        made.stop()


def closed(directory: Path) -> Path:
    """A file below a directory that may not be searched."""
    (directory / "closed" / "inner").mkdir(parents=True)
    (directory / "closed").chmod(0)
    return directory / "closed" / "inner" / "shop.crt"


def looped(directory: Path) -> Path:
    (directory / "loop").symlink_to("loop")
    return directory / "loop" / "shop.crt"


def below_a_file(directory: Path) -> Path:
    (directory / "file").touch()
    return directory / "file" / "inner" / "shop.crt"


def a_socket(directory: Path) -> Path:
    listening = socket.socket(socket.AF_UNIX)
    path = f"/tmp/kk-{os.getpid()}.sock"  # sockaddr_un is short
    listening.bind(path)
    listening.close()
    moved = directory / "shop.crt"
    os.rename(path, moved)
    return moved


def a_pipe(directory: Path) -> Path:
    """With a writer that says nothing: a read finds neither bytes nor an end."""
    path = directory / "shop.crt"
    os.mkfifo(path)
    os.open(path, os.O_RDWR)
    return path


PLACES: dict[str, Callable[[Path], Path]] = {
    "below a closed directory": closed,
    "behind links that lead in a circle": looped,
    "below a file": below_a_file,
    "with a name that is too long": lambda directory: directory / ("n" * 300) / "shop.crt",
    "with a path that is too long": lambda directory: Path("/" + "n/" * 500 + "shop.crt"),
    "that is a directory": lambda directory: directory,
    "that is a socket": a_socket,
    "that is a pipe": a_pipe,
    "that never ends": lambda _: Path("/dev/zero"),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_commit_that_names_a_file(running: Shop, tmp_path: Path, place: str) -> None:
    path = str(PLACES[place](tmp_path))
    named = {"certificates": {"shop": {"certificate": path, "private_key": path}}}
    refused = running.repo.commit({"certificates.yaml": named})
    waited = running.daemon.run_cli("wait", "--commit", refused, "--timeout", "20s")
    assert waited.returncode == 6, waited
    assert "internal error" not in running.daemon.log()
    # Commits that only name it again cost no descriptor.
    descriptors = len(os.listdir(f"/proc/{running.pid}/fd"))
    for number in range(8):
        again = running.repo.commit({"README.md": str(number)})
        assert running.daemon.run_cli("wait", "--commit", again).returncode == 6
    running.daemon.commit({"certificates.yaml": None})
    assert running.daemon.status()["source"]["state"] == "following"
    assert len(os.listdir(f"/proc/{running.pid}/fd")) < descriptors + 8


def test_a_certificate_in_service_that_may_not_be_looked_at_any_more(
    running: Shop, tmp_path: Path
) -> None:
    pair = pki.make("shop.test")
    inner = tmp_path / "closed" / "inner"
    inner.mkdir(parents=True)
    (inner / "shop.crt").write_bytes(pair.chain)
    (inner / "shop.key").write_bytes(pair.key)
    named = {"certificate": str(inner / "shop.crt"), "private_key": str(inner / "shop.key")}
    running.daemon.commit({"certificates.yaml": {"certificates": {"shop": named}}})
    (tmp_path / "closed").chmod(0)
    eventually(lambda: "Permission denied" in str(running.daemon.status()["last_error"]))
    # Another commit is still seen, and what is the matter is not forgotten over it.
    running.daemon.commit(running.files(1))
    status = running.daemon.status()
    assert status["last_error"] is None
    told = {f"{path}: what it held before is served: Permission denied" for path in named.values()}
    assert told <= set(status["warnings"]), status["warnings"]
    (tmp_path / "closed").chmod(0o755)
    running.daemon.commit({**running.files(0), "certificates.yaml": None})
    assert running.served_by() == 0


def test_what_fails_behind_the_commit_point_takes_nothing_back(
    running: Shop, tmp_path: Path
) -> None:
    """The contents of a certificate cannot be removed: it is told, and everything else happens."""
    pair = pki.make("shop.test")
    (tmp_path / "shop.crt").write_bytes(pair.chain)
    (tmp_path / "shop.key").write_bytes(pair.key)
    named = {"certificate": str(tmp_path / "shop.crt"), "private_key": str(tmp_path / "shop.key")}
    running.daemon.commit({"certificates.yaml": {"certificates": {"shop": named}}})
    kept = running.daemon.state_dir / "material"
    kept.chmod(0o500)
    try:
        applied = running.daemon.commit({"certificates.yaml": None, **running.files(1)})
        assert running.served_by() == 1
        status = running.daemon.status()
        assert (status["commit"], status["last_error"]) == (applied, None)
        entry = running.daemon.json("history")["entries"][0]
        assert (entry["commit"], entry["outcome"]) == (applied, "applied")
        assert running.repo.git("rev-parse", "refs/kakehi/applied") == applied
        assert "files that nobody needs any more are left over" in running.daemon.log()
    finally:
        kept.chmod(0o700)
    running.daemon.commit(running.files(0))
    assert running.served_by() == 0
