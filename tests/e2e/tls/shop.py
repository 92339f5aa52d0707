"""A daemon with an https listener, and clients that look at what they are shown."""

from __future__ import annotations

import http.client
import socket
import ssl
from pathlib import Path
from typing import Any

from tests.harness import ports
from tests.harness.daemon import Kakehi
from tests.harness.pki import Pair
from tests.harness.rawbackend import RawBackend
from tests.harness.repo import Repo


class Shop:
    """Two workers, one backend, an https listener. `directory` is for files outside of git."""

    def __init__(self, directory: Path) -> None:
        self.address, self.backend = ports.address(), RawBackend()
        self.repo = Repo(directory / "repository")
        self.daemon = Kakehi(self.repo, workers=2)
        self.outside = directory / "outside"
        self.outside.mkdir()

    def __enter__(self) -> Shop:
        return self

    def __exit__(self, *_: object) -> None:
        if self.daemon.process is not None:
            self.daemon.stop()
        self.backend.stop()

    def renew_backend(self) -> None:
        """Another one, that has seen nothing: for tests that share a daemon."""
        self.backend.stop()
        self.backend = RawBackend()

    def start(self, **certificates: Pair) -> None:
        """Commit these certificates and start."""
        self.repo.commit(self.files(None, **certificates))
        self.daemon.start()

    def commit(self, **certificates: Pair) -> None:
        """Commit other contents for these certificates, and wait until they are served."""
        self.daemon.commit(self.files(None, **certificates))

    def files(self, tls: dict[str, Any] | None = None, /, **certificates: Pair) -> dict[str, Any]:
        """The whole configuration, and the PEM files that it names."""
        named = {
            name: {"certificate": f"tls/{name}.crt", "private_key": f"tls/{name}.key"}
            for name in certificates
        }
        files: dict[str, Any] = {
            "kakehi.yaml": self.document(tls, {"certificates": named} if named else {})
        }
        for name, pair in certificates.items():
            files[f"tls/{name}.crt"] = pair.chain.decode()
            files[f"tls/{name}.key"] = pair.key.decode()
        return files

    def document(self, tls: dict[str, Any] | None, more: dict[str, Any]) -> dict[str, Any]:
        return {
            "settings": {"access_log": str(self.daemon.access_log), "drain_timeout": "3s"},
            "listeners": {
                "front": {"address": self.address, "protocol": "https", "tls": tls or {}}
            },
            "clusters": {"shop": {"backends": {"raw": {"address": self.backend.address}}}},
            "frontends": {"all": {"listeners": ["front"], "cluster": "shop"}},
            **more,
        }

    def connect(self, host: str | None, context: ssl.SSLContext | None = None) -> ssl.SSLSocket:
        """One connection; raises `ssl.SSLError` when the handshake is refused."""
        plain = socket.create_connection(ports.split(self.address), 10)
        return (context or anyone()).wrap_socket(plain, server_hostname=host)

    def shown(self, host: str | None = "shop.test") -> bytes | None:
        """The certificate of a new handshake."""
        with self.connect(host) as connection:
            return connection.getpeercert(binary_form=True)

    def shown_everywhere(self, host: str = "shop.test") -> set[bytes | None]:
        """Those of so many handshakes that each worker had some."""
        return {self.shown(host) for _ in range(24)}


def anyone() -> ssl.SSLContext:
    """A context that takes any certificate: which one came is what is asserted."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def get(connection: ssl.SSLSocket, path: str = "/") -> int:
    """The status of one request on a connection that stays open."""
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: shop.test\r\n\r\n".encode())
    response = http.client.HTTPResponse(connection)
    response.begin()
    response.read()
    return response.status
