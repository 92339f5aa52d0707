"""Certificates on the whole chain: a commit or a file brings what the next handshake shows."""

from __future__ import annotations

import os
import re
import signal
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.tls.shop import Shop, anyone, get
from tests.harness import pki, processes
from tests.harness.pki import Pair

ROTATIONS = 60


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with Shop(tmp_path) as made:
        yield made


def test_a_commit_brings_a_certificate_and_a_revert_takes_it_back(shop: Shop) -> None:
    first, second = pki.make("shop.test"), pki.make("shop.test")
    shop.start(shop=first)
    workers = shop.daemon.worker_pids()
    with shop.connect("shop.test") as open_all_along:
        assert get(open_all_along) == 200
        shop.commit(shop=second)
        assert shop.shown_everywhere() == {second.der}
        assert get(open_all_along) == 200
        shop.daemon.revert()
        assert shop.shown_everywhere() == {first.der}
        assert get(open_all_along) == 200
    assert shop.daemon.worker_pids() == workers


def test_a_client_that_verifies_is_content(shop: Shop) -> None:
    ca = pki.make("Test CA", is_ca=True)
    shop.start(shop=pki.make("shop.test", issuer=ca))
    context = ssl.create_default_context(cadata=ca.pem.decode())
    with shop.connect("shop.test", context) as connection:
        assert get(connection) == 200
    with pytest.raises(ssl.SSLCertVerificationError):
        shop.connect("shop.test", ssl.create_default_context()).close()


def test_sni_picks_exact_names_then_wildcards_then_the_default(shop: Shop) -> None:
    exact, wild = pki.make("a.shop.test"), pki.make("*.shop.test")
    shop.start(exact=exact, wild=wild)
    assert shop.shown("a.shop.test") == exact.der
    assert shop.shown("b.shop.test") == wild.der
    for stranger in ("other.test", "a.b.shop.test", None):
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            shop.shown(stranger)
    files = shop.files({"default_certificate": "exact"}, exact=exact, wild=wild)
    shop.daemon.commit(files)
    assert shop.shown("other.test") == exact.der
    assert shop.shown(None) == exact.der


BROKEN: dict[str, tuple[Callable[[], Pair], str]] = {
    "another key": (
        lambda: _with(pki.make("shop.test"), key=pki.make("shop.test").key),
        r"kakehi\.yaml:\d+:\d+: certificate \"shop\": the private key is not that of CN=shop\.test",
    ),
    "expired": (lambda: pki.make("shop.test", days=-0.5), "the certificate expired on "),
    "of tomorrow": (lambda: pki.make("shop.test", starts_in_days=1), "is not valid before "),
    "junk": (lambda: _with(pki.make("shop.test"), chain=b"junk"), "holds no PEM certificate"),
    "weak": (lambda: pki.make("shop.test", kind="rsa", bits=1024), "1024 bits is too weak"),
    "an encrypted key": (
        lambda: _encrypted(pki.make("shop.test")),
        "the private key is encrypted",
    ),
}


def _with(pair: Pair, chain: bytes | None = None, key: bytes | None = None) -> Pair:
    return Pair(pair.certificate, pair.private_key, chain or pair.chain, key or pair.key)


def _encrypted(pair: Pair) -> Pair:
    return _with(pair, key=pki.private_pem(pair.private_key, b"secret"))


def test_what_does_not_fit_is_refused_and_the_old_one_stays(shop: Shop) -> None:
    good = pki.make("shop.test")
    shop.start(shop=good)
    before = shop.daemon.json("status")
    for make, reason in BROKEN.values():
        commit = shop.repo.commit(shop.files(shop=make()))
        done = shop.daemon.run_cli("wait", "--commit", commit, "--timeout", "20s")
        assert done.returncode == 6, done
        assert re.search(reason, done.stderr), done.stderr
        status = shop.daemon.json("status")
        assert status["digest"] == before["digest"]
        assert status["last_error"]["commit"] == commit
        assert shop.shown() == good.der
    files = shop.files(shop=good)
    files["tls/shop.key"] = None
    commit = shop.repo.commit(files)
    done = shop.daemon.run_cli("wait", "--commit", commit, "--timeout", "20s")
    assert done.returncode == 6
    assert "tls/shop.key" in done.stderr
    shop.commit(shop=good)
    assert shop.shown() == good.der


def test_a_file_outside_is_watched(shop: Shop) -> None:
    """Renewed as certbot does it: a link that leads to another file from one moment to the next."""
    first, second = pki.make("shop.test"), pki.make("shop.test")
    live = shop.outside / "live"
    live.mkdir()
    _renew(shop, "1", first)
    named = {"certificate": str(live / "chain.pem"), "private_key": str(live / "key.pem")}
    shop.repo.commit({"kakehi.yaml": shop.document(None, {"certificates": {"shop": named}})})
    shop.daemon.start()
    assert shop.shown() == first.der
    generation = shop.daemon.json("status")["generation"]
    with shop.connect("shop.test") as open_all_along:
        _renew(shop, "2", second)
        processes.wait_until(lambda: shop.shown() == second.der, "the new one is served")
        assert shop.shown_everywhere() == {second.der}
        assert get(open_all_along) == 200
    assert shop.daemon.json("status")["generation"] > generation

    # What is broken changes nothing, and is told.
    (shop.outside / "3-key.pem").write_bytes(pki.make("shop.test").key)
    _link(live / "key.pem", shop.outside / "3-key.pem")
    processes.wait_until(
        lambda: "not that of" in str(shop.daemon.json("status")["last_error"]), "it is refused"
    )
    assert shop.shown_everywhere() == {second.der}
    _renew(shop, "1", first)
    processes.wait_until(lambda: shop.shown() == first.der, "the next good one is served")


def _renew(shop: Shop, number: str, pair: Pair) -> None:
    for name, content in (("chain.pem", pair.chain), ("key.pem", pair.key)):
        target = shop.outside / f"{number}-{name}"
        target.write_bytes(content)
        _link(shop.outside / "live" / name, target)


def _link(link: Path, target: Path) -> None:
    new = link.with_suffix(".new")
    new.symlink_to(target)
    new.rename(link)


def test_a_restart_without_the_repository_and_a_new_worker_have_all_they_need(shop: Shop) -> None:
    pair = pki.make("shop.test")
    shop.start(shop=pair)
    victims = shop.daemon.worker_pids()
    os.kill(victims[0], signal.SIGKILL)
    processes.wait_until(
        lambda: len(set(shop.daemon.worker_pids()) - {victims[0]}) == 2, "a successor serves"
    )
    assert shop.shown_everywhere() == {pair.der}
    shop.daemon.kill()
    moved = shop.repo.directory.with_name("moved")
    shop.repo.directory.rename(moved)
    try:
        shop.daemon.start(wait=False)
        processes.wait_until(lambda: _serves(shop, pair), "the last committed state is served")
    finally:
        moved.rename(shop.repo.directory)
    material = shop.daemon.state_dir / "material"
    assert material.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in material.iterdir()} == {0o600}


def _serves(shop: Shop, pair: Pair) -> bool:
    try:
        return shop.shown() == pair.der
    except OSError:
        return False


def test_rotations_in_a_storm_of_handshakes_break_nothing(shop: Shop) -> None:
    pairs = [pki.make("shop.test") for _ in range(2)]
    shop.start(shop=pairs[0])
    workers = shop.daemon.worker_pids()
    known = {pair.der for pair in pairs}
    ending = threading.Event()
    failures: list[str] = []
    handshakes = [0] * 4

    def storm(number: int) -> None:
        while not ending.is_set():
            try:
                with shop.connect("shop.test") as connection:
                    shown = connection.getpeercert(binary_form=True)
                    if shown not in known or get(connection) != 200:
                        failures.append("another certificate, or no answer")
                handshakes[number] += 1
            except OSError as error:
                failures.append(repr(error))

    threads = [threading.Thread(target=storm, args=(number,)) for number in range(4)]
    steady = [shop.connect("shop.test") for _ in range(20)]
    for thread in threads:
        thread.start()
    try:
        for rotation in range(1, ROTATIONS + 1):
            shop.commit(shop=pairs[rotation % 2])
            assert get(steady[rotation % len(steady)]) == 200
    finally:
        ending.set()
        for thread in threads:
            thread.join()
    assert failures == []
    assert sum(handshakes) > ROTATIONS
    assert [get(connection) for connection in steady] == [200] * len(steady)
    for connection in steady:
        connection.close()
    assert shop.daemon.worker_pids() == workers
    # Only what is served is kept.
    assert len(list((shop.daemon.state_dir / "material").iterdir())) == 2


def test_a_private_key_is_shown_nowhere(shop: Shop) -> None:
    first, second = pki.make("shop.test"), pki.make("shop.test")
    shop.start(shop=first)
    shop.repo.write({"tls/shop.key": second.key.decode(), "tls/shop.crt": second.chain.decode()})
    asked = (("plan",), ("plan", "--json"), ("show", "certificate/shop"), ("show", "--json"))
    said = [shop.daemon.run_cli(*line).stdout for line in asked]
    shop.commit(shop=second)
    said += [shop.daemon.run_cli(*line).stdout for line in (("history",), ("history", "--json"))]
    said.append(shop.daemon.log())
    for path in shop.daemon.state_dir.rglob("*"):
        if path.is_file() and path.parent.name != "material":
            said.append(path.read_text(errors="replace"))
    assert "(secret)" in said[0]
    secrets = [line for key in (first.key, second.key) for line in key.decode().split("\n")[1:-2]]
    assert [line for line in secrets if any(line in text for text in said)] == []


def test_clients_without_a_certificate_of_theirs_are_counted(shop: Shop) -> None:
    shop.start(shop=pki.make("shop.test"))
    old = anyone()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with shop.connect("shop.test", old) as connection:
        assert connection.version() == "TLSv1.2"
        assert get(connection) == 200
    shop.daemon.commit(shop.files({"profile": "modern"}, shop=pki.make("shop.test")))
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        shop.connect("shop.test", old).close()


def test_the_proxy_has_a_tls_backend(shop: Shop, tmp_path: Path) -> None:
    """`tls` of a cluster: the right authority is trusted, another one is not."""
    ca, other = pki.make("Test CA", is_ca=True), pki.make("Other CA", is_ca=True)
    own = pki.make("shop.internal", issuer=ca)
    directory = tmp_path / "inner"
    directory.mkdir()
    with Shop(directory) as inner:
        inner.repo.commit(inner.files({"default_certificate": "shop"}, shop=own))
        inner.daemon.start()
        files = shop.files(shop=pki.make("shop.test"))
        cluster = files["kakehi.yaml"]["clusters"]["shop"]
        cluster["backends"]["raw"]["address"] = inner.address
        cluster["tls"] = {"ca": "tls/ca.pem", "server_name": "shop.internal"}
        files["tls/ca.pem"] = ca.pem.decode()
        shop.repo.commit(files)
        shop.daemon.start()
        with shop.connect("shop.test") as connection:
            assert get(connection) == 200
            files["tls/ca.pem"] = other.pem.decode()
            shop.daemon.commit(files)
            assert get(connection) == 502
            files["tls/ca.pem"] = ca.pem.decode()
            cluster["tls"]["server_name"] = "other.internal"
            shop.daemon.commit(files)
            assert get(connection) == 502
            del cluster["tls"]["server_name"]
            cluster["tls"]["verify"] = False
            shop.daemon.commit(files)
            assert get(connection) == 200
