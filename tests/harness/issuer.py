"""A server of an issuer: what it has at its URL, over TLS, and how often it was asked."""

from __future__ import annotations

import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from tests.harness import ports
from tests.harness.pki import Pair


class KeyServer:
    """Answers every GET by what a test has put there."""

    def __init__(self, directory: Path, pair: Pair) -> None:
        self.content, self.status, self.asked = b"", 200, 0
        self.pause_s, self.location = 0.0, ""
        self.framing, self.left_out = "length", 0
        self.gone = threading.Event()
        chain, key = directory / "issuer.crt", directory / "issuer.key"
        chain.write_bytes(pair.chain)
        key.write_bytes(pair.key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain, key)
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, *_unused: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", ports.free_port()), Handler)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self._server.server_address[1]}/keys.json"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Say what is there, a byte at a time if there is a pause.

        `framing`: by its length, by "chunks", or by the "end" of the connection; so many bytes of
        it are `left_out`.
        """
        self.asked += 1
        request.send_response(self.status)
        if self.location:
            request.send_header("Location", self.location)
        head = b""
        if self.framing == "length":
            request.send_header("Content-Length", str(len(self.content)))
        elif self.framing == "chunks":
            request.protocol_version = "HTTP/1.1"
            request.send_header("Transfer-Encoding", "chunked")
            head = f"{len(self.content):x}\r\n".encode()
        request.end_headers()
        sent = head + self.content[: len(self.content) - self.left_out]
        if self.framing == "chunks" and not self.left_out:
            sent += b"\r\n0\r\n\r\n"
        if not self.pause_s:
            request.wfile.write(sent)
        for byte in sent if self.pause_s else b"":
            if self.gone.wait(self.pause_s):
                return
            request.wfile.write(bytes([byte]))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_unused: object) -> None:
        self.gone.set()
        self._server.shutdown()
        self._server.server_close()
