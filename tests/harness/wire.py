"""A strict HTTP/1.1 reader for both directions, used to judge what the proxy sent.

It accepts only what RFC 9110 and RFC 9112 let a sender produce, so a message that two
recipients could read in two ways is an error here. The clients and backends keep the raw
bytes; this module turns them into messages or says where they stop making sense.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(rb"[\x21-\x7e\x80-\xff](?:[\t \x21-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?|")
_TARGET = re.compile(rb"[\x21-\x7e]+")
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})((?:;[\t \x21-\x7e\x80-\xff]*)?)")
_DIGITS = re.compile(rb"[0-9]{1,18}")

Fields = list[tuple[bytes, bytes]]


class Malformed(Exception):
    """The bytes are not a message that a sender is allowed to produce."""


@dataclass
class Message:
    """What a request and a response have in common."""

    fields: Fields
    body: bytes = b""
    trailers: Fields = field(default_factory=list)
    framing: str = "none"  # none | length | chunked | close

    def all(self, name: str) -> list[bytes]:
        """Return the values of every field line of this name, in order."""
        wanted = name.lower().encode()
        return [value for key, value in self.fields if key.lower() == wanted]

    def get(self, name: str) -> bytes | None:
        """Return the only value of this name, or None; more than one field line is an error."""
        values = self.all(name)
        if len(values) > 1:
            raise Malformed(f"{len(values)} field lines named {name}: {values!r}")
        return values[0] if values else None

    def elements(self, name: str) -> list[bytes]:
        """Return the elements of a list field, lower case, over all of its lines."""
        joined = b",".join(self.all(name))
        return [part.strip().lower() for part in joined.split(b",") if part.strip()]

    def names(self) -> set[str]:
        return {key.lower().decode("latin-1") for key, _ in self.fields}


@dataclass
class Request(Message):
    method: bytes = b""
    target: bytes = b""
    version: bytes = b""

    @property
    def path(self) -> str:
        return self.target.decode("latin-1")


@dataclass
class Response(Message):
    status: int = 0
    reason: bytes = b""
    version: bytes = b""

    @property
    def keeps_alive(self) -> bool:
        options = self.elements("connection")
        if self.version == b"HTTP/1.0":
            return b"keep-alive" in options
        return b"close" not in options


def split_head(data: bytes) -> tuple[bytes, bytes] | None:
    """Split data at the end of the head; None while the blank line has not arrived."""
    head, separator, rest = data.partition(b"\r\n\r\n")
    return (head + b"\r\n", rest) if separator else None


def parse_fields(lines: Iterable[bytes]) -> Fields:
    fields: Fields = []
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not TOKEN.fullmatch(name):
            raise Malformed(f"not a field line: {line!r}")
        stripped = value.strip(b" \t")
        if not _VALUE.fullmatch(stripped):
            raise Malformed(f"not a field value: {line!r}")
        fields.append((name, stripped))
    return fields


def _head_lines(head: bytes) -> list[bytes]:
    lines = head.split(b"\r\n")
    assert lines[-1] == b""
    for line in lines:
        if b"\r" in line or b"\n" in line or b"\0" in line:
            raise Malformed(f"CR, LF or NUL inside a line: {line!r}")
    return lines[:-1]


def parse_request_head(head: bytes) -> Request:
    start, *rest = _head_lines(head)
    parts = start.split(b" ")
    if len(parts) != 3:
        raise Malformed(f"not a request line: {start!r}")
    method, target, version = parts
    if not TOKEN.fullmatch(method) or not _TARGET.fullmatch(target):
        raise Malformed(f"not a request line: {start!r}")
    if version not in (b"HTTP/1.1", b"HTTP/1.0"):
        raise Malformed(f"not a version: {start!r}")
    request = Request(parse_fields(rest), method=method, target=target, version=version)
    if len(request.all("host")) != 1 and version == b"HTTP/1.1":
        raise Malformed(f"{len(request.all('host'))} Host field lines: {head!r}")
    return request


def parse_response_head(head: bytes) -> Response:
    start, *rest = _head_lines(head)
    match = re.fullmatch(rb"(HTTP/1\.[01]) ([1-9][0-9]{2}) ([\t \x21-\x7e\x80-\xff]*)", start)
    if match is None:
        raise Malformed(f"not a status line: {start!r}")
    version, status, reason = match.groups()
    return Response(parse_fields(rest), status=int(status), reason=reason, version=version)


def content_length(message: Message) -> int | None:
    """Return the declared length; more than one, or anything but digits, is an error."""
    value = message.get("content-length")
    if value is None:
        return None
    if not _DIGITS.fullmatch(value):
        raise Malformed(f"not a Content-Length: {value!r}")
    return int(value)


def _declared_framing(message: Message) -> tuple[str, int]:
    """Return how the message says that it is framed: ('chunked'|'length'|'none', length)."""
    codings = message.all("transfer-encoding")
    length = content_length(message)
    if codings:
        if length is not None:
            raise Malformed("Transfer-Encoding together with Content-Length")
        if [coding.lower() for coding in codings] != [b"chunked"]:
            raise Malformed(f"Transfer-Encoding is not exactly chunked: {codings!r}")
        return "chunked", 0
    return ("length", length) if length is not None else ("none", 0)


def request_framing(request: Request) -> tuple[str, int]:
    kind, length = _declared_framing(request)
    if kind == "chunked" and request.version != b"HTTP/1.1":
        raise Malformed("chunked in an HTTP/1.0 request")
    return kind, length


def response_framing(response: Response, method: bytes) -> tuple[str, int]:
    """RFC 9112 section 6.3, from the client's side."""
    kind, length = _declared_framing(response)
    if kind == "chunked" and response.version != b"HTTP/1.1":
        raise Malformed("chunked in an HTTP/1.0 response")
    if response.status < 200 or response.status == 204:
        if kind != "none":
            raise Malformed(f"{response.status} with a declared body: {response.fields!r}")
        return "none", 0
    if method == b"HEAD" or response.status == 304:
        return "none", 0
    return ("close", 0) if kind == "none" else (kind, length)


class ChunkReader:
    """Strict incremental reader of one chunked body; feed bytes, look at `done`, take `rest`."""

    def __init__(self) -> None:
        self.body = bytearray()
        self.trailers: Fields = []
        self.chunks: list[int] = []
        self.done = False
        self._buffer = bytearray()
        self._left = 0
        self._state = "size"

    @property
    def rest(self) -> bytes:
        return bytes(self._buffer)

    def feed(self, data: bytes) -> None:
        self._buffer += data
        while not self.done and self._step():
            pass

    def _step(self) -> bool:
        if self._state == "data":
            taken = min(self._left, len(self._buffer))
            self.body += self._buffer[:taken]
            del self._buffer[:taken]
            self._left -= taken
            if self._left:
                return False
            self._state = "end"
        line = self._line()
        if line is None:
            return False
        if self._state == "end":
            if line:
                raise Malformed(f"chunk data not followed by CRLF but by {line!r}")
            self._state = "size"
        elif self._state == "size":
            match = _CHUNK_LINE.fullmatch(line)
            if match is None:
                raise Malformed(f"not a chunk size line: {line!r}")
            self._left = int(match[1], 16)
            self.chunks.append(self._left)
            self._state = "data" if self._left else "trailers"
        elif line:
            self.trailers += parse_fields([line])
        else:
            self.done = True
        return True

    def _line(self) -> bytes | None:
        end = self._buffer.find(b"\n")
        if end < 0:
            return None
        line = bytes(self._buffer[: end + 1])
        del self._buffer[: end + 1]
        if not line.endswith(b"\r\n") or b"\r" in line[:-2]:
            raise Malformed(f"line in a chunked body not ended by CRLF alone: {line!r}")
        return line[:-2]


@dataclass
class RequestStream:
    """Everything that one connection carried towards a backend, read strictly."""

    requests: list[Request]
    partial: bytes  # what follows the last complete request: part of one more


def parse_request_stream(data: bytes) -> RequestStream:
    """Read the bytes of one connection as a sequence of requests; raises Malformed."""
    requests: list[Request] = []
    while data:
        split = split_head(data)
        if split is None:
            break
        head, rest = split
        request = parse_request_head(head)
        kind, length = request_framing(request)
        request.framing = kind
        if kind == "chunked":
            reader = ChunkReader()
            reader.feed(rest)
            if not reader.done:
                break
            request.body, request.trailers = bytes(reader.body), reader.trailers
            rest = reader.rest
        elif len(rest) < length:
            break
        else:
            request.body, rest = rest[:length], rest[length:]
        requests.append(request)
        data = rest
    return RequestStream(requests, data)


def chunked(body: bytes, size: int = 0, trailers: Fields | None = None) -> bytes:
    """Encode a body in chunks of `size` bytes (one chunk when 0), with trailers."""
    step = size or max(len(body), 1)
    parts = [body[start : start + step] for start in range(0, len(body), step)]
    encoded = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
    lines = b"".join(b"%s: %s\r\n" % line for line in trailers or [])
    return encoded + b"0\r\n" + lines + b"\r\n"


def response(
    body: bytes = b"ok",
    *,
    status: str = "200 OK",
    fields: Iterable[tuple[str, str]] = (),
    framing: str = "length",
) -> bytes:
    """Build the bytes of a response: framing is length, chunked, close or none."""
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in fields)]
    if framing == "length":
        lines.append(f"Content-Length: {len(body)}")
    elif framing == "chunked":
        lines.append("Transfer-Encoding: chunked")
        body = chunked(body)
    elif framing == "close":
        lines.append("Connection: close")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body
