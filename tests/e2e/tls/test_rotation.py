"""Rotation under load, from every place that a certificate may lie at (D06)."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.harness import pki, processes, tls
from tests.harness.pki import Pair
from tests.harness.repo import Content
from tests.harness.site import WAIT_S
from tests.harness.tlssite import TlsSite, pem_files
from tests.harness.tlsstorm import Storm

LONG = bool(os.environ.get("KAKEHI_TEST_LONG"))
ROTATIONS, TIMEOUT_S = (1000, 1800) if LONG else (100, 300)
# Every so many rotations each worker is asked by itself.
_EACH_WORKER = 10
_RESIDENT_GROWTH_MAX_MIB = 8
# The reconciler looks at files at least once a second; two looks have passed after this.
_LOOKS_S = 2.5
_LOOKED_S = 15.0


@pytest.mark.timeout(TIMEOUT_S)
def test_rotations_under_a_storm_fail_no_handshake_and_close_no_connection(
    site: TlsSite, tmp_path: Path
) -> None:
    pair = site.leaf("www.test")
    site.start(site.files({"shop": pair}))
    identity = site.identity()
    generation, _ = site.running()
    authority = tls.written(tmp_path, "ca.pem", site.authority.pem)
    committed = [pair]
    resident: list[int] = []
    with Storm(site.https, authority, tmp_path, name="www.test") as storm:
        for number in range(ROTATIONS):
            pair = site.leaf("www.test", kind="rsa" if number % 20 == 7 else "ecdsa")
            committed.append(pair)
            site.commit(pem_files({"shop": pair}), f"rotation {number}")
            # The commit is on every worker: nobody can be shown the one of before.
            shown = site.shown_by_all() if number % _EACH_WORKER == 0 else {site.shown()}
            assert shown == {pair.der}, f"after rotation {number}"
            if number == ROTATIONS // 5:
                resident = [processes.resident_mib(pid) for pid in identity]
        found = storm.stop()
    assert found["faults"] == []
    assert found["handshakes"] > ROTATIONS
    assert found["requests"] > found["handshakes"]
    assert set(found["certificates"]) <= set(tls.fingerprints(committed))
    assert len(found["certificates"]) > ROTATIONS // 4, "the storm has hardly seen the rotations"
    assert site.running() == (generation + ROTATIONS, site.digest_of())
    assert site.identity() == identity
    assert [worker["restarts"] for worker in site.daemon.ask("status")["workers"]] == [0, 0]
    # What was rotated away leaves nothing: neither in memory nor on disk.
    for pid, before in zip(identity, resident, strict=True):
        assert processes.resident_mib(pid) - before < _RESIDENT_GROWTH_MAX_MIB
    assert len(os.listdir(site.daemon.state_dir / "material")) == 2


# Files of the machine


class Machine:
    """A certificate at an absolute path, and the ways in which programs write a new one."""

    def __init__(self, site: TlsSite, directory: Path) -> None:
        self.site = site
        self.directory = directory
        directory.mkdir()
        self.crt, self.key = directory / "fullchain.pem", directory / "privkey.pem"

    def start(self, pair: Pair) -> None:
        self.crt.write_bytes(pair.chain)
        self.key.write_bytes(pair.key)
        self.site.begin(self.files())
        processes.pause(_LOOKS_S)

    def files(self) -> dict[str, Content]:
        files = self.site.files({})
        document = files["kakehi.yaml"]
        assert isinstance(document, dict)
        document["certificates"] = {
            "shop": {"certificate": str(self.crt), "private_key": str(self.key)}
        }
        return files

    def replace(self, pair: Pair) -> None:
        """By rename, the key first; in between they do not fit."""
        for path, content in ((self.key, pair.key), (self.crt, pair.chain)):
            new = path.with_suffix(".new")
            new.write_bytes(content)
            new.rename(path)

    def overwrite(self, pair: Pair) -> None:
        """In place: a reader may see half of it."""
        self.crt.write_bytes(pair.chain)
        self.key.write_bytes(pair.key)

    def serves(self, pair: Pair) -> None:
        """Wait until new handshakes show it, on every worker."""
        processes.wait_until(
            lambda: self.site.shown() == pair.der, "the new certificate serves", _LOOKED_S
        )
        processes.wait_until(
            lambda: self.site.shown_by_all() == {pair.der}, "on every worker", _LOOKED_S
        )


@pytest.fixture
def machine(shared: TlsSite, tmp_path: Path) -> Machine:
    return Machine(shared, tmp_path / "machine")


@pytest.mark.parametrize("way", [Machine.replace, Machine.overwrite])
def test_a_renewed_file_of_the_machine_is_picked_up(
    shared: TlsSite, machine: Machine, way: object
) -> None:
    assert callable(way)
    machine.start(shared.leaf("www.test"))
    identity = shared.identity()
    kept = shared.per_worker()
    for _ in range(3):
        pair = shared.leaf("www.test")
        way(machine, pair)
        machine.serves(pair)
    for connection in kept.values():
        assert connection.get("www.test").body == b"red"
    assert shared.identity() == identity
    assert shared.daemon.ask("status")["last_error"] is None


def test_a_symbolic_link_that_is_moved_is_picked_up(shared: TlsSite, tmp_path: Path) -> None:
    """What certbot does: live/…/fullchain.pem is a link into archive/."""
    archive, live = tmp_path / "archive", tmp_path / "live"
    archive.mkdir()
    machine = Machine(shared, live)

    def renew(number: int, pair: Pair) -> None:
        for name, link, content in (
            ("privkey", machine.key, pair.key),
            ("fullchain", machine.crt, pair.chain),
        ):
            (archive / f"{name}{number}.pem").write_bytes(content)
            new = live / "new"
            new.symlink_to(Path("..", "archive", f"{name}{number}.pem"))
            new.rename(link)

    renew(1, first := shared.leaf("www.test"))
    shared.begin(machine.files())
    processes.pause(_LOOKS_S)
    assert shared.shown() == first.der
    for number in range(2, 5):
        pair = shared.leaf("www.test")
        renew(number, pair)
        machine.serves(pair)


def test_a_directory_that_is_swapped_is_picked_up(shared: TlsSite, tmp_path: Path) -> None:
    """What Kubernetes does: the files are links through `..data`, which is renamed over."""
    volume = tmp_path / "volume"
    machine = Machine(shared, volume)

    def renew(number: int, pair: Pair) -> None:
        version = volume / f"..{number}"
        version.mkdir()
        (version / "fullchain.pem").write_bytes(pair.chain)
        (version / "privkey.pem").write_bytes(pair.key)
        new = volume / "..new"
        new.symlink_to(version.name)
        new.rename(volume / "..data")

    renew(1, first := shared.leaf("www.test"))
    for path in (machine.crt, machine.key):
        path.symlink_to(Path("..data", path.name))
    shared.begin(machine.files())
    processes.pause(_LOOKS_S)
    assert shared.shown() == first.der
    for number in range(2, 5):
        pair = shared.leaf("www.test")
        renew(number, pair)
        machine.serves(pair)


def test_a_broken_file_of_the_machine_is_told_and_overcome(
    shared: TlsSite, machine: Machine
) -> None:
    old = shared.leaf("www.test")
    machine.start(old)
    running = shared.running()
    machine.key.write_bytes(shared.leaf("www.test").key)
    processes.wait_until(lambda: shared.daemon.ask("status")["last_error"], "status tells it")
    error = shared.daemon.ask("status")["last_error"]
    assert "not that of" in error["message"], error
    assert (error["file"], bool(error["line"])) == ("kakehi.yaml", True)
    assert shared.running() == running
    assert shared.shown_by_all() == {old.der}
    machine.overwrite(new := shared.leaf("www.test"))
    machine.serves(new)
    processes.wait_until(lambda: not shared.daemon.ask("status")["last_error"], "all is well")


def test_a_vanished_file_of_the_machine_leaves_the_old_one_in_service(
    shared: TlsSite, machine: Machine
) -> None:
    old = shared.leaf("www.test")
    machine.start(old)
    machine.crt.unlink()
    processes.wait_until(lambda: shared.daemon.ask("status")["last_error"], "status tells it")
    assert str(machine.crt) in shared.daemon.ask("status")["last_error"]["message"]
    assert shared.shown_by_all() == {old.der}
    machine.overwrite(new := shared.leaf("www.test"))
    machine.serves(new)


def test_a_renewal_right_behind_the_commit_is_not_lost(shared: TlsSite, machine: Machine) -> None:
    """No look has seen the file between the one that read it and the renewal."""
    old, new = shared.leaf("www.test"), shared.leaf("www.test")
    machine.overwrite(old)
    shared.begin(machine.files())
    machine.replace(new)
    machine.serves(new)


def test_a_renewal_while_no_daemon_runs_is_found_at_its_start(
    shared: TlsSite, machine: Machine
) -> None:
    machine.start(shared.leaf("www.test"))
    shared.daemon.leave(signal.SIGKILL)
    machine.replace(new := shared.leaf("www.test"))
    shared.daemon.return_()
    machine.serves(new)


def test_a_renewal_that_comes_with_a_commit_is_not_lost(shared: TlsSite, machine: Machine) -> None:
    """One look finds both: the commit does not touch the certificate's entity."""
    machine.start(shared.leaf("www.test"))
    for number in range(3):
        new = shared.leaf("www.test")
        # Stopped, the daemon finds both at once when it goes on.
        processes.stop(shared.daemon.pid)
        machine.replace(new)
        sha = shared.repo.commit({"more.yaml": {"clusters": {f"more-{number}": {}}}})
        processes.resume(shared.daemon.pid)
        shared.wait(sha)
        machine.serves(new)


def test_a_renewal_behind_a_refused_commit_serves(shared: TlsSite, machine: Machine) -> None:
    """Somebody's typo in the repository must not let certificates expire."""
    machine.start(shared.leaf("www.test"))
    bad = shared.repo.commit({"more.yaml": "clusters: 7\n"}, "bad")
    assert shared.daemon.outcome(bad) == "refused"
    machine.replace(new := shared.leaf("www.test"))
    machine.serves(new)


def test_a_renewal_behind_a_refused_commit_serves_after_the_next_good_one(
    shared: TlsSite, machine: Machine
) -> None:
    machine.start(shared.leaf("www.test"))
    bad = shared.repo.commit({"more.yaml": "clusters: 7\n"}, "bad")
    assert shared.daemon.outcome(bad) == "refused"
    machine.replace(new := shared.leaf("www.test"))
    # Looks pass, in which the file is seen and the commit refused still.
    processes.pause(_LOOKS_S)
    shared.commit({"more.yaml": None}, "mended")
    machine.serves(new)


def test_a_renewal_while_the_repository_is_away_serves(shared: TlsSite, machine: Machine) -> None:
    machine.start(shared.leaf("www.test"))
    elsewhere = shared.repo.directory.with_name("elsewhere")
    shutil.move(shared.repo.directory, elsewhere)
    try:
        machine.replace(new := shared.leaf("www.test"))
        processes.pause(_LOOKS_S)
    finally:
        shutil.move(elsewhere, shared.repo.directory)
    machine.serves(new)


# Whoever dies


def test_a_killed_workers_successor_has_the_certificates(site: TlsSite) -> None:
    pairs = {"www": site.leaf("www.test"), "other": site.leaf("other.test", kind="rsa")}
    site.start(site.files(pairs))
    pairs["www"] = site.leaf("www.test")
    site.commit(pem_files(pairs))
    for _ in range(2):
        victim, other = site.worker_pids()
        kept = site.per_worker()
        os.kill(victim, signal.SIGKILL)
        processes.wait_until(
            lambda old=victim: (
                old not in site.worker_pids()
                and {slot["state"] for slot in site.daemon.ask("status")["workers"]} == {"running"}
            ),
            "the successor is in service",
        )
        assert site.shown_by_all() == {pairs["www"].der}
        assert site.shown_by_all("other.test") == {pairs["other"].der}
        assert kept[other].get("www.test").body == b"red"
        # And it takes part in the next rotation.
        pairs["www"] = site.leaf("www.test")
        site.commit(pem_files(pairs))
        assert site.shown_by_all() == {pairs["www"].der}


def test_everything_killed_and_the_repository_gone_tls_serves_again(site: TlsSite) -> None:
    site.start(site.files({"shop": site.leaf("www.test")}))
    pair = site.leaf("www.test")
    site.commit(pem_files({"shop": pair}))
    running = site.running()
    elsewhere = site.return_without_repository()
    assert site.running() == running
    assert site.shown_by_all() == {pair.der}
    with site.connect() as connection:
        assert connection.get("www.test").body == b"red"
    shutil.move(elsewhere, site.repo.directory)
    new = site.leaf("www.test")
    site.commit(pem_files({"shop": new}))
    assert site.shown_by_all() == {new.der}


def test_a_daemon_that_comes_again_adopts_workers_and_rotates(site: TlsSite) -> None:
    pair = site.leaf("www.test")
    site.start(site.files({"shop": pair}))
    identity = site.identity()
    kept = site.per_worker()
    site.daemon.leave(signal.SIGKILL)
    # Nobody is in control, and handshakes go on.
    assert site.shown() == pair.der
    site.daemon.return_()
    new = site.leaf("www.test")
    site.commit(pem_files({"shop": new}))
    assert site.shown_by_all() == {new.der}
    assert site.identity() == identity
    for connection in kept.values():
        assert connection.get("www.test").body == b"red"


def test_a_damaged_store_is_mended_from_the_repository(site: TlsSite) -> None:
    """A worker that comes back needs what it cannot find there; git still has it."""
    pair = site.leaf("www.test")
    site.start(site.files({"shop": pair}))
    kept = {path: path.read_bytes() for path in (site.daemon.state_dir / "material").iterdir()}
    for path, content in kept.items():
        if b"PRIVATE" in content:
            path.write_bytes(site.leaf("www.test").key)
        else:
            path.unlink()
    victim, _ = site.worker_pids()
    os.kill(victim, signal.SIGKILL)
    processes.wait_until(lambda: len(set(site.worker_pids()) - {victim, 0}) == 2, "all serve", 10)
    assert site.shown_by_all() == {pair.der}
    assert {path: path.read_bytes() for path in kept} == kept
    assert {path.stat().st_mode & 0o777 for path in kept} == {0o600}


def test_a_damaged_store_is_told_and_mended_by_the_next_rotation(
    site: TlsSite, tmp_path: Path
) -> None:
    """A worker that comes back never serves what it cannot prove to be the committed content."""
    pair = site.leaf("www.test")
    outside = {"certificate": tmp_path / "shop.crt", "private_key": tmp_path / "shop.key"}
    outside["certificate"].write_bytes(pair.chain)
    outside["private_key"].write_bytes(pair.key)
    files: Any = site.files({"shop": pair})
    files["kakehi.yaml"]["certificates"]["shop"] = {k: str(v) for k, v in outside.items()}
    site.start(files)
    # Gone where it came from as well, and altered while no daemon has it in memory, so that nothing
    # can be done.
    site.daemon.leave()
    outside["private_key"].unlink()
    for path in (site.daemon.state_dir / "material").iterdir():
        content = path.read_bytes()
        if b"PRIVATE" in content:
            path.write_bytes(site.leaf("www.test").key)
    site.daemon.return_()
    victim, _ = site.worker_pids()
    os.kill(victim, signal.SIGKILL)
    told = "nowhere else any more"
    processes.wait_until(lambda: told in site.daemon.log(), "it is told", 20)
    # The other one serves, its successor shows none, and the commit brings all together again.
    new = site.leaf("www.test")
    sha = site.repo.commit(site.files({"shop": new}))
    processes.wait_until(lambda: site.daemon.outcome(sha, 5) == "applied", "it applies", WAIT_S)
    processes.wait_until(lambda: site.shown_by_all() == {new.der}, "everywhere", WAIT_S)


def test_a_certificate_of_another_authority_serves_without_restart(site: TlsSite) -> None:
    site.start(site.files({"shop": site.leaf("www.test")}))
    other = pki.make("another authority", is_ca=True)
    pair = pki.make("www.test", issuer=other)
    site.commit(pem_files({"shop": pair}))
    assert site.shown("www.test", tls.trusting(other)) == pair.der
