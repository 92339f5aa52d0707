"""Answers that are compressed: what clients are told of them, and which ones are left alone."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.harness import ports, rawclient, wire
from tests.harness.daemon import Kakehi
from tests.harness.h2backend import H2Backend, Request
from tests.harness.h2client import H2Client
from tests.harness.metrics import scrape
from tests.harness.rawbackend import Exchange, RawBackend
from tests.harness.repo import Repo

TEXT = b"<li>one of many lines of a page</li>\n" * 200
HTML = ("Content-Type", "text/html; charset=utf-8")
TAGGED = ("ETag", '"abc"')
PAGE = "a page of our own\n" * 200
FRONTENDS: dict[str, dict[str, Any]] = {
    "all": {"compression": {}},
    "shared": {"policies": ["squeezed"]},
    "off": {"policies": ["squeezed"], "compression": None},
    "silent": {},
    "private": {"compression": {"private": True}},
    "fast": {"compression": {"levels": {"br": 1, "gzip": 1, "zstd": 1}}},
    "dense": {"compression": {"levels": {"br": 6, "gzip": 9, "zstd": 12}}},
    "gzip": {"compression": {"encodings": ["gzip"], "types": ["application/json"]}},
    "edited": {
        "compression": {},
        "response_headers": {"set": {"Cache-Control": "no-transform"}},
        "request_headers": {"remove": ["Accept-Encoding"]},
    },
    "tagged": {
        "compression": {},
        "response_headers": {
            "set": {"ETag": '"ours"', "Content-Encoding": "identity", "X-Other": "{path}"},
            "add": {"Accept-Ranges": "bytes"},
        },
    },
    "unasked": {"compression": {}, "request_headers": {"remove": ["Accept-Encoding"]}},
}


class Got(NamedTuple):
    """An answer, whatever version it came by."""

    status: int
    lines: list[tuple[str, str]]
    body: bytes

    def all(self, name: str) -> list[str]:
        return [value for each, value in self.lines if each == name]

    @property
    def coding(self) -> str:
        return ", ".join(self.all("content-encoding"))

    @property
    def varies(self) -> bool:
        return "accept-encoding" in ", ".join(self.all("vary")).lower()


class Compressing:
    """One worker, whose backends say what a test has them say."""

    def __init__(self, directory: Path) -> None:
        self.text, self.frames = RawBackend(), H2Backend(self._stream)
        self.said: tuple[bytes, list[tuple[str, str]], str] = (b"", [], "length")
        self.plain, self.admin = ports.address(), ports.address()
        self.daemon = Kakehi(Repo(directory), workers=1)
        clusters: dict[str, Any] = {
            "text": {"backends": {"b": {"address": self.text.address}}},
            "frames": {"protocol": "h2", "backends": {"b": {"address": self.frames.address}}},
        }
        frontends = {
            f"{name}-{cluster}": {
                "listeners": ["plain"],
                "hostname": f"{name}.{cluster}.test",
                "cluster": cluster,
                **keys,
            }
            for name, keys in FRONTENDS.items()
            for cluster in clusters
        }
        frontends["own"] = {
            "listeners": ["plain"],
            "hostname": "own.test",
            "respond": {"status": 200, "body": PAGE},
            "compression": {"encodings": ["gzip"]},
            "response_headers": {"set": {"ETag": '"own"'}},
        }
        frontends["nowhere"] = {
            "listeners": ["plain"],
            "hostname": "nowhere.test",
            "cluster": "nowhere",
            "error_pages": {"503": {"body": PAGE}},
            "compression": {"encodings": ["gzip"]},
        }
        document = {
            "settings": {"admin": self.admin, "access_log": "off"},
            "listeners": {"plain": {"address": self.plain, "h2c": True}},
            "clusters": clusters | {"nowhere": {"backends": {}}},
            "policies": {"squeezed": {"compression": {"encodings": ["gzip"]}}},
            "frontends": frontends,
        }
        self.daemon.repo.commit({"kakehi.yaml": document})
        self.daemon.start()
        self.text.script = self._answer

    def _answer(self, exchange: Exchange) -> None:
        body, fields, framing = self.said
        status = dict(fields).get(":status", "200 OK")
        lines = [(name, value) for name, value in fields if name != ":status"]
        answer = wire.response(body, status=status, fields=lines, framing=framing)
        if exchange.request.method == b"HEAD" or status[:3] in ("304", "204"):
            answer = answer.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
        exchange.send(answer)
        if framing == "close":
            exchange.close()

    def _stream(self, request: Request) -> None:
        body, fields, framing = self.said
        status = int(dict(fields).get(":status", "200")[:3])
        lines = [(name.lower(), value) for name, value in fields if name != ":status"]
        if framing == "length" and status != 304:
            lines.append(("content-length", str(len(body))))
        is_bare = request.get(":method") == "HEAD" or status in (204, 304)
        request.head(status, *lines, ends=is_bare)
        if not is_bare:
            request.send(body, ends=True)

    def get(self, over: str, host: str, *fields: tuple[str, str], method: str = "GET") -> Got:
        if over == "http":
            with rawclient.Connection(self.plain) as client:
                texts = [f"{name}: {value}" for name, value in fields]
                answer = client.get(host, "/", *texts, method=method)
                lines = [(name.decode().lower(), value.decode()) for name, value in answer.fields]
                return Got(answer.status, lines, answer.body)
        with H2Client(self.plain) as client:
            stream = client.get(
                host, *((name.lower(), value) for name, value in fields), method=method
            )
            client.read_until(lambda: stream in client.ended)
            body = client.bodies.get(stream, b"")
            return Got(client.statuses[stream], client.lines[stream], body)

    def count(self, name: str) -> float:
        return scrape(self.admin)[f"kakehi_compression_{name}_total"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compressing]:
    made = Compressing(tmp_path_factory.mktemp("compressing"))
    yield made
    made.daemon.stop()
    made.text.stop()
    made.frames.stop()


@pytest.fixture(params=["http", "h2c"])
def over(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["text", "frames"])
def cluster(request: pytest.FixtureRequest) -> str:
    return str(request.param)


TAKES = ("Accept-Encoding", "gzip")


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_page_is_compressed_and_says_so(
    site: Compressing, over: str, cluster: str, framing: str
) -> None:
    site.said = (TEXT, [HTML, TAGGED, ("Accept-Ranges", "bytes"), ("Vary", "Origin")], framing)
    before = site.count("bytes_in"), site.count("bytes_out"), site.count("responses")
    got = site.get(over, f"all.{cluster}.test", TAKES)
    assert gzip.decompress(got.body) == TEXT
    assert (got.status, got.coding, got.all("etag")) == (200, "gzip", ['W/"abc"'])
    assert (got.all("accept-ranges"), got.all("content-length")) == ([], [])
    assert sorted(got.all("vary")) == ["Accept-Encoding", "Origin"]
    after = site.count("bytes_in"), site.count("bytes_out"), site.count("responses")
    gained = [now - then for now, then in zip(after, before, strict=True)]
    assert gained == [len(TEXT), len(got.body), 1]


@pytest.mark.parametrize(
    ("accept", "coding"),
    [
        ("zstd, br, gzip", "zstd"),
        ("br, gzip", "br"),
        ("br;q=0.5, gzip;q=0.6", "gzip"),
        ("*", "zstd"),
        ("gzip;q=0", ""),
        ("identity, gzip;q=0.5", ""),
        ("deflate", ""),
        ("", ""),
    ],
)
def test_a_client_gets_what_it_likes_best(
    site: Compressing, over: str, accept: str, coding: str
) -> None:
    site.said = (TEXT, [HTML, TAGGED], "length")
    got = site.get(over, "all.text.test", ("Accept-Encoding", accept))
    assert (got.coding, got.varies) == (coding, True)
    assert got.all("etag") == ['W/"abc"' if coding else '"abc"']
    assert (got.body == TEXT) == (not coding)
    assert got.all("content-length") == ([] if coding else [str(len(TEXT))])


@pytest.mark.parametrize("coding", ["br", "gzip", "zstd"])
def test_a_higher_level_is_denser(site: Compressing, over: str, coding: str) -> None:
    guide = Path(__file__).parents[3] / "docs" / "guide.md"
    site.said = (guide.read_bytes(), [HTML], "length")
    fast, dense = (
        site.get(over, f"{name}.text.test", ("Accept-Encoding", coding))
        for name in ("fast", "dense")
    )
    assert fast.coding == dense.coding == coding
    assert len(dense.body) < len(fast.body)


def test_only_those_who_are_asked_for_compress(site: Compressing, over: str) -> None:
    site.said = (TEXT, [HTML], "length")
    codings = {
        name: site.get(over, f"{name}.text.test", TAKES).coding
        for name in ("shared", "off", "silent", "gzip", "unasked")
    }
    assert codings == {"shared": "gzip", "off": "", "silent": "", "gzip": "", "unasked": "gzip"}
    assert site.text.last.all("accept-encoding") == []
    assert not site.get(over, "off.text.test", TAKES).varies


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ([("Content-Type", "image/png")], "type"),
        ([], "type"),
        ([HTML, ("Content-Encoding", "br")], "encoded"),
        ([HTML, ("Set-Cookie", "a=b")], "private"),
        ([HTML, ("Cache-Control", "private, max-age=1")], "private"),
        ([HTML, ("Cache-Control", "no-transform")], "forbidden"),
        ([HTML, ("Content-MD5", "x")], "forbidden"),
        ([HTML, (":status", "206 Partial Content"), ("Content-Range", "bytes 0-1/9")], None),
    ],
)
def test_what_is_left_alone_is_counted(
    site: Compressing, over: str, fields: list[tuple[str, str]], reason: str | None
) -> None:
    site.said = (TEXT, [*fields, TAGGED, ("Accept-Ranges", "bytes")], "length")
    before = site.count(f"skipped_{reason}") if reason else 0
    got = site.get(over, "all.text.test", TAKES)
    assert (got.body, got.all("etag"), got.all("accept-ranges")) == (TEXT, ['"abc"'], ["bytes"])
    assert (got.coding, got.varies) == (dict(fields).get("Content-Encoding", ""), False)
    if reason:
        assert site.count(f"skipped_{reason}") == before + 1


def test_short_answers_stay_as_they_are(site: Compressing, over: str) -> None:
    site.said = (TEXT[:1023], [HTML], "length")
    assert site.get(over, "all.text.test", TAKES).coding == ""
    site.said = (TEXT[:1024], [HTML], "length")
    assert site.get(over, "all.text.test", TAKES).coding == "gzip"


def test_private_answers_are_compressed_where_that_is_asked_for(
    site: Compressing, over: str
) -> None:
    site.said = (TEXT, [HTML, ("Set-Cookie", "a=b"), ("Cache-Control", "private")], "length")
    got = site.get(over, "private.text.test", TAKES)
    assert (gzip.decompress(got.body), got.all("set-cookie")) == (TEXT, ["a=b"])


def test_what_the_frontend_itself_says_counts(site: Compressing, over: str) -> None:
    site.said = (TEXT, [HTML], "length")
    assert site.get(over, "edited.text.test", TAKES).body == TEXT


def test_clients_may_forbid_it(site: Compressing, over: str) -> None:
    site.said = (TEXT, [HTML], "length")
    got = site.get(over, "all.text.test", TAKES, ("Cache-Control", "no-transform"))
    assert got.body == TEXT


def test_head_says_what_get_would_have(site: Compressing, over: str, cluster: str) -> None:
    site.said = (TEXT, [HTML, TAGGED], "length")
    host = f"all.{cluster}.test"
    asked = site.get(over, host, TAKES)
    head = site.get(over, host, TAKES, method="HEAD")
    assert head.body == b""
    skipped = {"date", "transfer-encoding", "x-request-id"}
    assert [line for line in head.lines if line[0] not in skipped] == [
        line for line in asked.lines if line[0] not in skipped
    ]


def test_what_is_still_right_has_the_tag_that_its_client_knows(
    site: Compressing, over: str, cluster: str
) -> None:
    site.said = (b"", [(":status", "304 Not Modified"), TAGGED], "none")
    host = f"all.{cluster}.test"
    got = site.get(over, host, TAKES, ("If-None-Match", 'W/"abc"'))
    assert (got.status, got.all("etag"), got.coding) == (304, ['W/"abc"'], "")
    got = site.get(over, host, TAKES, ("If-None-Match", '"abc"'))
    assert got.all("etag") == ['"abc"']


def test_a_tag_that_the_configuration_sets_is_weak_as_well(
    site: Compressing, over: str, cluster: str
) -> None:
    site.said = (TEXT, [HTML, TAGGED], "length")
    host = f"tagged.{cluster}.test"
    got = site.get(over, host, TAKES)
    assert (got.coding, got.all("etag"), got.all("x-other")) == ("gzip", ['W/"ours"'], ["/"])
    assert got.all("accept-ranges") == []
    plain = site.get(over, host)
    assert (plain.coding, plain.all("etag")) == ("identity", ['"ours"'])
    assert plain.all("accept-ranges") == ["bytes"]
    site.said = (b"", [(":status", "304 Not Modified"), TAGGED], "none")
    got = site.get(over, host, TAKES, ("If-None-Match", 'W/"ours"'))
    assert got.all("etag") == ['W/"ours"']
    page = site.get(over, "own.test", TAKES)
    assert (page.coding, page.all("etag")) == ("gzip", ['W/"own"'])
    assert site.get(over, "own.test").all("etag") == ['"own"']


def test_a_client_of_http_1_0_reads_to_the_end(site: Compressing) -> None:
    site.said = (TEXT, [HTML], "length")
    with rawclient.Connection(site.plain) as client:
        client.send(b"GET / HTTP/1.0\r\nHost: all.text.test\r\nAccept-Encoding: gzip\r\n\r\n")
        head, _, body = client.read_to_close().partition(b"\r\n\r\n")
    assert b"Content-Encoding: gzip" in head
    assert b"Transfer-Encoding" not in head
    assert gzip.decompress(body) == TEXT


@pytest.mark.parametrize("host", ["own.test", "nowhere.test"])
def test_answers_of_our_own_are_compressed(site: Compressing, over: str, host: str) -> None:
    got = site.get(over, host, TAKES)
    assert (gzip.decompress(got.body).decode(), got.coding, got.varies) == (PAGE, "gzip", True)
    assert got.all("content-length") == [str(len(got.body))]
    plain = site.get(over, host)
    assert (plain.body.decode(), plain.coding, plain.varies) == (PAGE, "", True)
    head = site.get(over, host, TAKES, method="HEAD")
    assert (head.body, head.all("content-length")) == (b"", got.all("content-length"))


def told_one_by_one(exchange: Exchange) -> None:
    """Send three events, each when it is asked for."""
    head = (
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    exchange.send(head.encode())
    for number in range(3):
        exchange.wait_for_go()
        exchange.connection.backend.go.clear()
        exchange.send(wire.chunked(b"data: %d\n\n" % number).removesuffix(b"0\r\n\r\n"))
    exchange.send(b"0\r\n\r\n")


def unpacked(body: bytes) -> bytes:
    """What can be read of a body so far."""
    return zlib.decompressobj(31).decompress(body)


@pytest.fixture
def streaming(site: Compressing) -> Iterator[RawBackend]:
    before, site.text.script = site.text.script, told_one_by_one
    site.text.go.clear()
    yield site.text
    site.text.go.set()
    site.text.script = before


EVENTS = [b"data: 0\n\n", b"data: 1\n\n", b"data: 2\n\n"]


def test_each_event_of_a_stream_arrives_at_once(site: Compressing, streaming: RawBackend) -> None:
    with rawclient.Connection(site.plain) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: all.text.test\r\nAccept-Encoding: gzip\r\n\r\n")
        assert client.read_head().get("content-encoding") == b"gzip"
        reader = wire.ChunkReader()
        for number in range(3):
            streaming.go.set()
            reader.feed(client.take_buffer())
            while len(unpacked(bytes(reader.body))) < len(b"".join(EVENTS[: number + 1])):
                assert client.fill()
                reader.feed(client.take_buffer())
        assert unpacked(bytes(reader.body)) == b"".join(EVENTS)


def test_so_it_does_over_http_2(site: Compressing, streaming: RawBackend) -> None:
    with H2Client(site.plain) as client:
        stream = client.get("all.text.test", ("accept-encoding", "gzip"))
        for number in range(3):
            streaming.go.set()
            length = len(b"".join(EVENTS[: number + 1]))
            while len(unpacked(client.bodies.get(stream, b""))) < length:
                assert client.read(15)
        client.read_until(lambda: stream in client.ended)
        assert unpacked(client.bodies[stream]) == b"".join(EVENTS)
