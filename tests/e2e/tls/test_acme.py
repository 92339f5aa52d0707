"""Certificates that are ordered, from a real ACME server."""

from __future__ import annotations

import os
import signal
import ssl
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from reconciler.materials import pem
from tests.e2e.tls.shop import Shop
from tests.harness import metrics, pebble, pki, ports, processes, rawclient
from tests.harness.pebble import Pebble

pytestmark = pytest.mark.skipif(
    not pebble.available(), reason="tests/install-tools found no Go to install pebble with"
)

_ISSUED_S = 40.0


class AcmeShop(Shop):
    """A shop with a listener in clear text too, whose certificates are ordered."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.http, self.admin = ports.address(), ports.address()
        self.authority: Pebble | None = None
        self.name = "own"

    def configured(
        self, *hostnames: str, frontends: tuple[str, ...] = ("*",), **acme: Any
    ) -> dict[str, Any]:
        assert self.authority is not None
        ordered = {"directory": self.authority.url, "ca": str(self.authority.ca), **acme}
        certificates = {self.name: {"acme": ordered, "hostnames": list(hostnames)}}
        document = self.document(None, {"certificates": certificates})
        document["settings"]["admin"] = self.admin
        document["listeners"]["plain"] = {"address": self.http}
        document["frontends"] = {
            f"f{number}": {
                "listeners": ["front", "plain"],
                "cluster": "shop",
                "hostname": hostname,
                "redirect": "https",
            }
            for number, hostname in enumerate(frontends)
        }
        return {"kakehi.yaml": document}

    def leaf(self, host: str = "shop.test") -> x509.Certificate | None:
        try:
            der = self.shown(host)
        except (ssl.SSLError, ConnectionError):
            return None
        return x509.load_der_x509_certificate(der) if der else None

    def await_leaf(
        self, host: str = "shop.test", other_than: int | None = None
    ) -> x509.Certificate:
        def has_come() -> bool:
            found = self.leaf(host)
            return found is not None and found.serial_number != other_than

        processes.wait_until(has_come, f"a certificate for {host}", _ISSUED_S)
        found = self.leaf(host)
        assert found is not None
        return found

    def status_of(self, path: str) -> int:
        """The status of a request in clear text."""
        with rawclient.Connection(self.http) as connection:
            return connection.get("shop.test", path).status

    def planned(self, files: dict[str, Any]) -> str:
        """What `plan` says of an edit, which is left there."""
        self.repo.write(files)
        return self.daemon.run_cli("plan", str(self.repo.directory)).stdout

    def restart(self) -> None:
        """End everything and start again, with the same state."""
        assert self.daemon.interrupt() == 0
        self.daemon.start()

    def warnings(self) -> list[str]:
        return [str(each) for each in self.daemon.status()["warnings"]]


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[AcmeShop]:
    with AcmeShop(tmp_path) as made, Pebble(tmp_path / "ca", made.http, made.address) as authority:
        made.authority = authority
        yield made


@pytest.mark.parametrize("challenge", ["http-01", "tls-alpn-01"])
def test_a_certificate_is_ordered_and_served_by_every_worker(
    shop: AcmeShop, challenge: str, tmp_path: Path
) -> None:
    shop.repo.commit(shop.configured("shop.test", "www.shop.test", challenge=challenge))
    shop.daemon.start()
    leaf = shop.await_leaf()
    assert pem.dns_names(leaf) == ["shop.test", "www.shop.test"]
    assert len(shop.shown_everywhere()) == 1
    assert shop.authority is not None
    # The chain leads to the authority's root for a client that knows nothing else.
    trusted = tmp_path / "root.pem"
    trusted.write_bytes(shop.authority.root())
    context = ssl.create_default_context(cafile=str(trusted))
    with shop.connect("www.shop.test", context) as connection:
        assert connection.version() == "TLSv1.3"
    # It is a file that nobody else may read, and came by a transaction of one entity.
    [issued] = (shop.daemon.state_dir / "acme" / "issued").iterdir()
    assert issued.stat().st_mode & 0o777 == 0o600
    status = shop.daemon.status()
    assert (status["generation"], status["warnings"]) == (2, [])
    assert [each["name"] for each in status["certificates"]] == ["own"]
    # The answers are gone when they have been seen.
    assert (shop.daemon.state_dir / "challenges").read_text() == '{"http":{},"tls":{}}'
    assert "PRIVATE KEY" not in shop.daemon.log()


def test_the_order_outlives_a_restart_and_is_not_repeated(shop: AcmeShop) -> None:
    shop.repo.commit(shop.configured("shop.test"))
    shop.daemon.start()
    serial = shop.await_leaf().serial_number
    shop.restart()
    assert shop.await_leaf().serial_number == serial
    # Another change is nothing to it.
    shop.daemon.commit(shop.configured("shop.test", frontends=("*", "other.test")))
    processes.pause(2)
    assert shop.await_leaf().serial_number == serial
    assert shop.daemon.log().count("ordering a certificate") == 1


def test_a_name_more_is_ordered_while_the_old_certificate_serves(shop: AcmeShop) -> None:
    shop.repo.commit(shop.configured("shop.test"))
    shop.daemon.start()
    first = shop.await_leaf()
    shop.daemon.commit(shop.configured("shop.test", "more.test"))
    found = shop.leaf()
    assert found is not None, "the old one must go on"
    second = shop.await_leaf("more.test")
    assert second.serial_number != first.serial_number
    assert shop.await_leaf().serial_number == second.serial_number


def test_what_was_brought_serves_until_the_order_has_come(shop: AcmeShop) -> None:
    brought = pki.make("shop.test")
    assert shop.authority is not None
    files = shop.configured("shop.test")
    ordered = files["kakehi.yaml"]["certificates"]
    own = {"certificate": "tls/own.crt", "private_key": "tls/own.key"}
    before = {"kakehi.yaml": {**files["kakehi.yaml"], "certificates": {"own": own}}}
    pem_files = {"tls/own.crt": brought.chain.decode(), "tls/own.key": brought.key.decode()}
    shop.repo.commit({**before, **pem_files})
    shop.daemon.start()
    assert shop.shown() == brought.der
    served: set[bytes | None] = set()
    # Nobody is turned away in between.
    shop.repo.commit({"kakehi.yaml": {**files["kakehi.yaml"], "certificates": ordered}})
    deadline = time.monotonic() + _ISSUED_S
    while len(served) < 2 and time.monotonic() < deadline:
        served.add(shop.shown())
    assert brought.der in served
    assert len(served) == 2


def test_only_what_frontends_claim_is_ordered(shop: AcmeShop) -> None:
    names = ("shop.test", "a.wild.test", "nobody.test")
    shop.repo.commit(shop.configured(*names, frontends=("shop.test", "*.wild.test")))
    done = shop.daemon.run_cli("validate", str(shop.repo.directory))
    assert "no frontend has nobody.test: it is not ordered" in done.stderr
    shop.daemon.start()
    assert pem.dns_names(shop.await_leaf()) == ["a.wild.test", "shop.test"]
    # Once there is a frontend, it is.
    shop.daemon.commit(shop.configured(*names, frontends=("shop.test", "*.wild.test", "*")))
    assert "nobody.test" in pem.dns_names(shop.await_leaf("nobody.test"))


def test_a_refusal_is_told_and_tried_anew_when_the_configuration_is_mended(shop: AcmeShop) -> None:
    shop.repo.commit(shop.configured("blocked.test"))
    shop.daemon.start()
    processes.wait_until(shop.warnings, "the refusal is told", _ISSUED_S)
    [warning] = shop.warnings()
    assert warning.startswith("certificate own: no certificate was issued: ")
    assert "blocked.test" in warning
    assert "tried again at" in warning
    assert metrics.scrape(shop.admin)["kakehi_certificate_order_failures"] == 1
    # Whatever else is served goes on, and other changes apply.
    assert shop.status_of("/") == 308
    shop.daemon.commit(shop.configured("shop.test"))
    shop.await_leaf()
    assert shop.warnings() == []
    assert metrics.scrape(shop.admin)["kakehi_certificate_order_failures"] == 0


def test_an_authority_that_is_away_hurts_nobody(shop: AcmeShop) -> None:
    nowhere = f"https://{ports.address()}/dir"
    shop.repo.commit(shop.configured("shop.test", directory=nowhere))
    shop.daemon.start()
    processes.wait_until(shop.warnings, "that it is away is told", _ISSUED_S)
    assert "cannot be reached" in shop.warnings()[0]
    assert shop.daemon.run_cli("status").returncode == 0


def test_it_is_renewed_when_the_authority_says_so(shop: AcmeShop) -> None:
    shop.repo.commit(shop.configured("shop.test"))
    shop.daemon.start()
    first = shop.await_leaf()
    assert shop.authority is not None
    [issued] = (shop.daemon.state_dir / "acme" / "issued").iterdir()
    past = datetime.now(UTC) - timedelta(hours=1)
    window = {
        "start": (past - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "end": past.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    leaf = issued.read_bytes()
    start = leaf.index(b"-----BEGIN CERTIFICATE-----")
    end = leaf.index(b"-----END CERTIFICATE-----", start) + len(b"-----END CERTIFICATE-----\n")
    shop.authority.suggest(leaf[start:end], window)
    # It asks again when it starts.
    shop.restart()
    second = shop.await_leaf(other_than=first.serial_number)
    assert second.serial_number != first.serial_number


def test_a_file_that_was_taken_away_comes_back(shop: AcmeShop) -> None:
    shop.repo.commit(shop.configured("shop.test"))
    shop.daemon.start()
    serial = shop.await_leaf().serial_number
    [issued] = (shop.daemon.state_dir / "acme" / "issued").iterdir()
    content = issued.read_bytes()
    issued.unlink()
    processes.pause(2)
    assert shop.await_leaf().serial_number == serial, "what is served stays"
    # It is looked for whenever anything changes, and each minute.
    shop.daemon.commit(shop.configured("shop.test", frontends=("*", "other.test")))
    processes.wait_until(issued.exists, "the file is back")
    issued.unlink()
    shop.restart()
    processes.wait_until(issued.exists, "the file is back")
    assert issued.read_bytes() == content
    assert shop.await_leaf().serial_number == serial


def test_the_key_of_an_account_that_is_gone_is_told(shop: AcmeShop) -> None:
    shop.repo.commit(shop.configured("shop.test"))
    shop.daemon.start()
    shop.await_leaf()
    assert shop.authority is not None
    [account] = (shop.daemon.state_dir / "acme" / "accounts").iterdir()
    gone = "the key of the account"
    # Another authority, or another contact, is another account: none is gone.
    shop.daemon.commit(shop.configured("shop.test", "a.test", contact=["me@shop.test"]))
    processes.wait_until(lambda: len(list(account.parent.iterdir())) == 2, "another", _ISSUED_S)
    assert not any(gone in each for each in shop.warnings())
    account.unlink()
    shop.restart()
    shop.daemon.commit(shop.configured("shop.test", "b.test"))
    processes.wait_until(account.exists, "a new one is made", _ISSUED_S)
    processes.wait_until(lambda: any(gone in each for each in shop.warnings()), "it is told")
    assert f"{gone} at {shop.authority.url} is gone" in shop.daemon.log()


def test_without_an_order_there_is_nothing_to_show_to_an_authority(shop: AcmeShop) -> None:
    shop.repo.commit(shop.configured("shop.test", challenge="tls-alpn-01"))
    shop.daemon.start()
    shop.await_leaf()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["acme-tls/1"])
    with pytest.raises(ssl.SSLError, match=r"unrecognized name|UNRECOGNIZED_NAME"):
        shop.connect("shop.test", context)


def test_only_the_very_token_is_answered(shop: AcmeShop) -> None:
    shop.repo.commit(shop.configured("shop.test"))
    shop.daemon.start()
    shop.await_leaf()
    for token in ("", "a", "../../etc/passwd"):
        assert shop.status_of(f"/.well-known/acme-challenge/{token}") == 308


def test_a_certificate_that_is_renamed_goes_on_being_served(shop: AcmeShop) -> None:
    shop.repo.commit(shop.configured("shop.test", "www.shop.test"))
    shop.daemon.start()
    serial = shop.await_leaf().serial_number
    assert shop.authority is not None
    shop.authority.stand_still()
    shop.name = "mine"
    planned = shop.planned(shop.configured("shop.test"))
    assert "is served as what was issued before for its hostnames" in planned
    shop.daemon.commit(shop.configured("shop.test"))
    leaf = shop.leaf()
    assert leaf is not None
    assert leaf.serial_number == serial
    # One that it has not all hostnames of serves those that it has.
    shop.name = "grown"
    shop.daemon.commit(shop.configured("shop.test", "more.test"))
    leaf = shop.leaf()
    assert leaf is not None
    assert leaf.serial_number == serial
    shop.name = "mine"
    shop.daemon.commit(shop.configured("shop.test"))
    # It is a file of its own from here on, by which the next daemon knows it.
    kept = shop.daemon.state_dir / "acme" / "issued" / "mine.pem"
    processes.wait_until(kept.exists, "it is kept by its new name")
    shop.restart()
    assert shop.await_leaf().serial_number == serial
    assert shop.daemon.log().count("ordering a certificate name=mine") == 0


def test_hostnames_that_lose_what_they_have_are_named(shop: AcmeShop) -> None:
    """Of certificates that are joined only one can go on being served."""
    [document] = shop.configured("shop.test").values()
    acme = document["certificates"].pop("own")["acme"]
    document["certificates"] = {
        "first": {"acme": acme, "hostnames": ["shop.test"]},
        "second": {"acme": acme, "hostnames": ["one.test", "two.test"]},
    }
    shop.repo.commit({"kakehi.yaml": document})
    shop.daemon.start()
    shop.await_leaf("shop.test")
    shop.await_leaf("two.test")
    assert shop.authority is not None
    shop.authority.stand_still()
    names = ["shop.test", "one.test", "two.test", "new.test"]
    document["certificates"] = {"joined": {"acme": acme, "hostnames": names}}
    loss = "! leaves shop.test without a certificate until it is issued"
    assert loss in shop.planned({"kakehi.yaml": document})
    shop.daemon.commit({"kakehi.yaml": document})
    assert shop.leaf("two.test") is not None
    assert shop.leaf("shop.test") is None
    # What is only renamed, or had none, loses nothing.
    document["certificates"] = {"again": {"acme": acme, "hostnames": names}}
    assert "! leaves" not in shop.planned({"kakehi.yaml": document})


def test_a_certificate_of_an_authority_to_practise_with_is_ordered_anew(
    shop: AcmeShop, tmp_path: Path
) -> None:
    shop.repo.commit(shop.configured("shop.test"))
    shop.daemon.start()
    first = shop.await_leaf()
    with Pebble(tmp_path / "other", shop.http, shop.address) as other:
        shop.authority = other
        shop.daemon.commit(shop.configured("shop.test"))
        second = shop.await_leaf(other_than=first.serial_number)
        assert second.issuer != first.issuer
        processes.pause(2)
        assert shop.daemon.log().count("a certificate was issued") == 2


@pytest.mark.parametrize("told", ["by command", "by signal"])
def test_an_order_that_failed_is_tried_again_when_somebody_asks_for_it(
    shop: AcmeShop, told: str
) -> None:
    nowhere = f"https://{ports.address()}/dir"
    shop.repo.commit(shop.configured("shop.test", directory=nowhere))
    shop.daemon.start()
    processes.wait_until(shop.warnings, "the failure is told", _ISSUED_S)
    assert f"{nowhere} cannot be reached: connection refused" in shop.warnings()[0]
    if told == "by command":
        done = shop.daemon.run_cli("retry", check=True)
        assert "certificate own is ordered again" in done.stdout
    else:
        os.kill(shop.daemon.process.pid, signal.SIGHUP)
    processes.wait_until(
        lambda: shop.daemon.log().count("ordering a certificate") == 2, "it is ordered again"
    )
