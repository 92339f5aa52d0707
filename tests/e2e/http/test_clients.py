"""Clients and backends that people use: curl, http.client, httpx, Node's fetch; Debian's nginx."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.harness import ports, wire
from tests.harness.gateway import Gateway, Lane
from tests.harness.nginx import Nginx
from tests.harness.rawbackend import Exchange


@pytest.fixture(scope="module")
def nginx_host(shared_gateway: Gateway, nginx: Nginx) -> str:
    return shared_gateway.cluster("nginx", {"nginx": nginx.address})


def curl(gateway: Gateway, host: str, path: str, *options: str) -> bytes:
    address = gateway.addresses["main"]
    done = subprocess.run(
        ["curl", "--silent", "--show-error", "--fail-with-body", "--max-time", "20"]
        + ["--connect-to", f"{host}:80:{address}", *options, f"http://{host}{path}"],
        capture_output=True,
        timeout=30,
    )
    assert done.returncode == 0, (done.stderr, done.stdout)
    return done.stdout


def _node(script: str, *arguments: str) -> object:
    """Run a module given on stdin in Node; it prints one JSON value."""
    done = subprocess.run(
        ["node", "--input-type=module", "-", *arguments],
        input=script,
        capture_output=True,
        text=True,
        timeout=40,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _echo(exchange: Exchange) -> None:
    """Answer with the method, the body's length and its digest."""
    body = exchange.read_body()
    text = f"{exchange.request.method.decode()} {len(body)} {hashlib.sha256(body).hexdigest()}"
    exchange.send(wire.response(text.encode(), framing="chunked"))


def test_curl_gets_a_file_of_nginx(gateway: Gateway, nginx: Nginx, nginx_host: str) -> None:
    body = curl(gateway, nginx_host, "/large.bin")
    assert body == (nginx.files / "large.bin").read_bytes()


def test_curl_gets_many_files_over_one_connection(gateway: Gateway, nginx_host: str) -> None:
    urls = [f"http://{nginx_host}/file.txt"] * 19
    connects = curl(
        gateway, nginx_host, "/file.txt", "--write-out", "%{num_connects}", *urls
    ).decode()
    text = "a file that nginx serves\n"
    assert connects.count(text) == 20
    assert connects.replace(text, "") == "1" + "0" * 19


def test_curl_range_and_compression(gateway: Gateway, nginx: Nginx, nginx_host: str) -> None:
    expected = (nginx.files / "large.bin").read_bytes()[1000:2000]
    assert curl(gateway, nginx_host, "/large.bin", "--range", "1000-1999") == expected
    text = (nginx.files / "text.txt").read_bytes()
    assert curl(gateway, nginx_host, "/text.txt", "--compressed") == text
    # nginx compresses as it sends, so the length is not known: chunked.
    assert curl(gateway, nginx_host, "/text.txt", "--header", "Accept-Encoding: gzip") != text


def test_curl_conditional_request(gateway: Gateway, nginx_host: str) -> None:
    head = curl(gateway, nginx_host, "/file.txt", "--head").decode().lower()
    [etag] = [line[6:] for line in head.splitlines() if line.startswith("etag: ")]
    status = curl(
        gateway,
        nginx_host,
        "/file.txt",
        *("--header", f"If-None-Match: {etag}", "--write-out", "%{http_code}"),
    )
    assert status == b"304"


def test_curl_puts_a_file_into_nginx(
    gateway: Gateway, nginx: Nginx, nginx_host: str, tmp_path: Path
) -> None:
    upload = tmp_path / "upload"
    upload.write_bytes(os.urandom(3_000_000))
    curl(gateway, nginx_host, "/put", "--upload-file", str(upload))
    assert (nginx.files / "put").read_bytes() == upload.read_bytes()


def test_curl_http_1_0(gateway: Gateway, nginx_host: str) -> None:
    assert curl(gateway, nginx_host, "/file.txt", "--http1.0") == b"a file that nginx serves\n"


def test_nginx_sees_forwarding_headers(gateway: Gateway, nginx_host: str) -> None:
    host, forwarded_for, request_id = curl(gateway, nginx_host, "/echo-host").decode().split("|")
    assert (host, forwarded_for) == (nginx_host, "127.0.0.1")
    assert request_id


def test_curl_uploads_in_chunks_from_a_pipe(lane: Lane) -> None:
    lane.backend.script = _echo
    body = os.urandom(2_000_000)
    address = lane.gateway.addresses["main"]
    done = subprocess.run(
        ["curl", "--silent", "--show-error", "--max-time", "20", "--upload-file", "-"]
        + ["--header", f"Host: {lane.host}", f"http://{address}/"],
        input=body,
        capture_output=True,
        timeout=30,
    )
    assert done.stdout.decode() == f"PUT 2000000 {hashlib.sha256(body).hexdigest()}", done.stderr


def test_http_client(lane: Lane) -> None:
    lane.backend.script = _echo
    host, port = ports.split(lane.gateway.addresses["main"])
    connection = http.client.HTTPConnection(host, port, timeout=20)
    fields = {"Host": lane.host}
    body = os.urandom(200_000)
    expected = f"POST 200000 {hashlib.sha256(body).hexdigest()}".encode()
    for _ in range(3):
        connection.request("POST", "/known", body, fields)
        assert connection.getresponse().read() == expected
        pieces = (body[start : start + 3000] for start in range(0, len(body), 3000))
        connection.request("POST", "/chunked", pieces, fields, encode_chunked=True)
        assert connection.getresponse().read() == expected
        connection.request("DELETE", "/", headers=fields)
        assert connection.getresponse().read().startswith(b"DELETE 0 ")
    connection.close()
    assert len(lane.backend.connections) == 1


def test_httpx(lane: Lane, nginx: Nginx, nginx_host: str) -> None:
    lane.backend.script = _echo
    base = f"http://{lane.gateway.addresses['main']}"
    with httpx.Client(base_url=base, timeout=20) as client:
        lane_fields = {"Host": lane.host}
        body = os.urandom(100_000)
        expected = f"PUT 100000 {hashlib.sha256(body).hexdigest()}"
        assert client.put("/", content=body, headers=lane_fields).text == expected
        pieces = (body[start : start + 9999] for start in range(0, len(body), 9999))
        assert client.put("/", content=pieces, headers=lane_fields).text == expected
        nginx_fields = {"Host": nginx_host}
        assert client.get("/empty", headers=nginx_fields).status_code == 204
        assert client.get("/text.txt", headers=nginx_fields).text == "compressible " * 2000
        plain = {"Host": nginx_host, "Accept-Encoding": "identity"}
        assert client.head("/large.bin", headers=plain).headers["content-length"] == "2097152"
        redirect = client.get("/redirect", headers=nginx_fields)
        assert redirect.status_code == 302
        with client.stream("GET", "/large.bin", headers=plain) as response:
            received = b"".join(response.iter_raw(1000))
        assert received == (nginx.files / "large.bin").read_bytes()


_NODE_FETCH = """
const [address] = process.argv.slice(2);
const url = (path) => `http://${address}${path}`;
const results = {};
const first = await fetch(url("/get?x=1"));
results.get = [first.status, await first.text()];
const body = new Uint8Array(300000).fill(7);
results.post = await (await fetch(url("/post"), {method: "POST", body})).text();
const stream = new ReadableStream({
  start(controller) {
    for (let i = 0; i < 30; i++) controller.enqueue(new Uint8Array(10000).fill(7));
    controller.close();
  },
});
results.stream = await (
  await fetch(url("/stream"), {method: "POST", body: stream, duplex: "half"})
).text();
const head = await fetch(url("/head"), {method: "HEAD"});
results.head = [head.status, await head.text()];
const many = await Promise.all(
  Array.from({length: 40}, (_, i) => fetch(url(`/${i}`)).then((r) => r.text())),
);
results.many = [...new Set(many)];
const abort = new AbortController();
const streaming = await fetch(url("/endless"), {signal: abort.signal});
await streaming.body.getReader().read();
abort.abort();
results.after = (await fetch(url("/after"))).status;
console.log(JSON.stringify(results));
process.exit(0);
"""


def test_node_fetch(anyhost: Lane) -> None:
    def script(exchange: Exchange) -> None:
        if exchange.request.method == b"HEAD":
            exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
        elif exchange.request.path == "/endless":
            exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            while not exchange.backend.stopping.wait(0.02):
                exchange.send(b"5\r\nhello\r\n")
        else:
            _echo(exchange)

    anyhost.backend.script = script
    digest = hashlib.sha256(b"\x07" * 300_000).hexdigest()
    empty = hashlib.sha256(b"").hexdigest()
    assert _node(_NODE_FETCH, anyhost.gateway.addresses["anyhost"]) == {
        "get": [200, f"GET 0 {empty}"],
        "post": f"POST 300000 {digest}",
        "stream": f"POST 300000 {digest}",
        "head": [200, ""],
        "many": [f"GET 0 {empty}"],
        "after": 200,
    }
    # The fetch that was aborted was aborted upstream as well, at the next event at the latest: a
    # client that closes looks like one that is done sending until something is sent to it.
    anyhost.backend.wait_for_ended()


_NODE_BACKEND = """
import http from "node:http";
const server = http.createServer((request, response) => {
  response.setHeader("Trailer", "X-Sum");
  response.write("part ");
  response.addTrailers({"X-Sum": "7"});
  response.end(request.url);
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
process.stdin.on("end", () => process.exit(0)).resume();
"""


def test_node_as_a_backend(gateway: Gateway) -> None:
    with subprocess.Popen(
        ["node", "--input-type=module", "--eval", _NODE_BACKEND],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as node:
        assert node.stdout is not None and node.stdin is not None
        port = int(node.stdout.readline())
        host = gateway.cluster("node", {"node": f"127.0.0.1:{port}"})
        client = gateway.connect()
        for number in range(3):
            response = client.get(host, f"/{number}", "TE: trailers", "Connection: TE")
            assert response.body == b"part /%d" % number
            assert response.trailers == [(b"X-Sum", b"7")]
        node.stdin.close()
        assert node.wait(10) == 0
