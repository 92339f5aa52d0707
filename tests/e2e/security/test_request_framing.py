"""T09 to T12: requests whose end two readers could see in different places."""

from __future__ import annotations

import pytest

from tests.harness import attack, wire
from tests.harness.gateway import Lane

BOTH_WAYS = pytest.mark.parametrize("byte_by_byte", [False, True], ids=["whole", "bytes"])

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: smuggled.test\r\n\r\n"


def _post(lane: Lane, *lines: str, body: bytes = b"", version: str = "HTTP/1.1") -> bytes:
    head = [f"POST / {version}", f"Host: {lane.host}", *lines, "", ""]
    return "\r\n".join(head).encode("latin-1") + body


@BOTH_WAYS
@pytest.mark.parametrize("order", ["length-first", "coding-first"])
@pytest.mark.parametrize(
    ("length", "body"),
    [
        (6, b"0\r\n\r\nG"),
        (4, b"2e\r\n" + SMUGGLED + b"\r\n0\r\n\r\n"),
        (5, b"0\r\n\r\n"),
        (0, b"0\r\n\r\n" + SMUGGLED),
    ],
    ids=["cl-te", "te-cl", "agreeing", "zero"],
)
def test_t09_content_length_with_transfer_encoding(
    lane: Lane, length: int, body: bytes, order: str, byte_by_byte: bool
) -> None:
    lines = [f"Content-Length: {length}", "Transfer-Encoding: chunked"]
    if order == "coding-first":
        lines.reverse()
    verdict = attack.launch(lane, _post(lane, *lines, body=body), byte_by_byte=byte_by_byte)
    assert verdict.closed
    assert all(request.path != "/smuggled" for request in verdict.forwarded)
    assert len(verdict.responses) == 1
    if verdict.status != 400:
        # RFC 9112 section 6.1: the coding wins, the length is removed, the connection closes.
        [request] = verdict.forwarded
        assert request.framing == "chunked"


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "DELETE"])
def test_t09_content_length_with_transfer_encoding_whatever_the_method(
    lane: Lane, method: str
) -> None:
    head = lane.head(f"{method} /", "Content-Length: 5", "Transfer-Encoding: chunked")
    verdict = attack.launch(lane, head + b"0\r\n\r\n")
    assert verdict.closed
    assert verdict.status == 400 or [r.framing for r in verdict.forwarded] == ["chunked"]


LENGTHS = {
    "two-that-differ": ["5", "6"],
    "two-that-agree": ["5", "5"],
    "list-that-agrees": ["5, 5"],
    "list-that-differs": ["5, 6"],
    "list-with-empty": ["5,"],
    "empty": [""],
    "second-empty": ["5", ""],
    "blank": [" "],
    "plus": ["+5"],
    "minus": ["-5"],
    "minus-zero": ["-0"],
    "hex": ["0x5"],
    "fraction": ["5.0"],
    "exponent": ["5e0"],
    "two-numbers": ["5 5"],
    "word": ["five"],
    "quoted": ['"5"'],
    "semicolon": ["5;"],
    "underscore": ["1_0"],
    "vertical-tab-before": ["\x0b5"],
    "vertical-tab-after": ["5\x0b"],
    "no-break-space": ["\xa05"],
    "arabic-digit": ["\xd9\xa5"],
    "nul": ["5\0"],
    "beyond-64-bits": ["18446744073709551621"],
    "far-beyond-64-bits": ["9" * 60],
}


@BOTH_WAYS
@pytest.mark.parametrize("values", LENGTHS.values(), ids=LENGTHS)
def test_t10_content_length_forms(lane: Lane, values: list[str], byte_by_byte: bool) -> None:
    lines = [f"Content-Length: {value}" for value in values]
    data = _post(lane, *lines, body=b"hello" + SMUGGLED)
    attack.refused(lane, data, (400, 413), byte_by_byte=byte_by_byte)


@pytest.mark.parametrize("value", ["5", "05", "0000000000005", "\t5", "5 \t "])
def test_t10_content_length_forms_that_are_valid(lane: Lane, value: str) -> None:
    client = lane.connect()
    client.send(_post(lane, f"Content-Length: {value}", body=b"hello"))
    status = client.read_response().status
    [request] = attack.forwarded(lane) or [None]
    if status == 200:
        assert request is not None and request.body == b"hello"
    else:
        # Zeros in front are allowed by the grammar; refusing them is the cautious choice.
        assert (status, request) == (400, None)
        assert value.startswith("0")


CODINGS = {
    "comma-first": ["Transfer-Encoding: ,chunked"],
    "comma-last": ["Transfer-Encoding: chunked,"],
    "twice-in-a-list": ["Transfer-Encoding: chunked, chunked"],
    "twice-in-lines": ["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
    "second-line-unknown": ["Transfer-Encoding: chunked", "Transfer-Encoding: x"],
    "second-line-identity": ["Transfer-Encoding: chunked", "Transfer-Encoding: identity"],
    "second-line-empty": ["Transfer-Encoding: chunked", "Transfer-Encoding:"],
    "unknown": ["Transfer-Encoding: x"],
    "unknown-with-length": ["Transfer-Encoding: x", "Content-Length: 5"],
    "identity": ["Transfer-Encoding: identity"],
    "identity-with-length": ["Transfer-Encoding: identity", "Content-Length: 5"],
    "identity-then-chunked": ["Transfer-Encoding: identity, chunked"],
    "gzip-then-chunked": ["Transfer-Encoding: gzip, chunked"],
    "chunked-then-gzip": ["Transfer-Encoding: chunked, gzip"],
    "longer-word": ["Transfer-Encoding: xchunked"],
    "shorter-word": ["Transfer-Encoding: chunke"],
    "two-words": ["Transfer-Encoding: chunked x"],
    "parameter": ["Transfer-Encoding: chunked;q=1"],
    "quoted": ['Transfer-Encoding: "chunked"'],
    "empty": ["Transfer-Encoding:"],
    "empty-with-length": ["Transfer-Encoding:", "Content-Length: 5"],
    "vertical-tab-before": ["Transfer-Encoding: \x0bchunked"],
    "vertical-tab-after": ["Transfer-Encoding: chunked\x0b"],
    "form-feed": ["Transfer-Encoding: \x0cchunked"],
    "nul": ["Transfer-Encoding: chunked\0"],
    "no-break-space": ["Transfer-Encoding: \xa0chunked"],
    "long-s": ["Transfer-Encoding: chunk\xc5\xbfed"],
    "space-before-colon": ["Transfer-Encoding : chunked"],
    "tab-before-colon": ["Transfer-Encoding\t: chunked"],
    "space-before-name": ["X-First: 1", " Transfer-Encoding: chunked"],
    "folded": ["Transfer-Encoding:\r\n chunked"],
    "after-a-bare-line-feed": ["X-First: 1\nTransfer-Encoding: chunked"],
    "after-a-bare-carriage-return": ["X-First: 1\rTransfer-Encoding: chunked"],
    "bare-line-feed-in-value": ["Transfer-Encoding:\nchunked"],
    "carriage-return-in-value": ["Transfer-Encoding: chun\rked"],
}


@BOTH_WAYS
@pytest.mark.parametrize("lines", CODINGS.values(), ids=CODINGS)
def test_t11_transfer_encoding_obfuscated(lane: Lane, lines: list[str], byte_by_byte: bool) -> None:
    data = _post(lane, *lines, body=b"0\r\n\r\n" + SMUGGLED)
    attack.refused(lane, data, (400, 501), byte_by_byte=byte_by_byte)


@pytest.mark.parametrize("fields", [[], ["Connection: keep-alive"], ["Content-Length: 5"]])
def test_t11_transfer_encoding_in_http_1_0(lane: Lane, fields: list[str]) -> None:
    data = _post(
        lane,
        *fields,
        "Transfer-Encoding: chunked",
        body=b"0\r\n\r\n" + SMUGGLED,
        version="HTTP/1.0",
    )
    attack.refused(lane, data, (400, 501))


@pytest.mark.parametrize("value", ["chunked", "CHUNKED", "\tchunked", "chunked \t"])
def test_t11_forms_that_are_valid_are_chunked(lane: Lane, value: str) -> None:
    client = lane.connect()
    client.send(_post(lane, f"Transfer-Encoding: {value}", body=b"5\r\nhello\r\n0\r\n\r\n"))
    assert client.read_response().status == 200
    [request] = attack.forwarded(lane)
    assert (request.framing, request.body) == ("chunked", b"hello")


CHUNKS = {
    "hex-prefix": b"0x5\r\nhello\r\n0\r\n\r\n",
    "plus": b"+5\r\nhello\r\n0\r\n\r\n",
    "minus": b"-5\r\nhello\r\n0\r\n\r\n",
    "space-before": b" 5\r\nhello\r\n0\r\n\r\n",
    "tab-before": b"\t5\r\nhello\r\n0\r\n\r\n",
    "vertical-tab-before": b"\x0b5\r\nhello\r\n0\r\n\r\n",
    "not-hex": b"g\r\nhello\r\n0\r\n\r\n",
    "longest-prefix": b"5g\r\nhello\r\n0\r\n\r\n",
    "two-numbers": b"5 5\r\nhello\r\n0\r\n\r\n",
    "comma": b"5,5\r\nhello\r\n0\r\n\r\n",
    "underscore": b"0_5\r\nhello\r\n0\r\n\r\n",
    "arabic-digit": b"\xd9\xa5\r\nhello\r\n0\r\n\r\n",
    "empty": b"\r\nhello\r\n0\r\n\r\n",
    "only-an-extension": b";x\r\nhello\r\n0\r\n\r\n",
    "beyond-64-bits": b"10000000000000005\r\nhello\r\n0\r\n\r\n",
    "all-ones": b"ffffffffffffffff\r\nhello\r\n0\r\n\r\n",
    "far-beyond-64-bits": b"f" * 100 + b"\r\nhello\r\n0\r\n\r\n",
    "line-feed-after-size": b"5\nhello\r\n0\r\n\r\n",
    "carriage-return-after-size": b"5\rhello\r\n0\r\n\r\n",
    "cr-cr-lf-after-size": b"5\r\r\nhello\r\n0\r\n\r\n",
    "line-feed-in-extension": b"5;x\nhello\r\n0\r\n\r\n",
    "carriage-return-in-extension": b"5;x\ry\r\nhello\r\n0\r\n\r\n",
    "nul-in-extension": b"5;x\0\r\nhello\r\n0\r\n\r\n",
    "line-feed-after-data": b"5\r\nhello\n0\r\n\r\n",
    "carriage-return-after-data": b"5\r\nhello\r0\r\n\r\n",
    "nothing-after-data": b"5\r\nhello0\r\n\r\n",
    "wrong-bytes-after-data": b"5\r\nhelloXX0\r\n\r\n",
    "data-longer-than-size": b"5\r\nhello!\r\n0\r\n\r\n",
    "line-feed-after-last": b"5\r\nhello\r\n0\n\r\n",
    "line-feed-at-the-end": b"5\r\nhello\r\n0\r\n\n",
    "carriage-return-at-the-end": b"5\r\nhello\r\n0\r\n\rX",
    "trailer-without-colon": b"5\r\nhello\r\n0\r\nX\r\n\r\n",
    "trailer-with-space-before-name": b"5\r\nhello\r\n0\r\n X: y\r\n\r\n",
    "trailer-with-space-before-colon": b"5\r\nhello\r\n0\r\nX : y\r\n\r\n",
    "trailer-with-bare-line-feed": b"5\r\nhello\r\n0\r\nX: y\nZ: w\r\n\r\n",
    "trailer-with-nul": b"5\r\nhello\r\n0\r\nX: \0\r\n\r\n",
}


@BOTH_WAYS
@pytest.mark.parametrize("body", CHUNKS.values(), ids=CHUNKS)
def test_t12_chunk_forms(lane: Lane, body: bytes, byte_by_byte: bool) -> None:
    data = _post(lane, "Transfer-Encoding: chunked", body=body + SMUGGLED)
    attack.refused(lane, data, byte_by_byte=byte_by_byte)


@pytest.mark.parametrize("where", ["size", "last"])
def test_t12_a_huge_chunk_extension_is_bounded(lane: Lane, where: str) -> None:
    huge = b";x=" + b"y" * 200_000
    body = (
        b"5" + huge + b"\r\nhello\r\n0\r\n\r\n"
        if where == "size"
        else b"5\r\nhello\r\n0" + huge + b"\r\n\r\n"
    )
    data = _post(lane, "Transfer-Encoding: chunked", body=body)
    attack.refused(lane, data, (400, 413, 431))


def test_t12_huge_trailers_are_bounded(lane: Lane) -> None:
    trailers = b"".join(b"X-%d: %s\r\n" % (number, b"v" * 1000) for number in range(200))
    body = b"5\r\nhello\r\n0\r\n" + trailers + b"\r\n"
    attack.refused(lane, _post(lane, "Transfer-Encoding: chunked", body=body), (400, 413, 431))


def test_t12_what_follows_a_chunked_body_is_the_next_request(lane: Lane) -> None:
    body = wire.chunked(b"hello", 2)
    client = lane.connect()
    client.send(_post(lane, "Transfer-Encoding: chunked", body=body) + lane.head("GET /second"))
    assert [client.read_response().status for _ in range(2)] == [200, 200]
    assert [request.path for request in attack.forwarded(lane)] == ["/", "/second"]
