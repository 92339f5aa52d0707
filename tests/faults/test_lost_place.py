"""The state directory is deleted, replaced, full or read-only: F31.

While a daemon runs it is found, told and written anew; at a start there is a supervisor whatever
the directory is like, and what it cannot write it tells.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.harness import pki, processes
from tests.harness.load import OpenLoop
from tests.harness.site import Site

WAIT_S = 40


def files(site: Site, backend: str, more: int = 0) -> dict[str, Any]:
    hosts = {"main": "main", **{f"host{number}": "main" for number in range(more)}}
    return {"kakehi.yaml": site.document({"main": [backend]}, hosts)}


def certified(site: Site, backend: str) -> dict[str, Any]:
    """With a certificate, whose contents workers read in the state directory."""
    [document] = files(site, backend).values()
    pair = pki.make("kept.test")
    document["certificates"] = {"kept": {"certificate": "kept.pem", "private_key": "kept.key"}}
    return {"kakehi.yaml": document, "kept.pem": pair.chain, "kept.key": pair.key}


def warned(site: Site, text: str) -> bool:
    return any(text in each for each in site.daemon.ask("status")["warnings"])


# What becomes of it while a daemon runs


def deleted(directory: Path) -> None:
    shutil.rmtree(directory)


def moved_away(directory: Path) -> None:
    directory.rename(directory.with_name("elsewhere"))


def replaced_by_an_empty_one(directory: Path) -> None:
    moved_away(directory)
    directory.mkdir(mode=0o700)


def replaced_by_a_copy(directory: Path) -> None:
    moved_away(directory)
    shutil.copytree(directory.with_name("elsewhere"), directory)


def emptied(directory: Path) -> None:
    for path in directory.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


LOSSES = (deleted, moved_away, replaced_by_an_empty_one, replaced_by_a_copy, emptied)


def lost_while_running(loss: Callable[[Path], None], at_once: bool, site: Site) -> None:
    site.start(files(site, "red"))
    generation, _ = site.running()
    with OpenLoop(site.address, ["main.test"], site.directory / "load", rate=100, fresh=2) as load:
        loss(site.daemon.state_dir)
        if not at_once:
            processes.wait_until(lambda: warned(site, "was written anew"), "it is told", WAIT_S)
        site.commit(files(site, "blue"))
        assert "state directory" in site.daemon.log()
        digest = site.committed_digest()
        assert site.running() == (generation + 1, digest)
        with contextlib.closing(sqlite3.connect(site.daemon.state_dir / "state.db")) as database:
            kept = dict(database.execute("SELECT name, text FROM kept"))
        assert json.loads(kept["followed"])["ref"] == "refs/heads/main"
        assert (site.daemon.state_dir / "tickets").exists()
        load.wait_for(5)
        load.stop()
        assert load.failures == []
        assert load.closed == []
    starts_alone(site)
    assert site.everywhere("main.test") == {"blue"}


def kill(workers: dict[int, Any]) -> None:
    for pid in workers:
        os.kill(pid, 9)
    processes.await_end(workers)


def serving(site: Site) -> bool:
    return all(each["state"] == "running" for each in site.daemon.ask("status")["workers"])


def in_service(site: Site) -> None:
    processes.wait_until(partial(serving, site), "all workers are in service", WAIT_S)


# What it is like at a start


@contextmanager
def read_only(site: Site) -> Iterator[Callable[[], None]]:
    """Yields what makes it writable again."""
    directory = site.daemon.state_dir
    mount("--bind", str(directory), str(directory))
    try:
        mount("-o", "remount,ro,bind", str(directory), str(directory))
        yield partial(mount, "-o", "remount,rw,bind", str(directory), str(directory))
    finally:
        unmount(directory)


@contextmanager
def full(site: Site) -> Iterator[Callable[[], None]]:
    """Yields what makes room."""
    directory = site.daemon.state_dir
    kept = directory.with_name("kept")
    shutil.copytree(directory, kept)
    mount("-t", "tmpfs", "-o", "size=2m", "tmpfs", str(directory))
    filler = directory / "filler"
    try:
        shutil.copytree(kept, directory, dirs_exist_ok=True)
        with filler.open("wb", buffering=0) as opened, contextlib.suppress(OSError):
            while True:
                opened.write(bytes(4096))
        yield filler.unlink
    finally:
        unmount(directory)


def unmount(directory: Path) -> None:
    subprocess.run(["umount", "--lazy", str(directory)], check=True)


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def unwritable_at_the_start(how: Any, stopped: bool, site: Site) -> None:
    """What was recorded is served, with workers or without; it is told, and mended by itself."""
    site.start(files(site, "red"))
    generation, digest = site.running()
    workers = site.identity()
    site.daemon.leave()
    if stopped:
        kill(workers)
    with how(site) as mend:
        site.daemon.return_(wait=False, **site.daemon.extra)
        in_service(site)
        assert site.running() == (generation, digest)
        assert site.everywhere("main.test") == {"red"}
        assert warned(site, "cannot be written")
        if not stopped:
            assert site.identity() == workers
        # More than what is left of the last block of a file.
        sha = site.repo.commit(files(site, "blue", more=50), "the change")
        processes.wait_until(lambda: site.daemon.ask("status")["last_error"], "it is told", WAIT_S)
        error = site.daemon.ask("status")["last_error"]
        assert (error["commit"], error["stage"]) == (sha, "journal")
        assert site.running() == (generation, digest)
        drained = site.daemon.ask("drain", backend="main/b0", owner="somebody", ttl_s=3600.0)
        assert "cannot be written" in drained["not_kept"]
        mend()
        site.wait(sha)
        assert not warned(site, "cannot be written")
        assert site.daemon.ask("undrain", backend="main/b0")["not_kept"] is None
        assert site.running() == (generation + 1, site.committed_digest())
        starts_alone(site)


def unwritable_at_the_first_start(how: Any, site: Site) -> None:
    """Nothing is recorded, and still served; the record is made when it can be."""
    site.daemon.state_dir.mkdir(parents=True)
    with how(site) as mend:
        site.start(certified(site, "red"), **site.daemon.extra)
        assert site.everywhere("main.test") == {"red"}
        assert warned(site, "cannot be written")
        # A successor reads them as well.
        first = next(iter(site.identity()))
        os.kill(first, signal.SIGKILL)
        processes.wait_until(
            lambda: first not in site.worker_pids() and serving(site), "it has one", WAIT_S
        )
        mend()
        processes.wait_until(lambda: not warned(site, "cannot be written"), "it is written", WAIT_S)
        starts_alone(site)


def starts_alone(site: Site) -> None:
    """All that a start needs is there, without a worker or a repository that could tell it."""
    running, workers = site.running(), site.identity()
    site.daemon.leave()
    kill(workers)
    away = site.repo.directory.with_name("away")
    site.repo.directory.rename(away)
    try:
        site.daemon.return_(wait=False)
        in_service(site)
        assert site.running() == running
    finally:
        away.rename(site.repo.directory)


def contents_lost(restarted: bool, site: Site) -> None:
    """Those files alone: who serves has read them, and would ask for them when one ends."""
    document, outside = with_a_file_outside(site)
    site.start({"kakehi.yaml": document})
    in_service(site)
    pem = hashlib.sha256(outside["pem"].read_bytes()).hexdigest()
    outside["pem"].unlink()
    material = site.daemon.state_dir / "material"
    whole = {path.name: path.read_bytes() for path in material.iterdir()}
    if restarted:
        site.daemon.leave()
    for path in material.iterdir():
        path.unlink()
    if restarted:
        site.daemon.return_()
        in_service(site)
        processes.wait_until(
            lambda: warned(site, f"{outside['pem']} is nowhere else any more"), "it is told", WAIT_S
        )
        assert set(os.listdir(material)) == set(whole) - {pem}
        return
    processes.wait_until(
        lambda: {path.name: path.read_bytes() for path in material.iterdir()} == whole,
        "they are back",
        WAIT_S,
    )
    assert not warned(site, "nowhere else any more")
    [first, *_] = site.worker_pids()
    kill({first: None})
    processes.wait_until(
        lambda: first not in site.worker_pids() and serving(site), "it is replaced", WAIT_S
    )


def with_a_file_outside(site: Site) -> tuple[dict[str, Any], dict[str, Path]]:
    """A certificate by absolute paths."""
    document = site.document({"main": ["red"]}, {"main": "main"})
    outside = {part: site.directory / f"kept.{part}" for part in ("pem", "key")}
    pair = pki.make("kept.test")
    outside["pem"].write_bytes(pair.chain)
    outside["key"].write_bytes(pair.key)
    document["certificates"] = {
        "kept": {"certificate": str(outside["pem"]), "private_key": str(outside["key"])}
    }
    return document, outside


def lost_with_what_is_served_alone(restarted: bool, site: Site) -> None:
    """The file of a certificate is another one by now: its content lies there, and nowhere else."""
    document, outside = with_a_file_outside(site)
    site.start({"kakehi.yaml": document})
    if restarted:
        site.daemon.leave()
        site.daemon.return_()
        in_service(site)
        # It is copied behind ready, by nobody's asking.
        time.sleep(1.5)
    outside["pem"].unlink()
    outside["key"].write_bytes(b"no key")
    deleted(site.daemon.state_dir)
    processes.wait_until(lambda: warned(site, "was written anew"), "it is told", WAIT_S)
    assert not warned(site, "nowhere else any more")
    [first, *_] = site.worker_pids()
    kill({first: None})
    processes.wait_until(
        lambda: first not in site.worker_pids() and serving(site), "it is replaced", WAIT_S
    )
    assert site.everywhere("main.test") == {"red"}


CASES: dict[str, Callable[[Site], None]] = {
    **{
        f"contents alone lost {when}": partial(contents_lost, restarted)
        for when, restarted in (("while it runs", False), ("between two runs", True))
    },
    **{
        f"{loss.__name__} and {'a commit' if at_once else 'a look'}": partial(
            lost_while_running, loss, at_once
        )
        for loss in LOSSES
        for at_once in (False, True)
    },
    **{
        f"deleted with what is served alone{', after a restart' if restarted else ''}": partial(
            lost_with_what_is_served_alone, restarted
        )
        for restarted in (False, True)
    },
    **{
        f"{how.__name__} at a start {'without' if stopped else 'with'} workers": partial(
            unwritable_at_the_start, how, stopped
        )
        for how in (read_only, full)
        for stopped in (False, True)
    },
    **{
        f"{how.__name__} at the first start": partial(unwritable_at_the_first_start, how)
        for how in (read_only, full)
    },
}
MOUNTING = ("read_only", "full")


@pytest.mark.parametrize("case", CASES)
def test_service_goes_on_when_it_is(outcome: Callable[[str], None], case: str) -> None:
    if case.startswith(MOUNTING) and os.geteuid() != 0:
        pytest.skip("only root can mount a directory that is full or read-only")
    outcome(case)
