"""TLS clients: Python's over exact bytes, and what `openssl s_client` and curl say.

Used by the TLS suite. A client trusts one authority and nobody else, so that a handshake that
succeeds proves chain and name; the certificate that it was shown is kept.
"""

from __future__ import annotations

import hashlib
import re
import socket
import ssl
import subprocess
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.harness import ports, rawclient
from tests.harness.pki import Pair

DEADLINE_S = 20.0


def trusting(
    authority: Pair,
    *,
    version: ssl.TLSVersion | None = None,
    ciphers: str = "",
    check_hostname: bool = True,
) -> ssl.SSLContext:
    """What a client needs that trusts this authority alone; `version` is the only one it has."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = check_hostname
    context.load_verify_locations(cadata=authority.pem.decode())
    context.set_alpn_protocols(["http/1.1"])
    if version is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = context.maximum_version = version
    if ciphers:
        context.set_ciphers(ciphers)
    return context


def trusting_file(path: str) -> ssl.SSLContext:
    """As `trusting`, for a process of its own, which has the authority's PEM file."""
    return ssl.create_default_context(cafile=path)


class TlsConnection(rawclient.Connection):
    """One TLS connection; everything that `rawclient` does goes through it."""

    socket: ssl.SSLSocket

    def __init__(
        self,
        address: str,
        context: ssl.SSLContext,
        name: str | None,
        *,
        session: ssl.SSLSession | None = None,
        deadline_s: float = rawclient.DEADLINE_S,
    ) -> None:
        super().__init__(address)
        plain: socket.socket = self.socket
        plain.settimeout(deadline_s)
        try:
            self.socket = context.wrap_socket(plain, server_hostname=name, session=session)
        except BaseException:
            plain.close()
            raise
        self.shown = self.socket.getpeercert(binary_form=True) or b""

    def is_open(self) -> bool:
        """Say whether the peer has closed; session tickets may lie about unread until now."""
        self.socket.setblocking(False)
        try:
            data = self.socket.recv(1)
        except ssl.SSLWantReadError:
            return True
        except OSError:
            return False
        finally:
            self.socket.settimeout(rawclient.DEADLINE_S)
        self._buffer += data
        return bool(data)

    def has_bytes(self) -> bool:
        """Of the peer's connection, so that a ticket counts."""
        return bool(self.socket.pending()) or super().has_bytes()


def shown(address: str, context: ssl.SSLContext, name: str | None) -> bytes:
    """The certificate (DER) that one new handshake shows."""
    with TlsConnection(address, context, name) as connection:
        return connection.shown


@dataclass(frozen=True, slots=True)
class Said:
    """What `openssl s_client` said of one handshake."""

    code: int
    text: str

    @property
    def version(self) -> str:
        """As `TLSv1.3`; empty when the handshake failed."""
        found = re.search(
            r"^(?:New|Reused), (TLSv[\d.]+), Cipher is (?!\(NONE\))", self.text, re.MULTILINE
        )
        if found is None:
            return ""
        # For TLS 1.2 that line names the version of the suite; the session has the real one.
        real = re.search(r"^ +Protocol +: (TLSv[\d.]+)$", self.text, re.MULTILINE)
        return real[1] if real else found[1]

    @property
    def cipher(self) -> str:
        """By OpenSSL's name; empty when the handshake failed."""
        found = re.search(r"Cipher is (\S+)", self.text)
        return "" if found is None or found[1] == "(NONE)" else found[1]

    @property
    def resumed(self) -> bool:
        return re.search(r"^Reused, TLSv", self.text, re.MULTILINE) is not None

    @property
    def verified(self) -> bool:
        return "Verify return code: 0 (ok)" in self.text

    @property
    def body(self) -> str:
        """The last line, which is the body of a short answer."""
        return self.text.rstrip().rpartition("\n")[2]

    @property
    def leaf(self) -> str:
        """SHA-256 of the certificate that was shown."""
        found = re.search(
            r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", self.text, re.DOTALL
        )
        assert found, self.text
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(found[0])).hexdigest()


def s_client(address: str, *options: str, name: str = "", host: str = "") -> Said:
    """One handshake; with a host also one request, after whose answer the proxy closes."""
    sni = ["-servername", name] if name else ["-noservername"]
    request = f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n" if host else ""
    done = subprocess.run(
        [
            *("openssl", "s_client", "-connect", address, *sni),
            *(["-ign_eof"] if host else []),
            *options,
        ],
        input=request.encode(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=DEADLINE_S,
    )
    return Said(done.returncode, done.stdout.decode("latin-1"))


def curl(address: str, name: str, *options: str) -> subprocess.CompletedProcess[bytes]:
    """GET https://NAME/ at that address."""
    host, port = ports.split(address)
    return subprocess.run(
        [
            *("curl", "--silent", "--show-error", "--max-time", f"{DEADLINE_S:.0f}"),
            *("--noproxy", "*", "--resolve", f"{name}:{port}:{host}", *options),
            f"https://{name}:{port}/",
        ],
        capture_output=True,
        timeout=DEADLINE_S + 5,
    )


def written(directory: Path, name: str, content: bytes) -> str:
    """The path of a file for a program that reads none but files."""
    path = directory / name
    path.write_bytes(content)
    return str(path)


def fingerprints(pairs: Sequence[Pair]) -> list[str]:
    """SHA-256 of the leaves, as `Said.leaf` has it."""
    return [hashlib.sha256(pair.der).hexdigest() for pair in pairs]
