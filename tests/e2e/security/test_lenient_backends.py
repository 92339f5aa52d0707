"""The classic smuggling attacks with a real lenient backend behind: Debian's nginx (T09 to T13).

The raw backend of the other modules records bytes; here the proof is in what a server that people
run makes of what it was sent: a request that was smuggled would leave a line in its access log.
"""

from __future__ import annotations

import pytest

from tests.harness import processes, rawclient
from tests.harness.gateway import Gateway
from tests.harness.nginx import Nginx

_SMUGGLED = "GET /smuggled HTTP/1.1\r\nHost: nginx\r\n\r\n"
_IN_A_CHUNK = f"{len(_SMUGGLED):x}\r\n{_SMUGGLED}\r\n0\r\n\r\n"

ATTACKS = {
    "cl-te": f"Content-Length: {{long}}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{_SMUGGLED}",
    "te-cl": f"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n{_IN_A_CHUNK}",
    "te-te": "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\nContent-Length: 4\r\n\r\n"
    f"{_IN_A_CHUNK}",
    "te-space": f"Content-Length: 4\r\nTransfer-Encoding : chunked\r\n\r\n{_IN_A_CHUNK}",
    "te-tab": f"Content-Length: 4\r\nTransfer-Encoding:\x0bchunked\r\n\r\n{_IN_A_CHUNK}",
    "cl-cl": f"Content-Length: 0\r\nContent-Length: {{long}}\r\n\r\n{_SMUGGLED}",
    "cl-zero-in-front-of-a-plus": f"Content-Length: +0\r\n\r\n{_SMUGGLED}",
    "line-feeds": f"X: y\n\n{_SMUGGLED}",
    "chunk-line-feed": f"Transfer-Encoding: chunked\r\n\r\n2;\nxx\r\n{_IN_A_CHUNK}",
    "chunk-extension": f"Transfer-Encoding: chunked\r\n\r\n5;\n0\r\n\r\n{_SMUGGLED}0\r\n\r\n",
    "nul": f"X: \0\r\nContent-Length: 0\r\n\r\n{_SMUGGLED}",
    "fold": f"X: y\r\n Content-Length: 500\r\nContent-Length: 0\r\n\r\n{_SMUGGLED}",
}


@pytest.fixture(scope="module")
def nginx_host(shared_gateway: Gateway, nginx: Nginx) -> str:
    return shared_gateway.cluster("lenient", {"nginx": nginx.address})


@pytest.mark.parametrize("name", ATTACKS)
def test_t09_to_t13_nothing_is_smuggled_into_nginx(
    gateway: Gateway, nginx: Nginx, nginx_host: str, name: str
) -> None:
    attack = ATTACKS[name]
    client = gateway.connect()
    data = f"POST /file.txt HTTP/1.1\r\nHost: {nginx_host}\r\n" + attack.format(long=len(_SMUGGLED))
    client.send_tolerating_close(data.encode("latin-1"))
    assert client.read_response().status in (400, 501)
    client.expect_closed()
    with rawclient.Connection(gateway.addresses["main"]) as honest:
        assert honest.get(nginx_host, f"/file.txt?after={name}").status == 200
    wait_for_log(nginx, f"after={name} ")
    assert "/smuggled" not in (nginx.prefix / "access.log").read_text()


def test_t09_what_the_client_may_send_to_nginx_arrives(
    gateway: Gateway, nginx: Nginx, nginx_host: str
) -> None:
    """The check above could not fail if nginx's log never told of requests."""
    client = gateway.connect()
    assert client.get(nginx_host, "/honest").status == 404
    wait_for_log(nginx, "/honest")


def wait_for_log(nginx: Nginx, what: str) -> None:
    """nginx answers first and logs afterwards."""
    log = nginx.prefix / "access.log"
    processes.wait_until(lambda: what in log.read_text(), f"nginx logs {what}")
