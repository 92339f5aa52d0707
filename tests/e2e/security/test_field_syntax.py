"""T13, T21, T25: request lines and fields that are no valid syntax, or not what they seem."""

from __future__ import annotations

import pytest

from tests.harness import attack
from tests.harness.gateway import Lane

BOTH_WAYS = pytest.mark.parametrize("byte_by_byte", [False, True], ids=["whole", "bytes"])

FIELDS = {
    "carriage-return-in-value": b"X: a\rb",
    "carriage-return-at-the-end": b"X: a\r\r\nY: b",
    "nul-in-value": b"X: a\0b",
    "line-feed-as-line-end": b"X: a\nY: b",
    "line-feed-then-field": b"X: a\nContent-Length: 5",
    "folded-with-space": b"X: a\r\n b",
    "folded-with-tab": b"X: a\r\n\tb",
    "folded-blank": b"X: a\r\n \r\nY: b",
    "no-colon": b"X",
    "no-colon-but-a-value": b"X a",
    "empty-name": b": a",
    "space-before-colon": b"X : a",
    "tab-before-colon": b"X\t: a",
    "space-in-name": b"X Y: a",
    "parenthesis-in-name": b"X(Y): a",
    "slash-in-name": b"X/Y: a",
    "at-in-name": b"X@Y: a",
    "comma-in-name": b"X,Y: a",
    "quote-in-name": b'"X": a',
    "bracket-in-name": b"X[Y]: a",
    "brace-in-name": b"X{Y}: a",
    "equals-in-name": b"X=Y: a",
    "beyond-ascii-in-name": b"X\xe9: a",
    "nul-in-name": b"X\0Y: a",
    "carriage-return-in-name": b"X\rY: a",
    "control-in-name": b"X\x01Y: a",
    "delete-in-name": b"X\x7fY: a",
    "control-01-in-value": b"X: a\x01b",
    "backspace-in-value": b"X: a\x08b",
    "vertical-tab-in-value": b"X: a\x0bb",
    "form-feed-in-value": b"X: a\x0cb",
    "escape-in-value": b"X: a\x1bb",
    "delete-in-value": b"X: a\x7fb",
    "space-before-name": b" X: a",
}


@BOTH_WAYS
@pytest.mark.parametrize("field", FIELDS.values(), ids=FIELDS)
def test_t13_fields(lane: Lane, field: bytes, byte_by_byte: bool) -> None:
    data = lane.head("GET /")[:-2] + field + b"\r\n\r\n"
    attack.refused(lane, data, byte_by_byte=byte_by_byte)


@pytest.mark.parametrize("field", FIELDS.values(), ids=FIELDS)
def test_t13_fields_first(lane: Lane, field: bytes) -> None:
    data = b"GET / HTTP/1.1\r\n" + field + b"\r\nHost: " + lane.host.encode() + b"\r\n\r\n"
    attack.refused(lane, data)


LINES = {
    "two-spaces": b"GET  / HTTP/1.1\r\n",
    "two-spaces-before-version": b"GET /  HTTP/1.1\r\n",
    "space-first": b" GET / HTTP/1.1\r\n",
    "space-last": b"GET / HTTP/1.1 \r\n",
    "tabs": b"GET\t/\tHTTP/1.1\r\n",
    "space-in-target": b"GET /a b HTTP/1.1\r\n",
    "no-target": b"GET HTTP/1.1\r\n",
    "no-version": b"GET /\r\n",
    "only-a-method": b"GET\r\n",
    "lower-case-version": b"GET / http/1.1\r\n",
    "mixed-case-version": b"GET / Http/1.1\r\n",
    "version-with-zero": b"GET / HTTP/01.1\r\n",
    "version-with-two-digits": b"GET / HTTP/1.10\r\n",
    "version-without-minor": b"GET / HTTP/1\r\n",
    "version-with-comma": b"GET / HTTP/1,1\r\n",
    "other-protocol": b"GET / RTSP/1.0\r\n",
    "more-after-version": b"GET / HTTP/1.1 HTTP/1.1\r\n",
    "carriage-return-as-line-end": b"GET / HTTP/1.1\r",
    "line-feed-as-line-end": b"GET / HTTP/1.1\n",
    "nul-in-method": b"GE\0T / HTTP/1.1\r\n",
    "parenthesis-in-method": b"GE(T) / HTTP/1.1\r\n",
    "colon-in-method": b"GET: / HTTP/1.1\r\n",
    "beyond-ascii-in-method": b"G\xe9T / HTTP/1.1\r\n",
    "nul-in-target": b"GET /\0 HTTP/1.1\r\n",
    "control-in-target": b"GET /\x01 HTTP/1.1\r\n",
    "delete-in-target": b"GET /\x7f HTTP/1.1\r\n",
    "carriage-return-in-target": b"GET /a\rb HTTP/1.1\r\n",
    "beyond-ascii-in-target": b"GET /caf\xc3\xa9 HTTP/1.1\r\n",
    "not-http-at-all": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n",
}


@BOTH_WAYS
@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_t13_request_lines(lane: Lane, line: bytes, byte_by_byte: bool) -> None:
    data = line + b"Host: " + lane.host.encode() + b"\r\n\r\n"
    attack.refused(lane, data, (400, 505), byte_by_byte=byte_by_byte)


@pytest.mark.parametrize("version", ["HTTP/2.0", "HTTP/3.0", "HTTP/0.9", "HTTP/9.9"])
def test_t13_versions_that_are_not_spoken(lane: Lane, version: str) -> None:
    data = f"GET / {version}\r\nHost: {lane.host}\r\n\r\n".encode()
    attack.refused(lane, data, (400, 505))


def test_t13_http_0_9(lane: Lane) -> None:
    attack.refused(lane, b"GET /\r\n\r\n", (400, 505))


def test_t13_line_feeds_only(lane: Lane) -> None:
    attack.refused(lane, b"GET / HTTP/1.1\nHost: " + lane.host.encode() + b"\n\n")


def test_t13_the_head_ended_by_a_line_feed(lane: Lane) -> None:
    attack.refused(lane, lane.head("GET /")[:-2] + b"\n" + lane.head("GET /smuggled"))


@pytest.mark.parametrize("tail", [b"\r\nX: \0\r\n\r\n", b"\r\n: a\r\n\r\n", b"\n\n"])
def test_t13_the_second_request_of_a_connection(lane: Lane, tail: bytes) -> None:
    """What was served before does not make a connection's next request any more trusted."""
    client = lane.connect()
    assert client.get(lane.host, "/first").status == 200
    client.send(b"GET /second HTTP/1.1\r\nHost: " + lane.host.encode() + tail)
    assert client.read_response().status == 400
    client.expect_closed()
    assert [request.path for request in attack.forwarded(lane)] == ["/first"]


ALIASES = [
    "X_Forwarded_For: 203.0.113.7",
    "X-Forwarded_For: 203.0.113.7",
    "X_Request_Id: chosen",
    "Content_Length: 5",
    "Transfer_Encoding: chunked",
    "X_Real_Ip: 203.0.113.7",
    "Client_Cert: :AA==:",
    "X_Original_URL: /admin",
]


@pytest.mark.parametrize("field", ALIASES)
@pytest.mark.parametrize("listener", ["main", "trusting"])
def test_t21_underscores_do_not_pass_for_dashes(lane: Lane, field: str, listener: str) -> None:
    """A backend that maps both to one variable (CGI, WSGI) would take one for what we say."""
    client = lane.connect(listener)
    status = client.get(lane.host, "/alias", field).status
    seen = attack.forwarded(lane)
    if status == 200:
        [request] = seen
        assert not [name for name in request.names() if "_" in name]
    else:
        assert (status, seen) == (400, [])


@pytest.mark.parametrize("field", ["Proxy: http://evil.test:8080", "PROXY: x", "proxy:x"])
def test_t25_the_proxy_field_is_dropped(lane: Lane, field: str) -> None:
    """httpoxy: a CGI backend would find it in the environment as HTTP_PROXY."""
    client = lane.connect()
    assert client.get(lane.host, "/httpoxy", field).status == 200
    [request] = attack.forwarded(lane)
    assert request.all("proxy") == []
