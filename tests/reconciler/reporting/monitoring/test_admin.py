from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable

import pytest

from reconciler.reporting.monitoring.admin import AdminListener
from reconciler.workers.listening.descriptors import Reserve
from reconciler.workers.listening.sockets import BindError
from tests.harness import ports
from tests.harness.ports import address


def served(
    conversation: Callable[[AdminListener, str], Awaitable[None]], healthy: bool = True
) -> None:
    """Run a conversation with a listener that serves one address."""

    async def run() -> None:
        where = address()
        admin = AdminListener(
            lambda: b"kakehi_generation 1.0\n", lambda: (healthy, "2 of 2"), Reserve()
        )
        admin.resume(where)
        try:
            await conversation(admin, where)
        finally:
            admin.close()

    asyncio.run(run())


async def get(where: str, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(*ports.split(where))
    writer.write(request)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


def test_metrics_health_and_nothing_else() -> None:
    async def conversation(_: AdminListener, where: str) -> None:
        answer = await get(where, b"GET /metrics?x=1 HTTP/1.1\r\nHost: a\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert answer.endswith(b"\r\n\r\nkakehi_generation 1.0\n")
        answer = await get(where, b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        assert answer.endswith(b"2 of 2\n")
        for request, status in (
            (b"GET / HTTP/1.1\r\n\r\n", b"404"),
            (b"POST /metrics HTTP/1.1\r\n\r\n", b"405"),
            (b"nonsense\r\n\r\n", b"400"),
        ):
            assert (await get(where, request)).startswith(b"HTTP/1.1 " + status)

    served(conversation)


def test_an_unhealthy_one_says_so() -> None:
    async def conversation(_: AdminListener, where: str) -> None:
        answer = await get(where, b"GET /healthz HTTP/1.1\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 503 ")

    served(conversation, healthy=False)


def test_a_head_without_end_is_cut_off() -> None:
    async def conversation(_: AdminListener, where: str) -> None:
        assert await get(where, b"GET /" + b"a" * 100_000) == b""

    served(conversation)


def test_who_says_nothing_keeps_nobody_from_asking() -> None:
    async def conversation(_: AdminListener, where: str) -> None:
        silent = [await asyncio.open_connection(*ports.split(where)) for _ in range(100)]
        for path, said in ((b"/healthz", b"2 of 2\n"), (b"/metrics", b"1.0\n")):
            answer = await get(where, b"GET " + path + b" HTTP/1.1\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert answer.endswith(said)
        # The oldest had to go, and the newest may still ask.
        assert await silent[0][0].read() == b""
        silent[-1][1].write(b"GET /healthz HTTP/1.1\r\n\r\n")
        assert b" 200 OK" in await silent[-1][0].read()
        for _, writer in silent:
            writer.close()

    served(conversation)


def test_health_is_told_while_many_wait_for_metrics() -> None:
    freed = threading.Event()

    def slow() -> bytes:
        freed.wait(20)
        return b"printed\n"

    async def run() -> None:
        where = address()
        admin = AdminListener(slow, lambda: (True, "fine"), Reserve())
        admin.resume(where)
        request = b"GET /metrics HTTP/1.1\r\n\r\n"
        asked = [asyncio.create_task(get(where, request)) for _ in range(30)]
        for _, refused in zip(range(14), asyncio.as_completed(asked), strict=False):
            assert b" 503 " in await refused
        assert (await get(where, b"GET /healthz HTTP/1.1\r\n\r\n")).endswith(b"fine\n")
        freed.set()
        statuses = [(await each).split()[1] for each in asked]
        assert (statuses.count(b"200"), statuses.count(b"503")) == (16, 14)
        admin.close()

    asyncio.run(run())


def test_it_moves_only_when_committed() -> None:
    async def conversation(admin: AdminListener, where: str) -> None:
        request = b"GET /healthz HTTP/1.1\r\n\r\n"
        other = address()
        admin.prepare(other)
        admin.abort()
        with pytest.raises(ConnectionRefusedError):
            await get(other, request)
        admin.prepare(other)
        admin.commit()
        assert await get(other, request)
        with pytest.raises(ConnectionRefusedError):
            await get(where, request)
        admin.prepare(None)
        admin.commit()
        with pytest.raises(ConnectionRefusedError):
            await get(other, request)

    served(conversation)


def test_a_taken_address_is_refused_and_changes_nothing() -> None:
    async def conversation(admin: AdminListener, where: str) -> None:
        taken = socket.create_server(("127.0.0.1", 0))
        with taken, pytest.raises(BindError, match="address already in use"):
            admin.prepare(f"127.0.0.1:{taken.getsockname()[1]}")
        assert await get(where, b"GET /healthz HTTP/1.1\r\n\r\n")

    served(conversation)


def test_scrapes_that_give_up_leave_one_thread_behind() -> None:
    """The threads of the loop start workers: nobody who asks for metrics may use them up."""
    freed, prints = threading.Event(), []

    def slow() -> bytes:
        prints.append(threading.current_thread().name)
        freed.wait(20)
        return b"printed\n"

    async def run() -> None:
        where = address()
        admin = AdminListener(slow, lambda: (True, "fine"), Reserve())
        admin.resume(where)
        for _ in range(40):
            _, writer = await asyncio.open_connection(*ports.split(where))
            writer.write(b"GET /metrics HTTP/1.1\r\n\r\n")
            await writer.drain()
            await asyncio.sleep(0.01)
            writer.close()
        async with asyncio.timeout(5):
            assert await asyncio.to_thread(lambda: "a worker") == "a worker"
        assert len(prints) == 1
        assert prints[0].startswith("metrics")
        freed.set()
        await asyncio.sleep(0.3)
        assert (await get(where, b"GET /metrics HTTP/1.1\r\n\r\n")).endswith(b"printed\n")
        admin.close()

    asyncio.run(run())


def test_what_it_leaves_is_served_again_unless_that_is_committed() -> None:
    async def conversation(admin: AdminListener, where: str) -> None:
        admin.leave()
        with pytest.raises(ConnectionRefusedError):
            await get(where, b"GET /metrics HTTP/1.1\r\n\r\n")
        admin.abort()
        assert b"kakehi_generation" in await get(where, b"GET /metrics HTTP/1.1\r\n\r\n")
        admin.prepare(None)
        admin.leave()
        admin.commit()
        admin.abort()
        assert admin.address is None
        with pytest.raises(ConnectionRefusedError):
            await get(where, b"GET /metrics HTTP/1.1\r\n\r\n")

    served(conversation)
