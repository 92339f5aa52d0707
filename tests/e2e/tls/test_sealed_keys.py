"""Private keys that are committed encrypted: nobody but the daemon opens them."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pyrage
from pyrage import x25519

from tests.harness import pki
from tests.harness.tlssite import TlsSite


def sealed(site: TlsSite, pair: pki.Pair, identity: x25519.Identity) -> dict[str, Any]:
    files: dict[str, Any] = site.files({"shop": pair})
    files["kakehi.yaml"]["certificates"]["shop"]["private_key"] = "tls/shop.key.age"
    del files["tls/shop.key"]
    key = pyrage.encrypt(pair.key, [identity.to_public()], armored=True)
    return {**files, "tls/shop.key.age": key}


def test_a_sealed_key_serves_and_is_opened_nowhere_else(site: TlsSite, tmp_path: Path) -> None:
    identity, pair = x25519.Identity.generate(), site.leaf("www.test")
    file = tmp_path / "identity"
    file.write_text(f"{identity}\n")
    site.daemon.options = ("--identity", str(file))
    site.start(sealed(site, pair, identity))
    assert site.shown_by_all() == {pair.der}
    # Encrypted anew, it is the same key: nothing changes.
    generation, _ = site.running()
    site.commit(sealed(site, pair, identity))
    assert site.running()[0] == generation
    other = site.leaf("www.test")
    site.commit(sealed(site, other, identity))
    assert site.shown_by_all() == {other.der}
    # Neither the repository nor what anybody is told has the key, or whose it is.
    validated = site.daemon.run_cli("validate", str(site.repo.directory))
    assert validated.returncode == 0
    assert "is encrypted: whether it fits is not looked at here" in validated.stderr
    told = site.daemon.log() + validated.stderr + site.daemon.run_cli("status", "--json").stdout
    told += site.daemon.run_cli("show", "--json").stdout
    everything = ("git", "-C", str(site.repo.directory), "log", "-p", "--all")
    told += subprocess.run(everything, capture_output=True, text=True, check=True).stdout
    for secret in (str(identity), other.key.decode().splitlines()[1]):
        assert secret not in told
    # With the identity, the whole check is made before anybody commits.
    wrong = sealed(site, site.leaf("www.test"), identity) | {"tls/shop.crt": pair.chain}
    site.repo.write(wrong)
    done = site.daemon.run_cli("validate", str(site.repo.directory), "--identity", str(file))
    assert done.returncode == 3
    assert "the private key is not that of" in done.stderr


def test_without_its_identity_a_commit_is_refused_and_the_old_key_serves(site: TlsSite) -> None:
    pair = site.leaf("www.test")
    site.start(site.files({"shop": pair}))
    sha = site.repo.commit(sealed(site, site.leaf("www.test"), x25519.Identity.generate()))
    done = site.daemon.run_cli("wait", "--commit", sha, "--timeout", "20s")
    assert done.returncode == 6
    assert "there is no identity to open it" in site.daemon.run_cli("status").stdout
    assert site.shown() == pair.der
