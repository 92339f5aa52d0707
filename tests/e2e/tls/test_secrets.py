"""A private key is in the material store and nowhere else that we write or say (T41)."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import stat
from pathlib import Path
from typing import Any

from tests.harness import pki, processes
from tests.harness.pki import Pair
from tests.harness.tls import TlsConnection
from tests.harness.tlssite import TlsSite, pem_files


def traces(pair: Pair) -> dict[str, bytes]:
    """What would give a key away, and the hash that tells who has the same one."""
    lines = [line for line in pair.key.splitlines() if line and not line.startswith(b"-")]
    return {
        "a line of the key": lines[1],
        "the key's last line": lines[-1],
        "the hash of the key file": hashlib.sha256(pair.key).hexdigest().encode(),
    }


def files_below(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


# The database is the state itself: it has the hash, in files of mode 0600.
_HASH_ALLOWED = ("state.db", "state.db-wal", "state.db-shm")


def assert_secret(site: TlsSite, pairs: list[Pair], said: dict[str, str]) -> None:
    material = site.daemon.state_dir / "material"
    for pair in pairs:
        for what, trace in traces(pair).items():
            for command, text in said.items():
                assert trace.decode() not in text, f"{what} is in the output of {command}"
            for path in files_below(site.daemon.base):
                if path.is_relative_to(material):
                    continue
                if what.startswith("the hash") and path.name in _HASH_ALLOWED:
                    assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
                    continue
                assert trace not in path.read_bytes(), f"{what} is in {path}"


def commands(site: TlsSite) -> dict[str, str]:
    """Everything that the command line can be made to say."""
    said = {}
    for words in (
        ("status",),
        ("status", "--json"),
        ("show",),
        ("show", "--json"),
        ("show", "certificate/shop"),
        ("show", "certificate/shop", "--json"),
        ("show", "cluster/main", "--json"),
        ("history",),
        ("history", "--json"),
        ("plan", str(site.repo.directory)),
        ("plan", str(site.repo.directory), "--json"),
        ("validate", str(site.repo.directory)),
        ("validate", str(site.repo.directory), "--json"),
        ("explain", "https://www.test/"),
        ("explain", "https://www.test/", "--json"),
    ):
        done = site.daemon.run_cli(*words)
        said[" ".join(words)] = done.stdout + done.stderr
    said["the log"] = site.daemon.log()
    return said


def test_private_keys_are_in_the_material_store_alone(site: TlsSite) -> None:
    pair, other, own = (site.leaf("www.test") for _ in range(3))
    tls_to_backends = {
        "certificate": "tls/own.crt",
        "private_key": "tls/own.key",
        "verify": False,
    }

    def files(current: Pair) -> dict[str, Any]:
        whole = site.files({"shop": current}, tls=tls_to_backends)
        return {**whole, **pem_files({"own": own})}

    site.start(files(pair))
    pairs = [pair, other, own]
    assert_secret(site, pairs, commands(site))

    # A rotation that is planned, one that runs, one that is refused.
    site.repo.write(files(other))
    said = commands(site)
    assert "(secret)" in said[f"plan {site.repo.directory} --json"]
    assert_secret(site, pairs, said)
    site.commit(files(other))
    assert_secret(site, pairs, commands(site))
    bad = site.repo.commit({"tls/shop.key": pair.key.decode()})
    assert site.daemon.outcome(bad) == "refused"
    assert_secret(site, pairs, commands(site))
    swapped = {"tls/shop.crt": other.key.decode(), "tls/shop.key": "-----BEGIN junk\n"}
    assert site.daemon.outcome(site.repo.commit(swapped)) == "refused"
    assert_secret(site, pairs, commands(site))

    # A worker that dies, a daemon that does.
    site.commit(files(pair))
    os.kill(site.worker_pids()[0], signal.SIGKILL)
    processes.wait_until(
        lambda: {worker["state"] for worker in site.daemon.ask("status")["workers"]} == {"running"},
        "the successor is in service",
    )
    site.daemon.leave(signal.SIGKILL)
    site.daemon.return_()
    assert_secret(site, pairs, commands(site))


def test_no_key_is_in_a_command_line_or_an_environment(site: TlsSite) -> None:
    pair = site.leaf("www.test")
    site.start(site.files({"shop": pair}))
    for pid in (site.daemon.pid, *site.worker_pids()):
        told = b"".join(Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ"))
        for what, trace in traces(pair).items():
            assert trace not in told, f"{what} of process {pid}"


def test_the_material_store_is_for_its_owner_and_holds_what_is_in_use(site: TlsSite) -> None:
    pair = site.leaf("www.test")
    site.start(site.files({"shop": pair}))
    store = site.daemon.state_dir / "material"

    def expect(*contents: bytes) -> None:
        wanted = {hashlib.sha256(content).hexdigest() for content in contents}
        processes.wait_until(lambda: set(os.listdir(store)) == wanted, "what is in use is there")
        assert stat.S_IMODE(store.stat().st_mode) == 0o700
        for path in store.iterdir():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name

    expect(pair.chain, pair.key)
    old, pair = pair, site.leaf("www.test")
    site.commit(pem_files({"shop": pair}))
    expect(pair.chain, pair.key)
    # Two that share their files, of which one goes.
    both = site.files({"shop": pair, "twin": pair})
    site.commit(both)
    expect(pair.chain, pair.key)
    site.commit({**site.files({"shop": pair}), "tls/twin.crt": None, "tls/twin.key": None})
    expect(pair.chain, pair.key)
    assert site.shown_by_all() == {pair.der}
    site.wait(site.repo.revert("HEAD~2"))
    site.commit(pem_files({"shop": old}))
    expect(old.chain, old.key)


def test_what_a_refused_commit_brought_is_not_kept(site: TlsSite) -> None:
    """The certificate is fine; what the workers refuse is something else in the same commit."""
    pair, new = site.leaf("www.test"), site.leaf("www.test")
    site.start(site.files({"shop": pair}))
    document: Any = site.files({"shop": new})["kakehi.yaml"]
    document["settings"] = {**site.settings, "access_log": f"{site.directory}/missing/access.log"}
    bad = site.repo.commit({"kakehi.yaml": document, **pem_files({"shop": new})})
    assert site.daemon.refusal(bad)["stage"] == "prepare"
    assert site.shown_by_all() == {pair.der}
    store = site.daemon.state_dir / "material"
    secret = hashlib.sha256(new.key).hexdigest()
    processes.wait_until(lambda: secret not in os.listdir(store), "the unused key is gone", 5)


def test_a_key_of_the_repository_is_warned_of(site: TlsSite) -> None:
    site.start(site.files({"shop": site.leaf("www.test")}))
    done = site.daemon.run_cli("validate", str(site.repo.directory))
    assert done.returncode == 0, done
    assert "tls/shop.key" in done.stdout + done.stderr
    assert "private key" in (done.stdout + done.stderr).lower()


def test_a_worker_takes_no_content_that_is_not_what_was_committed(site: TlsSite) -> None:
    """The hash is checked by the reader: a store that somebody wrote into is no way in."""
    pair = site.leaf("www.test")
    site.start(site.files({"shop": pair}))
    intruder = pki.make("www.test")
    store = site.daemon.state_dir / "material"
    for pem, theirs in ((pair.chain, intruder.chain), (pair.key, intruder.key)):
        (store / hashlib.sha256(pem).hexdigest()).write_bytes(theirs)
    victim, other = site.worker_pids()
    os.kill(victim, signal.SIGKILL)
    processes.pause(2)
    served = set()
    for _ in range(20):
        # A worker that is not in service leaves connections waiting.
        with contextlib.suppress(OSError):
            connection = TlsConnection(site.https, site.context, "www.test", deadline_s=1)
            served.add(connection.shown)
            connection.close()
    assert served == {pair.der}, "the intruder's certificate was never committed"
    assert processes.is_alive(other)
