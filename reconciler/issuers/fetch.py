"""Fetches one file over https. Blocking, and bounded in size and time; every failure is a sentence.

No redirect is followed and no proxy of the environment asked: keys come from where the
configuration says, or not at all. Called by `reconciler.issuers.keeping`, in a thread.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
from contextlib import suppress
from urllib.parse import urlsplit

from reconciler.errors import UnreadableError
from reconciler.materials.reading import read_external

FETCHED_BYTES_MAX = 256 * 1024
"""A hundred keys of RSA, with their certificates."""
CONNECT_TIMEOUT_S = 5.0
FETCH_TIMEOUT_S = 15.0
TOO_LATE = "it did not answer in time"
_CUT_OFF = "it ended before its end"
_PIECE_BYTES = 16 * 1024


class FetchError(Exception):
    """What is at a URL could not be had; the text is a sentence."""


def fetch(url: str, ca: str | None, timeout_s: float = FETCH_TIMEOUT_S) -> bytes:
    """Return what is at a URL. `ca`: authorities to trust, or None. Raises `FetchError`."""
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        trusted = read_external(ca).decode("ascii", "replace") if ca is not None else None
        context = ssl.create_default_context(cadata=trusted)
    except (UnreadableError, ssl.SSLError) as error:
        raise FetchError(f"{ca}: {error}") from None
    # Without a port it would look for one at the end of an address of IPv6.
    host, port = parts.hostname or "", parts.port or http.client.HTTPS_PORT
    connection = http.client.HTTPSConnection(host, port, context=context)
    ended = _Ended()
    # The timeout of a socket is that of one step: who sends a byte a second would never end.
    timer = threading.Timer(timeout_s, ended.end)
    timer.daemon = True
    timer.start()
    try:
        plain = socket.create_connection((host, port), CONNECT_TIMEOUT_S)
        connection.sock = ended.socket = context.wrap_socket(
            plain, server_hostname=host, do_handshake_on_connect=False
        )
        if ended.is_late:
            raise FetchError(TOO_LATE)
        connection.sock.do_handshake()
        content = _answer(connection, target)
        # Our own end of it looks like that of an answer without a length.
        if ended.is_late:
            raise FetchError(TOO_LATE)
        return content
    except (FetchError, OSError, http.client.HTTPException) as error:
        if ended.is_late or isinstance(error, TimeoutError):
            raise FetchError(TOO_LATE) from None
        raise FetchError(_reason(error)) from None
    finally:
        timer.cancel()
        connection.close()


class _Ended:
    """Ends what a connection waits for: a handshake, a head, a body."""

    def __init__(self) -> None:
        self.socket: socket.socket | None = None
        self.is_late = False

    def end(self) -> None:
        self.is_late = True
        if self.socket is not None:
            with suppress(OSError):
                self.socket.shutdown(socket.SHUT_RDWR)


def _answer(connection: http.client.HTTPSConnection, target: str) -> bytes:
    fields = {"Accept": "application/jwk-set+json, application/json", "User-Agent": "kakehi"}
    connection.request("GET", target, headers=fields)
    with connection.getresponse() as response:
        if response.status != http.HTTPStatus.OK:
            moved = "; redirects are not followed" if 300 <= response.status < 400 else ""
            raise FetchError(f"it answered {response.status}{moved}")
        content = bytearray()
        while piece := response.read1(_PIECE_BYTES):
            content += piece
            if len(content) > FETCHED_BYTES_MAX:
                raise FetchError(f"it is larger than {FETCHED_BYTES_MAX // 1024} KiB")
        if response.length:
            raise FetchError(_CUT_OFF)
        return bytes(content)


def _reason(error: Exception) -> str:
    if isinstance(error, FetchError):
        return str(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    if isinstance(error, socket.gaierror):
        return f"its name has no address: {error.strerror}"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if isinstance(error, http.client.IncompleteRead):
        return _CUT_OFF
    return f"it speaks no HTTP: {type(error).__name__}"
