"""Certificates that backends really have (made by one command, old, weak), and what is said."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import pki, ports, processes
from tests.harness.daemon import Kakehi
from tests.harness.metrics import scrape
from tests.harness.rawclient import Connection
from tests.harness.repo import Repo

CA = pki.make("backends' authority", is_ca=True)


class Secure:
    """A backend over TLS that answers each request with 200."""

    def __init__(self, certificate: bytes, key: bytes, directory: Path, **more: Any) -> None:
        pem = directory / f"{len(list(directory.iterdir()))}.pem"
        pem.write_bytes(key + certificate)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        # Below what the library wants by default, as an old appliance is.
        self.context.set_ciphers(more.pop("ciphers", "ALL:@SECLEVEL=0"))
        self.context.load_cert_chain(pem)
        for name, value in more.items():
            setattr(self.context, name, value)
        self.listener = ports.listening()
        self.address = ports.of(self.listener)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                plain, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=[plain], daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        try:
            with self.context.wrap_socket(plain, server_side=True) as secure:
                while secure.recv(65536):
                    secure.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        except OSError:
            plain.close()


class Front:
    """A daemon whose one cluster is a backend over TLS."""

    def __init__(self, directory: Path) -> None:
        self.address, self.admin = ports.address(), ports.address()
        self.daemon = Kakehi(Repo(directory / "repository"), workers=1)
        self.directory = directory / "made"
        self.directory.mkdir()

    def __enter__(self) -> Front:
        return self

    def __exit__(self, *_: object) -> None:
        if self.daemon.process is not None:
            self.daemon.stop()

    def document(self, **cluster: Any) -> dict[str, Any]:
        return {
            "settings": {"access_log": str(self.daemon.access_log), "admin": self.admin},
            "listeners": {"front": {"address": self.address}},
            "clusters": {"shop": {"retries": 0, **cluster}},
            "frontends": {"all": {"listeners": ["front"], "cluster": "shop"}},
        }

    def ask(self, address: str, ca: bytes, **tls: Any) -> tuple[int, dict[str, Any]]:
        """Status and log entry of a request, with this policy."""
        document = self.document(
            tls={"ca": "tls/ca.pem", **tls}, backends={"a": {"address": address}}
        )
        self.daemon.begin({"kakehi.yaml": document, "tls/ca.pem": ca.decode()})
        before = len(self.daemon.access_entries())
        with Connection(self.address) as client:
            status = client.get("shop.test").status
        return status, self.daemon.wait_for_access(lambda _: True, before + 1)[-1]

    def openssl(self, *arguments: str) -> tuple[bytes, bytes]:
        """Certificate and key that `openssl req -x509` makes with these arguments."""
        key, certificate = self.directory / "made.key", self.directory / "made.crt"
        subprocess.run(
            ["openssl", "req", "-x509", "-nodes", "-keyout", key, "-out", certificate, *arguments],
            check=True,
            capture_output=True,
        )
        return certificate.read_bytes(), key.read_bytes()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    with Front(tmp_path_factory.mktemp("front")) as made:
        yield made


@pytest.fixture
def front(shared: Front) -> Front:
    """The daemon of all tests here, which has nothing to tell of the backend before."""
    if shared.daemon.process is not None:
        shared.daemon.begin({"kakehi.yaml": shared.document()})
        processes.wait_until(lambda: not shared.daemon.status()["warnings"], "it is forgotten")
    return shared


_NEW = ["-newkey", "rsa:2048", "-days", "30"]
_SHOP = ["-subj", "/CN=shop.internal", "-addext", "subjectAltName=DNS:shop.internal"]


@pytest.mark.parametrize(
    "more", [[], ["-addext", "basicConstraints=critical,CA:FALSE"]], ids=["authority", "leaf"]
)
def test_a_certificate_that_is_its_own_authority_is_trusted(front: Front, more: list[str]) -> None:
    certificate, key = front.openssl(*_NEW, *_SHOP, *more)
    backend = Secure(certificate, key, front.directory)
    status, entry = front.ask(backend.address, certificate, server_name="shop.internal")
    assert (status, entry["reason"]) == (200, None)


def test_its_name_is_still_checked(front: Front) -> None:
    certificate, key = front.openssl(*_NEW, *_SHOP)
    backend = Secure(certificate, key, front.directory)
    status, entry = front.ask(backend.address, certificate, server_name="other.internal")
    assert (status, entry["outcome"]) == (502, "tls_failed")
    assert entry["reason"] == "certificate_other_name"


def test_its_time_is_still_checked(front: Front) -> None:
    old = pki.make("shop.internal", is_ca=True, days=-0.1)
    backend = Secure(old.chain, old.key, front.directory)
    status, entry = front.ask(backend.address, old.pem, server_name="shop.internal")
    assert (status, entry["reason"]) == (502, "certificate_expired")


def test_another_authority_of_that_name_is_none_of_them(front: Front) -> None:
    trusted, _ = front.openssl(*_NEW, *_SHOP)
    certificate, key = front.openssl(*_NEW, *_SHOP)
    backend = Secure(certificate, key, front.directory)
    status, entry = front.ask(backend.address, trusted, server_name="shop.internal")
    assert (status, entry["reason"]) == (502, "certificate_is_authority")


def test_a_leaf_may_be_named_without_its_authority(front: Front) -> None:
    leaf = pki.make("shop.internal", issuer=CA)
    other = pki.make("shop.internal", issuer=CA)
    backend, stranger = (Secure(each.chain, each.key, front.directory) for each in (leaf, other))
    assert front.ask(backend.address, leaf.pem, server_name="shop.internal")[0] == 200
    assert front.ask(stranger.address, leaf.pem, server_name="shop.internal")[0] == 502


# `verify: false`.


def _v1(front: Front) -> tuple[bytes, bytes]:
    key, request = front.directory / "v1.key", front.directory / "v1.csr"
    subprocess.run(
        ["openssl", "req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", request]
        + ["-subj", "/CN=old"],
        check=True,
        capture_output=True,
    )
    made = subprocess.run(
        ["openssl", "x509", "-req", "-in", request, "-signkey", key, "-days", "30"],
        check=True,
        capture_output=True,
    )
    return made.stdout, key.read_bytes()


def test_without_verification_any_form_will_do(front: Front) -> None:
    """X.509 v1, a weak key, an old one, one for nobody: what is sent is hidden all the same."""
    weak = pki.make("weak", kind="rsa", bits=1024)
    old = pki.make("old", is_ca=True, days=-0.1)
    sha1 = front.openssl("-newkey", "rsa:1024", "-sha1", "-subj", "/CN=sha1")
    made = [_v1(front), (weak.chain, weak.key), (old.chain, old.key), sha1]
    for certificate, key in made:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            backend = Secure(certificate, key, front.directory, maximum_version=version)
            status, entry = front.ask(backend.address, CA.pem, verify=False)
            assert status == 200, (certificate, version, entry)


# What is said of it.


def test_why_a_handshake_failed_is_told(tmp_path: Path) -> None:
    """By a daemon of its own: what it counts begins with nothing."""
    with Front(tmp_path) as front:
        tells_why(front)


def tells_why(front: Front) -> None:
    leaf = pki.make("shop.internal", issuer=pki.make("somebody else", is_ca=True))
    backend = Secure(leaf.chain, leaf.key, front.directory)
    status, entry = front.ask(backend.address, CA.pem, server_name="shop.internal")
    assert (status, entry["reason"]) == (502, "certificate_unknown_issuer")
    assert scrape(front.admin)["kakehi_upstream_tls_errors_total"] == 1
    assert scrape(front.admin)["kakehi_backend_tls_fault"] == 1
    sentence = "its certificate is of an authority that is not trusted"
    assert any(sentence in each for each in front.daemon.status()["warnings"])
    url = f"http://{front.address}/"
    told = json.loads(front.daemon.run_cli("explain", url, "--json").stdout)
    assert sentence in told["backends"][0]["tls_fault"]
    assert sentence in front.daemon.run_cli("explain", url).stdout
    # And no longer once it goes.
    good = pki.make("shop.internal", issuer=CA)
    other = Secure(good.chain, good.key, front.directory)
    assert front.ask(other.address, CA.pem, server_name="shop.internal")[0] == 200
    assert front.daemon.status()["warnings"] == []
    assert "kakehi_backend_tls_fault" not in scrape(front.admin)


REASONS = {
    "plain": "not_tls",
    "silent": "closed",
    "old": "nothing_in_common",
    "wants": "wants_our_certificate",
}


@pytest.mark.parametrize("kind", REASONS)
def test_each_reason_has_its_word(front: Front, kind: str) -> None:
    leaf = pki.make("shop.internal", issuer=CA)
    if kind in ("plain", "silent"):
        listener = ports.listening()
        address = ports.of(listener)

        def answer() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                connection.recv(65536)
                if kind == "plain":
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                connection.close()

        threading.Thread(target=answer, daemon=True).start()
    elif kind == "old":
        limits = {
            "ciphers": "ECDHE-ECDSA-AES128-SHA",
            "maximum_version": ssl.TLSVersion.TLSv1_2,
        }
        address = Secure(leaf.chain, leaf.key, front.directory, **limits).address
    else:
        # In TLS 1.3 it says so after the handshake, as far as that is ours.
        wanted = {"verify_mode": ssl.CERT_REQUIRED, "minimum_version": ssl.TLSVersion.TLSv1_3}
        address = Secure(leaf.chain, leaf.key, front.directory, **wanted).address
    status, entry = front.ask(address, CA.pem, server_name="shop.internal")
    assert (status, entry["reason"]) == (502, REASONS[kind]), entry
    assert entry["outcome"] == ("backend_aborted" if kind == "wants" else "tls_failed")
    processes.wait_until(lambda: front.daemon.status()["warnings"], "it is told")
