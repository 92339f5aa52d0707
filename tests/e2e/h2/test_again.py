"""Requests that are sent again to backends of HTTP/2, with what of them had gone out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import h2.errors
import pytest

from tests.e2e.h2.conftest import Front
from tests.harness.h2backend import Request

CODES = h2.errors.ErrorCodes
GRPC = ("content-type", "application/grpc")
BODY = "0123456789abcdef" * 5000


def _resets(request: Request) -> None:
    request.read()
    request.give_up(CODES.INTERNAL_ERROR)


def _refuses(request: Request) -> None:
    request.read()
    request.give_up(CODES.REFUSED_STREAM)


def _is_busy(request: Request) -> None:
    request.read()
    request.answer(b"busy", 503)


def _is_unavailable(request: Request) -> None:
    request.read()
    request.head(200, GRPC, ("grpc-status", "14"), ends=True)


def _serves(request: Request) -> None:
    request.answer(request.read())


FAULTS: dict[str, tuple[Callable[[Request], None], dict[str, Any]]] = {
    "reset": (_resets, {"errors": ["reset"]}),
    "refused": (_refuses, {"errors": ["refused_stream"]}),
    "status": (_is_busy, {"errors": [], "statuses": [503]}),
    "grpc": (_is_unavailable, {"errors": [], "grpc": ["unavailable"]}),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("body", ["", BODY])
def test_a_request_is_told_again_with_its_body(front: Front, fault: str, body: str) -> None:
    script, when = FAULTS[fault]
    bad, good = front.backend(script), front.backend(_serves)
    retry = {"when": when, "methods": "all", "body_bytes": "128KiB"}
    front.start(bad.address, good.address, retry=retry)
    for _ in range(4):
        status, _, answered = front.curl("/", "--data-binary", body)
        assert status == 200
        assert answered == body.encode()
    assert len(good.seen) >= 4
    assert bad.seen


@pytest.mark.parametrize("fault", ["reset", "status", "grpc"])
def test_an_order_is_sent_once(front: Front, fault: str) -> None:
    script, when = FAULTS[fault]
    used = [front.backend(script), front.backend(script)]
    retry = {"when": when, "body_bytes": "128KiB"}
    front.start(*(backend.address for backend in used), retry=retry)
    for _ in range(3):
        front.curl("/", "--data-binary", "order")
    assert sum(len(backend.seen) for backend in used) == 3
