"""Trailers of requests: no way back in for what edits of the head take out or put right (T26)."""

from __future__ import annotations

import pytest

from tests.harness.gateway import Gateway
from tests.harness.rawbackend import RawBackend

TRAILERS = b"X-Fix: t\r\nX_Fix: t\r\nX-Debug: t\r\nX-Sum: t\r\n"


@pytest.mark.parametrize(
    "edits", [{"set": {"X-Fix": "ours"}}, {"remove": ["X-Debug"]}, {"add": {"X-More": "ours"}}, {}]
)
def test_what_is_edited_does_not_come_in_again(
    shared_gateway: Gateway, edits: dict[str, object]
) -> None:
    name = f"trailers-{'-'.join(edits) or 'none'}"
    with_edits = {"request_headers": edits} if edits else {}
    backend = RawBackend()
    try:
        shared_gateway.extend(
            clusters={name: {"backends": {"raw": {"address": backend.address}}}},
            frontends={
                name: {
                    "listeners": ["main"],
                    "hostname": f"{name}.test",
                    "cluster": name,
                    **with_edits,
                }
            },
        )
        client = shared_gateway.connect()
        client.send(
            f"POST / HTTP/1.1\r\nHost: {name}.test\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
            + b"1\r\nx\r\n0\r\n"
            + TRAILERS
            + b"\r\n"
        )
        assert client.read_response().status == 200
        [request] = backend.requests
        assert request.body == b"x"
        told = {name.decode().lower() for name, _ in request.trailers}
        assert told == (set() if edits else {"x-fix", "x_fix", "x-debug", "x-sum"})
    finally:
        backend.stop()
