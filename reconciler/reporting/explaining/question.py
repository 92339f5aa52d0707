"""The request that is asked about: as it is written, and as a listener reads it.

Called by `reconciler.reporting.explaining.explain`.
"""

from __future__ import annotations

import re
from dataclasses import field, replace
from ipaddress import ip_address
from urllib.parse import quote, urlsplit

from schemas.messages.control import ExplainRequest
from schemas.record import record
from schemas.values.names import ascii_hostname

_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_FOREIGN = re.compile(r"[^\x00-\x7f]+")
# Listeners that read nothing of what comes; no port is the usual one there.
_BYTES = ("tcp", "tls")
_SHOWN_CHARS_MAX = 100
_DIGITS_MAX = 20
_CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


class UnexplainableError(ValueError):
    """The request makes no sense; the message says why."""


@record
class Asked:
    """The request: as it is written, and behind `as_read` as a listener reads it."""

    scheme: str | None
    """None: the URL leaves it open."""
    name: str
    """The host in the URL, which a client names in its handshake."""
    hostname: str
    port: int | None
    path: str
    query: str
    method: str
    headers: list[tuple[str, str]] = field(default_factory=list)
    client: str | None = None
    """The address of who asks; None where that is not known."""

    def header(self, name: str) -> str | None:
        """The value of a field, by its name in lower case; the last of several."""
        return dict(self.headers).get(name)

    @property
    def length(self) -> int | None:
        """Of its body, as far as its head tells."""
        length = self.header("content-length") or ""
        return int(length) if length.isdecimal() and len(length) < _DIGITS_MAX else None

    @property
    def preflight_of(self) -> str | None:
        """The origin of the page for which a browser asks whether it may (CORS), if that is so."""
        asks = self.header("access-control-request-method") is not None
        return self.header("origin") if self.method == "OPTIONS" and asks else None


def asked_by(request: ExplainRequest) -> Asked:
    """Raises `UnexplainableError` on a URL that is none, and on what no client can send."""
    has_scheme = "://" in request.url
    url = request.url if has_scheme else f"http://{request.url}"
    if "\t" in url or _CONTROLS.search(url):
        # Some of them `urlsplit` takes out silently.
        raise UnexplainableError(f"{request.url!r} has control characters, which no URL has")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise UnexplainableError(f"{request.url!r} is not a URL: {error}") from None
    if parts.scheme not in ("http", "https", *_BYTES) or not parts.hostname:
        raise UnexplainableError(f"{request.url!r} is not an http URL with a hostname")
    if parts.scheme in _BYTES and port is None:
        example = f"{parts.scheme}://{parts.hostname}:5432"
        raise UnexplainableError(f"{request.url!r} has no port, like {example}")
    name = _ascii(parts.hostname, request.url)
    headers = [_header(each) for each in request.headers]
    client = _address(request.client_address)
    host = next((value for name, value in headers if name == "host"), None)
    return Asked(
        scheme=parts.scheme if has_scheme else None,
        name=name,
        hostname=host or _authority(parts.netloc, name, port),
        port=port,
        path=_escaped(parts.path) or "/",
        query=_escaped(parts.query),
        method=request.method,
        headers=headers,
        client=client,
    )


def _ascii(hostname: str, url: str) -> str:
    """The host as a browser names it. Raises `UnexplainableError`."""
    name = hostname.rstrip(".")
    found = name if name.isascii() else ascii_hostname(name)
    if found is None:
        raise UnexplainableError(f"{url!r} has no hostname that a client can ask for: {name}")
    return found


def _authority(netloc: str, name: str, port: int | None) -> str:
    if netloc.isascii():
        return netloc.rpartition("@")[2]
    return name if port is None else f"{name}:{port}"


def _escaped(text: str) -> str:
    """What browsers send of letters that no request line may have."""
    return text if text.isascii() else _FOREIGN.sub(lambda found: quote(found[0]), text)


def _header(field_line: list[str]) -> tuple[str, str]:
    """The field as it is compared. Raises `UnexplainableError` when no client can send it."""
    text = ": ".join(field_line)
    if len(field_line) != 2 or not _TOKEN.fullmatch(field_line[0]) or _CONTROLS.search(text):
        raise UnexplainableError(f"{text!r} is not a header that a client can send")
    return field_line[0].lower(), field_line[1]


def _address(text: str | None) -> str | None:
    """Return who asks in the engine's form. Raises `UnexplainableError` when it is no address."""
    if text is None:
        return None
    try:
        found = ip_address(text.strip("[]"))
        if getattr(found, "scope_id", None) is not None:
            raise ValueError("a zone is a name of this machine's, which a client has not")
        return str(found)
    except ValueError:
        raise UnexplainableError(f"{text!r} is not an IP address that a client may have") from None


def as_read(asked: Asked, *, merge_slashes: bool, head_bytes: int | None) -> Asked:
    """The request as a listener reads it. Raises `UnexplainableError` when it would be refused."""
    from routing import place_of  # noqa: PLC0415  # loads the engine, only for who asks

    target = f"{asked.path}?{asked.query}" if asked.query else asked.path
    try:
        place = place_of(asked.method, target, asked.hostname, merge_slashes=merge_slashes)
        if head_bytes is not None:
            _expect_small(asked, target, head_bytes)
    except ValueError as error:
        reason, status = error.args
        if len(target) > _SHOWN_CHARS_MAX:
            target = f"{target[:_SHOWN_CHARS_MAX]}…"
        what = f"{asked.method} {target} of {asked.hostname}"
        raise UnexplainableError(f"the proxy answers {status} to {what}: {reason}") from None
    return replace(asked, hostname=place.hostname, path=place.path, query=place.query)


def _expect_small(asked: Asked, target: str, head_bytes: int) -> None:
    """Raises `ValueError` with reason and status, as the engine does, for a head that is none."""
    line = len(f"{asked.method} {target} HTTP/1.1\r\n".encode())
    if line > head_bytes:
        raise ValueError("target_too_long", 414)
    fields = asked.headers
    if all(name != "host" for name, _ in fields):
        fields = [("host", asked.hostname), *fields]
    size = sum(len(f"{name}: {value}\r\n".encode()) for name, value in fields)
    if line + size + len("\r\n") > head_bytes:
        raise ValueError("head_too_large", 431)
