"""The control socket's protocol, with answers that the test makes up (T39)."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Awaitable, Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from reconciler.errors import MachineError
from reconciler.reporting.control import control_socket as module
from reconciler.reporting.control.control_socket import ControlSocket
from reconciler.reporting.control.refusals import RefusedRequestError
from reconciler.workers.listening.descriptors import Reserve
from schemas.messages import control

PART = b"x" * 65_536
closed = threading.Event()


def listing() -> Generator[bytes]:
    """A line of a gibibyte, which nobody holds whole."""
    closed.clear()
    try:
        yield b'"'
        yield from (PART for _ in range(16_384))
        yield b'"\n'
    finally:
        closed.set()


def refusing() -> Generator[bytes]:
    yield from ()
    raise RefusedRequestError("not_found", "no such thing")


async def answer(request: control.Request) -> Any:
    match request:
        case control.StatusRequest():
            return {"generation": 3}
        case control.ShowRequest(kind="frontend"):
            return listing()
        case control.ShowRequest():
            return refusing()
        case control.HistoryRequest():
            raise MachineError("the disk is gone")
        case control.UndrainRequest():
            raise ZeroDivisionError("a bug")
        case _:
            return await asyncio.sleep(60, {})


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self, line: bytes) -> dict[str, Any]:
        self.writer.write(line + b"\n")
        await self.writer.drain()
        found: dict[str, Any] = json.loads(await self.reader.readline())
        return found


def conversation(tmp_path: Path, talk: Callable[[Client], Awaitable[None]]) -> None:
    async def run() -> None:
        path = tmp_path / "control.sock"
        server = ControlSocket(path, answer, Reserve())
        server.open()
        client = Client(*await asyncio.open_unix_connection(str(path), limit=1 << 26))
        try:
            await talk(client)
        finally:
            client.writer.close()
            await server.close()
            assert not path.exists()

    asyncio.run(run())


def test_one_line_in_and_one_line_out_as_often_as_wanted(tmp_path: Path) -> None:
    async def talk(client: Client) -> None:
        for _ in range(3):
            assert await client.ask(b'{"request":"status"}') == {
                "ok": True,
                "result": {"generation": 3},
            }

    conversation(tmp_path, talk)


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        (b"nonsense", "usage", "not a line of JSON"),
        (b'{"request":"reload"}', "usage", "unknown request 'reload'"),
        (b'{"request":"show"}', "not_found", "no such thing"),
        (b'{"request":"history"}', "unavailable", "the disk is gone"),
        (b'{"request":"undrain","backend":"a"}', "internal", "ZeroDivisionError: a bug"),
    ],
)
def test_every_failure_is_an_answer(tmp_path: Path, line: bytes, code: str, message: str) -> None:
    async def talk(client: Client) -> None:
        response = await client.ask(line)
        assert response["ok"] is False
        assert response["error"]["code"] == code
        assert message in response["error"]["message"]
        assert (await client.ask(b'{"request":"status"}'))["ok"]

    conversation(tmp_path, talk)


def test_a_request_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "MESSAGE_BYTES_MAX", 100_000)

    async def talk(client: Client) -> None:
        response = await client.ask(b"x" * 150_000)
        assert response["error"]["message"] == "a request may have at most 100000 bytes"

    conversation(tmp_path, talk)


def test_somebody_who_waits_holds_up_nobody(tmp_path: Path) -> None:
    async def talk(client: Client) -> None:
        client.writer.write(b'{"request":"stop"}\n')
        path = str(tmp_path / "control.sock")
        other = Client(*await asyncio.open_unix_connection(path))
        assert (await other.ask(b'{"request":"status"}'))["ok"]
        other.writer.close()

    conversation(tmp_path, talk)


async def connected(tmp_path: Path) -> Client:
    return Client(*await asyncio.open_unix_connection(str(tmp_path / "control.sock")))


WAIT = b'{"request":"wait","commit":"HEAD"}\n'


def test_who_waits_takes_no_place_of_who_asks(tmp_path: Path) -> None:
    """An afternoon of jobs that wait for a commit, while somebody has its port."""

    async def talk(client: Client) -> None:
        others = [await connected(tmp_path) for _ in range(200)]
        for other in others:
            other.writer.write(WAIT)
        refused = await asyncio.gather(*(other.reader.readline() for other in others[128:]))
        for line in refused:
            error = json.loads(line)["error"]
            assert error["code"] == "busy"
            assert error["message"] == "128 wait at once already: try again"
        assert (await client.ask(b'{"request":"status"}'))["ok"]
        assert (await client.ask(b'{"request":"show"}'))["error"]["code"] == "not_found"
        # Who goes away waits no more.
        for other in others[:4]:
            other.writer.close()
        await asyncio.sleep(2 * module._LEFT_LOOK_S)
        again = [await connected(tmp_path) for _ in range(5)]
        for other in again:
            other.writer.write(WAIT)
        assert json.loads(await again[-1].reader.readline())["error"]["code"] == "busy"
        for other in [*others, *again]:
            other.writer.close()

    conversation(tmp_path, talk)


def test_places_are_kept_for_status_and_stop(tmp_path: Path) -> None:
    async def talk(client: Client) -> None:
        others = [await connected(tmp_path) for _ in range(64)]
        for other in others:
            other.writer.write(b'{"request":"plan"}\n')
        await asyncio.sleep(0.1)
        assert (await client.ask(b'{"request":"history"}'))["error"]["code"] == "busy"
        assert (await client.ask(b'{"request":"status"}'))["ok"]
        for other in others:
            other.writer.close()

    conversation(tmp_path, talk)


def test_who_asks_nothing_takes_no_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SILENT_S_MAX", 1.0)

    async def talk(client: Client) -> None:
        others = [await connected(tmp_path) for _ in range(300)]
        later = await connected(tmp_path)
        assert (await later.ask(b'{"request":"status"}'))["ok"]
        # The oldest has gone at once, and everybody in the end.
        async with asyncio.timeout(0.5):
            assert await others[0].reader.read() == b""
        async with asyncio.timeout(10):
            assert await others[-1].reader.read() == b""
            assert await later.reader.read() == b""
        for other in [*others, later]:
            other.writer.close()

    conversation(tmp_path, talk)


def test_only_its_owner_may_connect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def talk(client: Client) -> None:
        assert (tmp_path / "control.sock").stat().st_mode & 0o777 == 0o600
        assert (await client.ask(b'{"request":"status"}'))["ok"]
        # The permissions may be wrong one day; the peer's user is looked at all the same.
        with monkeypatch.context() as patched:
            patched.setattr(module, "_PEERCRED", _Stranger())
            path = str(tmp_path / "control.sock")
            stranger = Client(*await asyncio.open_unix_connection(path))
            assert await stranger.reader.read() == b""
            stranger.writer.close()

    conversation(tmp_path, talk)


class _Stranger:
    size = 12

    def unpack(self, _: bytes) -> tuple[int, int, int]:
        return 1, os.getuid() + 1, 0


def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "control.sock").write_text("")

    async def talk(client: Client) -> None:
        assert (await client.ask(b'{"request":"status"}'))["ok"]

    conversation(tmp_path, talk)


def test_a_path_that_cannot_be_used_is_a_sentence(tmp_path: Path) -> None:
    async def run() -> None:
        with pytest.raises(MachineError, match="cannot listen on"):
            ControlSocket(tmp_path / "gone" / "control.sock", answer, Reserve()).open()

    asyncio.run(run())


def resident_kib() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4


def test_a_long_answer_is_written_as_it_is_read(tmp_path: Path) -> None:
    async def talk(client: Client) -> None:
        client.writer.write(b'{"request":"show","kind":"frontend"}\n')
        before, read = resident_kib(), 0
        while not (part := await client.reader.read(1 << 20)).endswith(b"\n"):
            assert part
            read += len(part)
            assert resident_kib() - before < 200 * 1024
        assert read > len(PART) * 16_384 - (1 << 20)

    conversation(tmp_path, talk)


def test_a_long_answer_ends_with_its_reader(tmp_path: Path) -> None:
    async def talk(client: Client) -> None:
        client.writer.write(b'{"request":"show","kind":"frontend"}\n')
        await client.reader.readexactly(len(PART))
        assert not closed.is_set()
        client.writer.close()
        assert await asyncio.to_thread(closed.wait, 10)

    conversation(tmp_path, talk)


def test_who_reads_nothing_has_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_READ_S_MAX", 0.2)

    async def talk(client: Client) -> None:
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        client.writer.write(b'{"request":"show","kind":"frontend"}\n')
        assert await asyncio.to_thread(closed.wait, 10)

    conversation(tmp_path, talk)
