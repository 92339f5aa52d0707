"""HTTP/2 from clients, over TLS and in clear text, with clients that others wrote."""

from __future__ import annotations

import re
import ssl
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.e2e.tls.shop import Shop, anyone
from tests.harness import pki, ports, suites, wire
from tests.harness.rawbackend import Exchange


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with Shop(tmp_path_factory.mktemp("shop")) as made:
        yield made


@pytest.fixture
def shop(shared: Shop) -> Shop:
    """The daemon of all tests here, and a backend of its own."""
    shared.renew_backend()
    return shared


def served(shop: Shop) -> str:
    """Start with TLS and a listener in clear text beside it; return that one's address."""
    clear = ports.address()
    files = shop.files({"default_certificate": "shop"}, shop=pki.make("shop.test"))
    document = files["kakehi.yaml"]
    document["settings"]["generation_header"] = True
    document["listeners"]["clear"] = {"address": clear, "h2c": True}
    document["frontends"]["all"]["listeners"] = ["front", "clear"]
    shop.daemon.begin(files)
    return clear


def client() -> httpx.Client:
    context = anyone()
    context.set_alpn_protocols(["h2", "http/1.1"])
    return httpx.Client(http2=True, verify=context, timeout=20)


def test_the_version_is_the_clients_choice(shop: Shop) -> None:
    clear = served(shop)
    with client() as both:
        assert both.get(f"https://{shop.address}/").http_version == "HTTP/2"
    with httpx.Client(verify=anyone()) as old:
        assert old.get(f"https://{shop.address}/").http_version == "HTTP/1.1"
        assert old.get(f"http://{clear}/").http_version == "HTTP/1.1"
    prior = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_version} %{http_code}"]
    done = subprocess.run(
        [*prior, "--http2-prior-knowledge", f"http://{clear}/"],
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    assert done.stdout == "2 200"
    versions = {entry["protocol"] for entry in shop.daemon.wait_for_access(lambda _: True, 4)}
    assert versions == {"HTTP/2.0", "HTTP/1.1"}


def test_each_stream_is_served_by_one_generation(shop: Shop) -> None:
    """One connection, two requests: the second sees what was committed after the first began."""
    served(shop)

    def script(exchange: Exchange) -> None:
        exchange.wait_for_go()
        exchange.send(wire.response())

    shop.backend.script = script
    with client() as both, ThreadPoolExecutor(2) as pool:
        old = pool.submit(both.get, f"https://{shop.address}/old")
        shop.backend.wait_for_requests(1)
        generation = shop.daemon.json("status")["generation"]
        files = shop.files({"default_certificate": "shop"}, shop=pki.make("shop.test"))
        files["kakehi.yaml"]["settings"]["generation_header"] = True
        shop.daemon.commit(files)
        new = pool.submit(both.get, f"https://{shop.address}/new")
        shop.backend.wait_for_requests(2)
        shop.backend.go.set()
        assert old.result(20).headers["kakehi-generation"] == str(generation)
        assert new.result(20).headers["kakehi-generation"] == str(generation + 1)


def test_trailers_pass_both_ways(shop: Shop) -> None:
    clear = served(shop)

    def script(exchange: Exchange) -> None:
        exchange.read_body()
        exchange.send(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
            b"3\r\nabc\r\n0\r\nX-Sum: 6\r\n\r\n"
        )

    shop.backend.script = script
    done = subprocess.run(
        ["nghttp", "-v", f"http://{clear}/"], capture_output=True, text=True, timeout=20, check=True
    )
    assert re.search(r"x-sum: 6", done.stdout), done.stdout


@pytest.mark.parametrize("listener", ["tls", "clear"])
def test_h2spec(shop: Shop, listener: str) -> None:
    """The suite of others, in strict mode."""
    h2spec = suites.go_program("h2spec")
    clear = served(shop)
    host, port = ports.split(clear if listener == "clear" else shop.address)
    secure = ["-t", "-k"] if listener == "tls" else []
    done = subprocess.run(
        [h2spec, *secure, "-h", host, "-p", str(port), "-o", "2", "--strict"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    failures = done.stdout.partition("Failures:")[2]
    failed = set(re.findall(r"× (\d+: .+)", failures))
    # On a listener that takes HTTP/1.1 as well, what is no preface is a request: answered by 400.
    allowed = {"2: Sends invalid connection preface"} if listener == "clear" else set()
    assert failed <= allowed, done.stdout[-4000:]
    assert re.search(r"146 tests, 14[45] passed", done.stdout), done.stdout[-500:]


def test_a_removed_listener_says_goodbye(shop: Shop) -> None:
    served(shop)
    context = anyone()
    context.set_alpn_protocols(["h2"])
    with shop.connect("shop.test", context) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9)[:3] + b"\4" + bytes(5))
        connection.settimeout(20)
        files = shop.files({"default_certificate": "shop"}, shop=pki.make("shop.test"))
        files["kakehi.yaml"]["listeners"]["front"]["address"] = ports.address()
        shop.daemon.commit(files)
        received = b""
        while part := connection.recv(4096):
            received += part
    # The last frame is a GOAWAY (type 7) without an error.
    assert received[-17:][3:4] == b"\7", received
    assert received[-4:] == bytes(4)


def test_an_old_connection_is_not_confused(shop: Shop) -> None:
    """A preface where HTTP/1.1 was agreed on is a bad request."""
    served(shop)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    with shop.connect("shop.test", context) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        assert connection.recv(12) in (b"HTTP/1.1 400", b"HTTP/1.1 505")


def test_curl_sees_an_answer_that_comes_before_its_upload_has_ended(shop: Shop) -> None:
    """curl 7.88 forgets one that it reads together with the reset behind it."""
    files = shop.files({"default_certificate": "shop"}, shop=pki.make("shop.test"))
    document = files["kakehi.yaml"]
    frontend = {"listeners": ["front"], "cluster": "shop"}
    document["frontends"] |= {
        "closed": {**frontend, "path": {"prefix": "/closed"}, "deny": ["0.0.0.0/0", "::/0"]},
        "small": {**frontend, "path": {"prefix": "/small"}, "limits": {"body_bytes": "1KiB"}},
        "pong": {"listeners": ["front"], "path": {"exact": "/pong"}, "respond": {"status": 418}},
    }
    shop.daemon.begin(files)
    ask = ["curl", "-sk", "--http2", "-H", "Expect:", "-o", "/dev/null", "-w", "%{http_code} "]
    for path, expected, body in (
        ("closed", "403", 18),
        ("small", "413", 300_000),
        ("pong", "418", 18),
    ):
        # Connections of their own, since what was lost was so by chance.
        for _ in range(10):
            done = subprocess.run(
                [*ask, "--data-binary", "@-", f"https://{shop.address}/{path}"],
                input=b"x" * body,
                capture_output=True,
                timeout=20,
            )
            assert done.stdout.decode().split() == [expected], (path, done.stderr)
