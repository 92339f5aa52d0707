"""A plan ends with what the daemon itself would say: never "no changes" where a check fails."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from reconciler.planning.guards import FRONTENDS_MIN
from tests.harness import pki, ports, processes
from tests.reconciler.live import Shop, shop
from tests.reconciler.test_renewal import put


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A shop that all tests share; each ends with the working tree and the state that it found."""
    with shop(tmp_path_factory.mktemp("verdict"), workers=1) as made:
        yield made


def planned(running: Shop, *arguments: str) -> CompletedProcess[str]:
    return running.daemon.run_cli("plan", *arguments)


def validated(running: Shop) -> int:
    return running.daemon.run_cli("validate", str(running.repo.directory)).returncode


@pytest.fixture(autouse=True)
def clean(running: Shop) -> Iterator[None]:
    yield
    running.repo.git("reset", "--quiet", "--hard")
    running.repo.git("clean", "--quiet", "-fd")
    running.daemon.wait(running.repo.head())


def test_a_plan_beside_a_stream_of_commits(running: Shop, tmp_path: Path) -> None:
    """Each is of one moment, and none gives up because another commit went through."""
    ended, head = threading.Event(), running.repo.head()
    edited = tmp_path / "edited"
    running.repo.git("worktree", "add", "-q", "--detach", str(edited))

    def commit_on() -> None:
        number = 0
        while not ended.is_set():
            number += 1
            running.daemon.wait(running.repo.commit(running.files(number % 2)))
            processes.pause(0.1)

    with ThreadPoolExecutor(1) as pool:
        committing = pool.submit(commit_on)
        try:
            done = [planned(running, *what) for what in [("--ref", head), (str(edited),)] * 5]
        finally:
            ended.set()
        committing.result(30)
    running.commit()
    assert {each.returncode for each in done} == {0}, done


@pytest.mark.parametrize("what", ["listener", "metrics"])
def test_a_port_that_somebody_else_has(running: Shop, what: str) -> None:
    with ports.listening() as holder:
        address = ports.of(holder)
        files = (
            {"more.yaml": {"listeners": {"more": {"address": address}}}}
            if what == "listener"
            else running.files(0, admin=address)
        )
        running.repo.write(files)
        done = planned(running)
        assert done.returncode == 6, done.stdout + done.stderr
        assert "The daemon would refuse this now: " in done.stderr
        assert f"cannot bind {address}: address already in use by " in done.stderr
        assert f"(process {os.getpid()})" in done.stderr
        assert "1 to add" in done.stdout or "1 to change" in done.stdout
        refusal = json.loads(planned(running, "--json").stdout)["refusal"]
        assert refusal["stage"] == "prepare"
        # A plan tries the address and takes it from nobody.
        with socket.create_connection(holder.getsockname()[:2], 5):
            pass
    free = planned(running)
    assert (free.returncode, "would refuse" in free.stderr) == (0, False)


def test_the_ports_of_the_proxy_itself_are_not_in_its_way(running: Shop) -> None:
    renamed = running.files()["listeners.yaml"]["listeners"]["public"]
    running.repo.write(
        {
            "listeners.yaml": {"listeners": {"renamed": renamed}},
            "shop.yaml": {
                "clusters": running.files()["shop.yaml"]["clusters"],
                "frontends": {"web": {"listeners": ["renamed"], "cluster": "shop"}},
            },
        }
    )
    done = planned(running)
    assert (done.returncode, "would refuse" in done.stderr) == (0, False), done.stderr


@pytest.mark.parametrize(
    "match",
    [
        {"path": {"regex": "(a{1000}){1000}"}},
        {"path": {"regex": "/\\d{400}"}},
        {"headers": {"x-a": {"regex": "(a{1000}){100}"}}},
        {"query": {"a": {"regex": "(a{1000}){100}"}}},
    ],
    ids=lambda match: next(iter(match)),
)
def test_an_expression_that_is_too_large_for_the_engine(
    running: Shop, match: dict[str, Any]
) -> None:
    large = {"listeners": ["public"], "hostname": "large.test", "cluster": "shop", **match}
    running.repo.write({"large.yaml": {"frontends": {"large": large}}})
    directory = str(running.repo.directory)
    # Without a daemon it is told as well.
    for line in (
        ("plan", directory),
        ("validate", directory),
        ("plan", directory, "--from", "HEAD"),
    ):
        done = running.daemon.run_cli(*line)
        assert done.returncode == 3, line
        assert "large.yaml:" in done.stderr
        assert "regex: " in done.stderr
        assert "is too large: compiled it takes more than 1 MiB" in done.stderr
    sha = running.repo.commit({}, "the daemon says the same")
    assert running.daemon.run_cli("wait", "--commit", sha).returncode == 6
    running.repo.git("reset", "--quiet", "--hard", "HEAD~1")


def warned(told: str) -> list[str]:
    return sorted(line for line in told.splitlines() if ": warning: " in line)


def test_warnings_are_those_of_validate(running: Shop) -> None:
    """Also of what does not change: whoever plans reads all that is to be said of a site."""
    spare = {"clusters": {"spare": {"backends": {"b": {"address": "127.0.0.1:9"}}}}}
    head = running.repo.head()
    running.daemon.commit({"spare.yaml": spare, "old.YAML": "a: 1"})
    try:
        validated = running.daemon.run_cli("validate", str(running.repo.directory))
        said = warned(validated.stderr)
        assert len(said) == 2, validated.stderr
        for line in ((), ("--ref", "HEAD")):
            done = planned(running, *line)
            assert done.returncode == 0
            assert "no changes" in done.stdout.lower()
            assert warned(done.stderr) == said
        running.repo.write(running.files(1))
        done = planned(running)
        assert warned(done.stderr) == said
        assert "spare" not in done.stdout
        found = running.daemon.json("plan", "--ref", "HEAD")
        assert len(found["warnings"]) == 2
    finally:
        running.repo.git("reset", "--quiet", "--hard", head)
        running.daemon.wait(head)


@pytest.mark.parametrize("what", ["listener", "metrics"])
def test_an_address_of_another_machine_on_a_port_of_ours(running: Shop, what: str) -> None:
    admin = ports.address()
    head = running.commit(admin=admin)
    ours = running.listener if what == "listener" else admin
    elsewhere = f"192.0.2.1:{ours.rpartition(':')[2]}"
    files = running.files(admin=admin)
    if what == "listener":
        files["listeners.yaml"]["listeners"]["public"]["address"] = elsewhere
    else:
        files = running.files(0, admin=elsewhere)
    running.repo.write(files)
    done = planned(running)
    assert done.returncode == 6, done.stdout + done.stderr
    told = f"cannot bind {elsewhere}: this machine does not have that address"
    assert told in done.stderr
    refused = running.repo.commit({}, "the daemon says the same")
    # It is tried again: the machine may be given it.
    waited = running.daemon.run_cli("wait", "--commit", refused, "--timeout", "1s")
    assert (waited.returncode, told in waited.stderr) == (6, True), waited.stderr
    running.repo.git("reset", "--quiet", "--hard", head)
    running.commit()


@pytest.mark.parametrize(
    "kind", ["no directory", "a directory", "no place for files", "an unread pipe"]
)
def test_an_access_log_that_cannot_be_opened(running: Shop, tmp_path: Path, kind: str) -> None:
    path = {
        "no directory": tmp_path / "gone" / "access.log",
        "a directory": tmp_path,
        "no place for files": Path("/proc/access.log"),
        "an unread pipe": tmp_path / "pipe",
    }[kind]
    os.mkfifo(tmp_path / "pipe")
    running.repo.write(running.files(0, access_log=str(path)))
    done = planned(running)
    assert done.returncode == 6, done.stdout + done.stderr
    assert f"cannot open the access log {path}: " in done.stderr
    running.repo.write(running.files(0, access_log=str(tmp_path / "access.log")))
    assert planned(running).returncode == 0
    assert not (tmp_path / "access.log").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_an_access_log_where_no_file_is_without_a_name(running: Shop, tmp_path: Path) -> None:
    """Message queues are such a file system; nothing is left of what was tried."""
    place = tmp_path / "queues"
    place.mkdir()
    subprocess.run(["mount", "-t", "mqueue", "mqueue", place], check=True)
    try:
        with pytest.raises(OSError, match="not supported"):
            os.open(place, os.O_TMPFILE | os.O_WRONLY)
        before = os.listdir(place)
        running.repo.write(running.files(0, access_log=str(place / "access.log")))
        done = planned(running)
        assert done.returncode == 0, done.stderr
        assert os.listdir(place) == before
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def test_a_guard(running: Shop) -> None:
    frontends = {
        f"f{number}": {"listeners": ["public"], "hostname": f"h{number}.test", "cluster": "shop"}
        for number in range(FRONTENDS_MIN)
    }
    running.daemon.commit({"many.yaml": {"frontends": frontends}})
    running.repo.write({"many.yaml": None, "shop.yaml": {"clusters": {"shop": {}}}})
    done = planned(running)
    assert done.returncode == 4
    assert "Kakehi-Allow: remove-frontends=" in done.stderr
    running.repo.git("checkout", "--quiet", "-b", "emptied")
    emptied = running.repo.commit()
    running.repo.git("checkout", "--quiet", "main")
    assert planned(running, "--ref", emptied).returncode == 4
    running.repo.git("checkout", "--quiet", "emptied")
    running.repo.git("commit", "-q", "--amend", "-m", "x\n\nKakehi-Allow: remove-frontends=11")
    allowed = running.repo.head()
    running.repo.git("checkout", "--quiet", "main")
    assert planned(running, "--ref", allowed).returncode == 0


def test_an_empty_configuration(running: Shop) -> None:
    running.repo.write(dict.fromkeys(running.repo.git("ls-files").splitlines()))
    running.repo.write({"README": "nothing"})
    assert validated(running) == 3
    done = planned(running)
    assert (done.returncode, "there is no configuration" in done.stderr) == (3, True), done.stderr
    running.repo.git("checkout", "--quiet", "-b", "nothing")
    nothing = running.repo.commit()
    running.repo.git("checkout", "--quiet", "main")
    done = planned(running, "--ref", nothing)
    assert (done.returncode, "no configuration" in done.stderr) == (3, True), done.stderr


def test_files_of_the_machine_that_do_not_fit_any_more(running: Shop, tmp_path: Path) -> None:
    """Nothing is edited, and still a commit of it would be refused."""
    named = put(tmp_path / "keys", "shop", pki.make("shop.test"))
    running.daemon.commit({"certificates.yaml": {"certificates": {"shop": named}}})
    assert "No changes" in planned(running).stdout
    Path(named["certificate"]).write_bytes(b"broken")
    assert validated(running) == 3
    done = planned(running)
    assert done.returncode == 3
    assert "No changes" not in done.stdout
    assert "no PEM certificate" in done.stderr
    running.daemon.commit({"certificates.yaml": None})
