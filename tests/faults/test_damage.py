"""Every file of the state directory, damaged while nothing runs: a bit, an end, all of it.

Whatever it is: the next start tells of it, serves the newest commit, over TLS too, and takes the
next one. With the workers gone as well, so that the directory and the repository are all there is.
"""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.harness import processes
from tests.harness.tlssite import TlsSite

# Nothing is read from them: a lock is a name, challenges end with their daemon, an index of the log
# is made anew, and the log has every page of so small a database.
NOTHING_IN_IT = {"lock", "challenges", "state.db", "state.db-shm"}


def a_bit_in_the_middle(content: bytes) -> bytes:
    place = len(content) // 2
    return content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :]


def the_second_half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def all_of_it(_: bytes) -> bytes:
    return b""


def for_noise(content: bytes) -> bytes:
    return os.urandom(len(content))


def for_a_directory(_: bytes) -> Callable[[Path], object]:
    return Path.mkdir


def for_a_pipe(_: bytes) -> Callable[[Path], object]:
    """Who opens it to read waits for somebody to write."""
    return os.mkfifo


def for_what_has_no_end(_: bytes) -> Callable[[Path], object]:
    return lambda path: path.symlink_to("/dev/zero")


Damage = Callable[[bytes], bytes | Callable[[Path], object]]
DAMAGES: tuple[Damage, ...] = (
    a_bit_in_the_middle,
    the_second_half,
    all_of_it,
    for_noise,
    for_a_directory,
    for_a_pipe,
    for_what_has_no_end,
)


def end(site: TlsSite) -> None:
    workers = site.worker_pids()
    site.daemon.leave(signal.SIGKILL)
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    processes.await_end(workers)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda each: each.__name__)
def test_a_damaged_file_is_told_and_survived(tmp_path: Path, damage: Damage) -> None:
    with TlsSite(tmp_path) as site:
        pair = site.leaf("www.test")
        spare = {"spare": ["blue"]}
        site.start(site.files({"www": pair}, clusters={"main": ["red"], **spare}))
        site.daemon.ask("drain", backend="spare/b0", owner="somebody", ttl_s=3600.0)
        names = sorted(
            str(path.relative_to(site.daemon.state_dir))
            for path in site.daemon.state_dir.rglob("*")
            if path.is_file()
        )
        untold = []
        for number, name in enumerate(names):
            end(site)
            path = site.daemon.state_dir / name
            content = damage(path.read_bytes()) if path.exists() and path.stat().st_size else b""
            path.unlink(missing_ok=True)
            if isinstance(content, bytes):
                path.write_bytes(content)
            else:
                content(path)
            said = len(site.daemon.log())
            site.daemon.return_()
            print(name, site.daemon.log()[said:])
            assert "Traceback" not in site.daemon.log()[said:], name
            if " warning " not in site.daemon.log()[said:]:
                untold.append(name)
            color = ("blue", "red")[number % 2]
            site.commit(site.files({"www": pair}, clusters={"main": [color], **spare}))
            assert site.everywhere("www.test") == {color}, name
            with site.connect() as client:
                assert client.get("www.test").body.decode() == color
        assert set(untold) <= NOTHING_IN_IT


@pytest.mark.parametrize("name", ["material", "anew"])
def test_a_file_in_the_place_of_a_directory_is_set_aside(tmp_path: Path, name: str) -> None:
    with TlsSite(tmp_path) as site:
        pair = site.leaf("www.test")
        site.start(site.files({"www": pair}, clusters={"main": ["red"]}))
        shutil.rmtree(site.daemon.state_dir / name, ignore_errors=True)
        (site.daemon.state_dir / name).write_text("no directory")
        victim = site.worker_pids()[0]
        os.kill(victim, signal.SIGKILL)
        processes.wait_until(
            lambda: victim not in site.worker_pids() and len(site.worker_pids()) == 2,
            "the worker is replaced",
        )
        alter_a_backend(site)
        end(site)
        site.daemon.return_()
        site.commit(site.files({"www": pair}, clusters={"main": ["blue"]}))
        assert site.everywhere("www.test") == {"blue"}
        with site.connect() as client:
            assert client.get("www.test").body.decode() == "blue"
        assert "Traceback" not in site.daemon.log()


def test_a_damaged_entity_is_mended_when_a_worker_needs_it(tmp_path: Path) -> None:
    """Nobody waits for the audit of all rows, which comes minutes later."""
    with TlsSite(tmp_path) as site:
        pair = site.leaf("www.test")
        site.start(site.files({"www": pair}, clusters={"main": ["red"]}))
        end(site)
        with closing(sqlite3.connect(site.daemon.state_dir / "state.db")) as connection:
            connection.execute(
                "UPDATE entities SET value = replace(value, '127.0.0.1', '127.0.0.9')"
                " WHERE kind = 'backend'"
            )
            connection.commit()
        site.daemon.return_()
        processes.wait_until(
            lambda: "is written anew from the commit that runs" in site.daemon.log(), "it is told"
        )
        assert site.everywhere("www.test") == {"red"}


def test_where_an_entity_is_written_is_mended_when_a_commit_needs_it(tmp_path: Path) -> None:
    """One flipped bit, by which an ordinary edit would define it a second time."""
    with TlsSite(tmp_path) as site:
        pair = site.leaf("www.test")
        site.start(site.files({"www": pair}, clusters={"main": ["red"]}))
        digest = site.running()[1]
        end(site)
        with closing(sqlite3.connect(site.daemon.state_dir / "state.db")) as connection:
            connection.execute(
                "UPDATE entities SET file = 'j' || substr(file, 2) WHERE kind = 'backend'"
            )
            connection.commit()
        site.daemon.return_()
        assert site.running()[1] == digest
        site.commit(site.files({"www": pair}, clusters={"main": ["blue"]}))
        assert site.everywhere("www.test") == {"blue"}
        assert "is written anew from the commit that runs" in site.daemon.log()
        [shown] = site.daemon.json("show", "backend/main/b0")["entities"]
        assert shown["source"]["file"] == "kakehi.yaml"


def with_files_outside(site: TlsSite, directory: Path) -> Path:
    """Serve a certificate that lies outside of the repository; return its file."""
    pair = site.leaf("www.test")
    files = site.files({"www": pair}, clusters={"main": ["red"]})
    outside = {"certificate": directory / "www.crt", "private_key": directory / "www.key"}
    outside["certificate"].write_bytes(pair.chain)
    outside["private_key"].write_bytes(pair.key)
    files["kakehi.yaml"]["certificates"]["www"] = {k: str(v) for k, v in outside.items()}  # type: ignore[index,call-overload]
    site.start(files)
    return outside["certificate"]


def alter_a_backend(site: TlsSite) -> None:
    with closing(sqlite3.connect(site.daemon.state_dir / "state.db")) as connection:
        connection.execute(
            "UPDATE entities SET value = replace(value, '127.0.0.1', '127.0.0.9')"
            " WHERE kind = 'backend'"
        )
        connection.commit()


def test_what_the_repository_gives_no_more_is_read_back_from_a_worker(tmp_path: Path) -> None:
    """A file outside was lost: the commit that runs is not valid now, and serves all the same."""
    with TlsSite(tmp_path) as site:
        certificate = with_files_outside(site, tmp_path)
        digest = site.running()[1]
        certificate.unlink()
        alter_a_backend(site)
        victim = site.worker_pids()[0]
        os.kill(victim, signal.SIGKILL)
        processes.wait_until(
            lambda: "is written anew from a worker" in site.daemon.log(), "it is told"
        )
        processes.wait_until(
            lambda: all(
                each["state"] == "running" and each["pid"] != victim
                for each in site.daemon.ask("status")["workers"]
            ),
            "it is replaced",
        )
        assert site.running()[1] == digest
        assert site.everywhere("www.test") == {"red"}
        assert "Traceback" not in site.daemon.log()
        # It is known where things are written: the next commit is a difference.
        assert site.daemon.run_cli("show", "backend/main/b0").stdout.startswith("backend")
        certificate.write_bytes(site.leaf("www.test").chain)
        files = site.files({"www": site.leaf("www.test")}, clusters={"main": ["blue"]})
        site.commit(files)
        assert site.everywhere("www.test") == {"blue"}


def test_where_nobody_serves_what_the_commit_gives_now_is_served(tmp_path: Path) -> None:
    with TlsSite(tmp_path) as site:
        certificate = with_files_outside(site, tmp_path)
        generation = site.running()[0]
        end(site)
        pair = site.leaf("www.test")
        certificate.write_bytes(pair.chain)
        certificate.with_name("www.key").write_bytes(pair.key)
        alter_a_backend(site)
        site.daemon.return_()
        processes.wait_until(
            lambda: "from what the commit that runs gives now" in site.daemon.log(), "it is told"
        )
        assert site.everywhere("www.test") == {"red"}
        assert site.shown() == pair.der
        assert site.running()[0] > generation
        assert "Traceback" not in site.daemon.log()


def test_contents_that_were_taken_away_are_back_for_a_worker_that_needs_them(
    tmp_path: Path,
) -> None:
    with TlsSite(tmp_path) as site:
        pair = site.leaf("www.test")
        site.start(site.files({"www": pair}, clusters={"main": ["red"]}))
        shutil.rmtree(site.daemon.state_dir / "material")
        before = site.worker_pids()
        os.kill(before[0], signal.SIGKILL)
        processes.wait_until(
            lambda: (
                not set(before[:1]) & set(site.worker_pids())
                and len(site.worker_pids()) == len(before)
            ),
            "it is replaced",
        )
        assert site.everywhere("www.test") == {"red"}
        assert "are back" in site.daemon.log()
