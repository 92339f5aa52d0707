"""Ten thousand certificates for as many hostnames: one more costs one, and a handshake the same.

Issue line 3. Two daemons side by side, one with few certificates, asked in turns.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import statistics
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bench.measuring.accounting import cpu_ns
from tests.harness import pki, ports
from tests.harness.daemon import Kakehi, resident_kib
from tests.harness.repo import Content, Repo

# Processor time of one change and of one handshake, by ratio.
pytestmark = pytest.mark.timed

_MANY, _FEW = 10_000, 10
_PER_FILE = 100
_CHANGES = 11
_ROUNDS, _HANDSHAKES = (15, 150) if os.environ.get("KAKEHI_TEST_LONG") else (9, 100)
_LOAD_S_MAX = 120.0
_GROWTH_MAX = 2.0
# A smaller size that takes less than this is as likely to have been lucky.
_FLOOR_MS = 6.0
_WORKER_BYTES_MAX = 16 * 1024
# The target is 1.05; what is between is the noise of one measurement on a shared machine.
_HANDSHAKE_RATIO_MAX = 1.15


def hostname(number: int) -> str:
    return f"shop-{number:05}.example.com"


@cache
def key() -> ec.EllipticCurvePrivateKey:
    """One for all: each is read by itself, and what it costs does not depend on its bits."""
    return ec.generate_private_key(ec.SECP256R1())


def chain(number: int) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hostname(number))])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key().public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=90))
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(hostname(number))]), critical=False
        )
        .sign(key(), hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM)


class Subject:
    """One daemon with so many certificates."""

    def __init__(self, directory: Path, count: int) -> None:
        self.count = count
        self.address, plain = ports.address(), ports.address()
        self.daemon = Kakehi(Repo(directory / f"repository-{count}"))
        self.head: dict[str, Content] = {
            "kakehi.yaml": {
                "settings": {"access_log": "off"},
                "listeners": {
                    "secure": {"address": self.address, "protocol": "https"},
                    "plain": {"address": plain},
                },
                "clusters": {"main": {"backends": {"none": {"address": "127.0.0.1:9"}}}},
                "frontends": {"main": {"listeners": ["secure", "plain"], "cluster": "main"}},
            },
            "tls/all.key": pki.private_pem(key()),
        }

    def start(self) -> None:
        self.daemon.repo.commit(self.head)
        self.daemon.start()
        assert self.daemon.process is not None
        self.pids = [self.daemon.process.pid, *self.daemon.worker_pids()]

    def load(self) -> tuple[float, float]:
        """Bring all certificates in one commit; the seconds, and a worker's bytes for each."""
        before = resident_kib(self.pids[1])
        files: dict[str, Content] = {}
        for first in range(0, self.count, _PER_FILE):
            files |= self.certificates(range(first, min(first + _PER_FILE, self.count)))
        sha = self.daemon.repo.commit(files)
        began = time.monotonic()
        done = self.daemon.run_cli("wait", "--commit", sha, "--timeout", "180s", timeout_s=200)
        assert done.returncode == 0, done.stderr
        took_s = time.monotonic() - began
        return took_s, (resident_kib(self.pids[1]) - before) * 1024 / self.count

    @staticmethod
    def certificates(numbers: range) -> dict[str, Content]:
        entries = {
            f"shop-{number}": {
                "certificate": f"tls/{number // _PER_FILE}/{number}.crt",
                "private_key": "tls/all.key",
            }
            for number in numbers
        }
        files: dict[str, Content] = {
            f"certificates/{numbers.start:05}.yaml": {"certificates": entries}
        }
        for number in numbers:
            files[f"tls/{number // _PER_FILE}/{number}.crt"] = chain(number)
        return files

    def add(self, number: int) -> float:
        """Add one certificate; the milliseconds of CPU that all processes took for it."""
        files = self.certificates(range(number, number + 1))
        before = cpu_ns(self.pids)
        self.daemon.commit(files)
        spent = (cpu_ns(self.pids) - before) / 1e6
        assert self.shown(hostname(number))
        return spent

    def shown(self, name: str) -> bool:
        """Whether the certificate of that name is shown to whoever asks for it."""
        with self._handshake(name) as connection:
            der = connection.getpeercert(binary_form=True)
        assert der is not None
        names = x509.load_der_x509_certificate(der).extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        )
        return names.value.get_values_for_type(x509.DNSName) == [name]

    def handshakes(self, number: int) -> float:
        """Microseconds of the worker's CPU for each of many whole handshakes."""
        before = cpu_ns(self.pids[1:])
        for each in range(_HANDSHAKES):
            name = hostname((number * _HANDSHAKES + each) * 7 % self.count)
            self._handshake(name).close()
        return (cpu_ns(self.pids[1:]) - before) / 1e3 / _HANDSHAKES

    def _handshake(self, name: str) -> ssl.SSLSocket:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        plain = socket.create_connection(ports.split(self.address), 20)
        return context.wrap_socket(plain, server_hostname=name)


@contextlib.contextmanager
def running(directory: Path, count: int) -> Iterator[Subject]:
    subject = Subject(directory, count)
    subject.start()
    try:
        yield subject
    finally:
        subject.daemon.stop()


def test_ten_thousand_certificates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with running(tmp_path, _FEW) as few, running(tmp_path, _MANY) as many:
        few.load()
        took_s, each_bytes = many.load()
        assert many.daemon.status()["entities"]["certificate"] == _MANY
        assert all(many.shown(hostname(number)) for number in range(0, _MANY, 997))
        added: dict[int, list[float]] = {_FEW: [], _MANY: []}
        for number in range(_CHANGES):
            for subject in (few, many):
                added[subject.count].append(subject.add(_MANY + number))
        shook: dict[int, list[float]] = {_FEW: [], _MANY: []}
        for number in range(_ROUNDS):
            for subject in (few, many) if number % 2 else (many, few):
                shook[subject.count].append(subject.handshakes(number))
    small, large = (statistics.median(added[count]) for count in (_FEW, _MANY))
    ratio = statistics.median(
        large / small for small, large in zip(shook[_FEW], shook[_MANY], strict=True)
    )
    with capsys.disabled():
        print(
            f"\n{_MANY} certificates in {took_s:.1f} s, {each_bytes:.0f} B each in the worker; one "
            f"more costs {large:.1f} ms of CPU, at {_FEW} {small:.1f} ms; a handshake "
            f"{statistics.median(shook[_MANY]):.0f} µs, {ratio:.3f} of that at {_FEW}"
        )
    assert took_s <= _LOAD_S_MAX
    assert each_bytes <= _WORKER_BYTES_MAX
    assert large <= _GROWTH_MAX * max(small, _FLOOR_MS)
    assert ratio <= _HANDSHAKE_RATIO_MAX
