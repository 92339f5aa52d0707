"""Certificates outside of the repository, renewed under a daemon that has other things to do."""

from __future__ import annotations

import hashlib
import re
import shutil
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import pki
from tests.harness.pki import Pair
from tests.harness.ports import address
from tests.harness.repo import Repo
from tests.reconciler.live import Shop, eventually, shop

INVALID = {"broken.yaml": "clusters: {x: {retires: 1}}"}


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Shop]:
    with shop(tmp_path, workers=1) as made:
        yield made


def put(directory: Path, name: str, pair: Pair) -> dict[str, str]:
    """Write a certificate as renewal programs do; return the entity that names it."""
    directory.mkdir(exist_ok=True)
    named = {}
    for field, suffix, content in (
        ("certificate", "crt", pair.chain),
        ("private_key", "key", pair.key),
    ):
        path = directory / f"{name}.{suffix}"
        new = path.with_suffix(".new")
        new.write_bytes(content)
        new.chmod(0o600)
        new.rename(path)
        named[field] = str(path)
    return named


def certificates(**named: dict[str, str]) -> dict[str, Any]:
    return {"certificates.yaml": {"certificates": named}}


def serves(running: Shop, name: str, pair: Pair) -> bool:
    (entity,) = running.daemon.json("show", f"certificate/{name}")["entities"]
    wanted = hashlib.sha256(pair.chain).hexdigest()
    return bool(entity["value"]["certificate"]["sha256"] == wanted)


def error(running: Shop) -> str:
    found = running.daemon.status()["last_error"]
    return str(found["message"]) if found else ""


def test_a_renewal_while_a_newer_commit_is_refused(running: Shop, tmp_path: Path) -> None:
    """An old certificate must not expire because somebody's commit is broken."""
    first, second = pki.make("shop.test"), pki.make("shop.test")
    running.daemon.commit(certificates(shop=put(tmp_path / "keys", "shop", first)))
    applied = running.daemon.status()["commit"]
    refused = running.repo.commit(INVALID)
    assert running.daemon.run_cli("wait", "--commit", refused).returncode == 6
    put(tmp_path / "keys", "shop", second)
    eventually(lambda: serves(running, "shop", second))
    assert running.daemon.status()["commit"] == applied
    eventually(lambda: "retires" in error(running))
    assert running.daemon.run_cli("wait", "--commit", refused).returncode == 6


def test_a_renewal_at_the_moment_of_a_commit(running: Shop, tmp_path: Path) -> None:
    first = pki.make("shop.test")
    running.daemon.commit(certificates(shop=put(tmp_path / "keys", "shop", first)))
    for number in range(5):
        pair = pki.make("shop.test")
        running.repo.write({"more.yaml": f"clusters: {{more: {{retries: {number % 3}}}}}\n"})
        put(tmp_path / "keys", "shop", pair)
        commit = running.repo.commit()
        assert running.daemon.run_cli("wait", "--commit", commit).returncode == 0
        eventually(lambda pair=pair: serves(running, "shop", pair))


def test_a_commit_that_waits_for_its_files(running: Shop, tmp_path: Path) -> None:
    pair = pki.make("shop.test")
    named = put(tmp_path / "elsewhere", "shop", pair)
    named = {field: path.replace("elsewhere", "keys") for field, path in named.items()}
    commit = running.repo.commit(certificates(shop=named))
    running.daemon.refusal(commit)
    assert "No such file" in error(running)
    put(tmp_path / "keys", "shop", pair)
    eventually(lambda: running.daemon.status()["commit"] == commit)
    assert serves(running, "shop", pair)
    assert error(running) == ""


def test_a_broken_certificate_does_not_keep_others_from_being_renewed(
    running: Shop, tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    pairs = {name: pki.make(f"{name}.test") for name in ("a", "b", "c")}
    running.daemon.commit(
        certificates(**{name: put(keys, name, pair) for name, pair in pairs.items()})
    )
    commit = running.daemon.status()["commit"]
    (keys / "b.crt").write_bytes(b"broken")
    eventually(lambda: "b.crt" in error(running) or "no PEM certificate" in error(running))
    # What is bad is a file, and the commit that names it runs: it was not refused.
    (entry,) = running.daemon.json("history", "-n", "1")["entries"]
    assert (entry["outcome"], entry["commit"]) == ("not_renewed", commit)
    assert entry["files"] == [str(keys / "b.crt")]
    assert running.daemon.status()["last_error"]["stage"] == "files"
    assert running.daemon.run_cli("wait", "--commit", commit).returncode == 0
    new = {name: pki.make(f"{name}.test") for name in ("a", "c")}
    for name, pair in new.items():
        put(keys, name, pair)
    for name, pair in new.items():
        eventually(lambda name=name, pair=pair: serves(running, name, pair))
    assert serves(running, "b", pairs["b"])
    eventually(lambda: "no PEM certificate" in error(running))
    put(keys, "b", pairs["b"])
    eventually(lambda: error(running) == "")


def test_a_directory_that_vanishes_does_not_end_the_watch(running: Shop, tmp_path: Path) -> None:
    pair = pki.make("shop.test")
    running.daemon.commit(certificates(shop=put(tmp_path / "keys", "shop", pair)))
    shutil.rmtree(tmp_path / "keys")
    eventually(lambda: "No such file" in error(running))
    running.daemon.commit({"more.yaml": {"clusters": {"more": {}}}})
    assert "watching the repository failed" not in running.daemon.log()
    new = pki.make("shop.test")
    put(tmp_path / "keys", "shop", new)
    eventually(lambda: serves(running, "shop", new))


def test_the_key_of_a_refused_commit_is_not_kept(running: Shop, tmp_path: Path) -> None:
    pair = pki.make("shop.test")
    blocked = {"listeners": {"taken": {"address": running.backends[0].address}}}
    files = certificates(shop=put(tmp_path / "keys", "shop", pair))
    commit = running.repo.commit({**files, "taken.yaml": blocked})
    running.daemon.refusal(commit)
    eventually(lambda: list((running.daemon.state_dir / "material").iterdir()) == [])
    running.daemon.commit({"taken.yaml": None})
    assert len(list((running.daemon.state_dir / "material").iterdir())) == 2


def test_status_tells_what_expires_and_what_was_not_taken_over(
    running: Shop, tmp_path: Path
) -> None:
    keys, admin = tmp_path / "keys", address()
    soon, late = pki.make("soon.test", days=5.5), pki.make("late.test", days=90.5)
    running.commit(admin=admin)
    running.daemon.commit(certificates(soon=put(keys, "soon", soon), late=put(keys, "late", late)))
    status = running.daemon.status()
    assert [(each["name"], each["days_left"]) for each in status["certificates"]] == [
        ("soon", 5),
        ("late", 90),
    ]
    not_after = soon.certificate.not_valid_after_utc
    assert status["certificates"][0]["not_after"] == not_after.isoformat()
    (warning,) = status["warnings"]
    assert warning.startswith('certificate "soon": the certificate expires in 5 days, on ')
    text = running.daemon.run_cli("status").stdout
    assert f"{not_after:%Y-%m-%d}, in 5 days (certificate soon)" in text
    assert warning in text
    with urllib.request.urlopen(f"http://{admin}/metrics", timeout=10) as answer:
        metrics = answer.read().decode()
    (line,) = re.findall(r'kakehi_certificate_expiry_days\{certificate="soon"\} (\S+)', metrics)
    assert 5.4 < float(line) < 5.6

    (keys / "soon.crt").write_bytes(b"broken")
    differs = f"{keys}/soon.crt: what is served is not what the file has now"
    eventually(lambda: "no PEM certificate" in error(running))
    running.daemon.commit({"more.yaml": {"clusters": {"more": {}}}})
    assert error(running) == ""
    told = "".join(running.daemon.status()["warnings"])
    assert differs in told, "also after a commit that is fine"
    assert "no PEM certificate" in told, "with the reason"
    running.crash()
    running.daemon.start()
    eventually(lambda: "no PEM certificate" in "".join(running.daemon.status()["warnings"]))
    put(keys, "soon", late)
    put(keys, "soon", pki.make("soon.test", days=60))
    eventually(lambda: running.daemon.status()["warnings"] == [])


def without_its_directory(repo: Repo, config: Path) -> None:
    shutil.rmtree(config)
    repo.write({"elsewhere.txt": "nothing to see"})
    repo.commit()


def without_its_ref(repo: Repo, _: Path) -> None:
    repo.git("update-ref", "-d", "refs/heads/main")


def without_a_repository(repo: Repo, _: Path) -> None:
    repo.directory.rename(repo.directory.with_name("away"))


@pytest.mark.parametrize(
    "lose",
    [without_its_directory, without_its_ref, without_a_repository],
    ids=lambda each: each.__name__,
)
def test_a_renewal_while_the_newest_commit_cannot_be_found(
    tmp_path: Path, lose: Callable[[Repo, Path], None]
) -> None:
    made = Shop(tmp_path, workers=1)
    made.daemon.directory = made.repo.directory / "conf"
    first, second, third = (pki.make("shop.test") for _ in range(3))
    files = {**made.files(), **certificates(shop=put(tmp_path / "keys", "shop", first))}
    try:
        made.repo.commit({f"conf/{path}": content for path, content in files.items()})
        made.daemon.start()
        lose(made.repo, made.daemon.directory)
        eventually(lambda: made.daemon.status()["source"]["state"] == "holding")
        for pair in (second, third):
            put(tmp_path / "keys", "shop", pair)
            eventually(lambda pair=pair: serves(made, "shop", pair), timeout_s=10)
        (tmp_path / "keys" / "shop.crt").write_bytes(b"broken")
        eventually(lambda: "no PEM certificate" in made.daemon.log())
        put(tmp_path / "keys", "shop", first)
        eventually(lambda: serves(made, "shop", first))
        assert made.get() == 200
        log = made.daemon.log()
        assert "internal error" not in log
        assert log.count("holding the running state") == 1
    finally:
        made.stop()
