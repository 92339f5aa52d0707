"""An open-loop HTTP client in a process of its own; started by `tests.harness.load` alone.

Each connection has its own timetable: a request is due whether or not the one before was answered
in time, so what a stall costs is seen in full. What happened goes to a file, one JSON line each:
  ["request", due, sent, ended, port, host, status, generation, body, error]
  ["closed", at, port]        the proxy closed a connection that had no request in flight
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any, TextIO

import uvloop

ANSWER_DEADLINE_S = 20.0
_FLUSH_S = 0.05
_RECONNECT_S = 0.02


class Connection(asyncio.Protocol):
    """One connection that carries one request at a time."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._buffer = bytearray()
        self.answer: asyncio.Future[tuple[int, str, str, bool]] | None = None
        self.open = False
        self.closed_here = False
        self.port = 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.port = transport.get_extra_info("sockname")[1]
        self.open = True

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, rest = bytes(self._buffer).partition(b"\r\n\r\n")
        if not separator:
            return
        lines = head.split(b"\r\n")
        fields = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(b":") for line in lines[1:])
        }
        length = int(fields.get(b"content-length", b"0"))
        if len(rest) < length:
            return
        self._buffer = bytearray(rest[length:])
        if self.answer is None or self.answer.done() or self._buffer:
            self._client.write(["stray", time.monotonic(), self.port, data.decode("latin-1")])
            return
        self.answer.set_result(
            (
                int(lines[0].split(b" ")[1]),
                fields.get(b"kakehi-generation", b"").decode(),
                rest[:length].decode("latin-1"),
                fields.get(b"connection", b"").lower() == b"close",
            )
        )

    def connection_lost(self, error: Exception | None) -> None:
        self.open = False
        if self.answer is not None and not self.answer.done():
            self.answer.set_exception(error or ConnectionResetError("closed before the answer"))
        elif not self.closed_here:
            self._client.write(["closed", time.monotonic(), self.port])

    def close(self) -> None:
        self.closed_here = True
        self.open = False
        self.transport.close()

    async def ask(self, host: str) -> tuple[int, str, str, bool]:
        self.answer = asyncio.get_running_loop().create_future()
        self.transport.write(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        try:
            async with asyncio.timeout(ANSWER_DEADLINE_S):
                return await self.answer
        finally:
            self.answer = None


class Client:
    """All connections of one run."""

    def __init__(self, plan: dict[str, Any], out: TextIO) -> None:
        self._plan = plan
        self._out = out
        self.leaving = False

    def write(self, record: list[Any]) -> None:
        self._out.write(json.dumps(record) + "\n")

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._leave)
        count, interval = self._plan["connections"], self._plan["connections"] / self._plan["rate"]
        begin = time.monotonic() + 0.05
        tasks = [
            loop.create_task(self._follow(number, begin + number * interval / count, interval))
            for number in range(count)
        ]
        while not all(task.done() for task in tasks):
            self._out.flush()
            await asyncio.wait(tasks, timeout=_FLUSH_S)
        await asyncio.gather(*tasks)

    def _leave(self) -> None:
        self.leaving = True

    async def _follow(self, number: int, due: float, interval: float) -> None:
        """One connection's timetable; the first `fresh` ones connect anew for every request."""
        hosts: list[str] = self._plan["hosts"]
        fresh = number < self._plan["fresh"]
        connection: Connection | None = None
        turn = number
        while not self.leaving:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            host = hosts[turn % len(hosts)]
            connection = await self._request(connection, host, due, keep=not fresh)
            due += interval
            turn += 1
        if connection is not None:
            connection.close()

    async def _request(
        self, connection: Connection | None, host: str, due: float, *, keep: bool
    ) -> Connection | None:
        sent = time.monotonic()
        status, generation, body, closes, error = 0, "", "", False, ""
        try:
            if connection is None or not connection.open:
                connection = await self._connect()
            status, generation, body, closes = await connection.ask(host)
        except (OSError, TimeoutError) as failure:
            error = f"{type(failure).__name__}: {failure}"
            closes = True
        ended = time.monotonic()
        port = connection.port if connection else 0
        self.write(["request", due, sent, ended, port, host, status, generation, body, error])
        if connection is None:
            await asyncio.sleep(_RECONNECT_S)
            return None
        if keep and not closes:
            return connection
        connection.close()
        return None

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        host, port = self._plan["address"]
        async with asyncio.timeout(ANSWER_DEADLINE_S):
            _, connection = await loop.create_connection(lambda: Connection(self), host, port)
        return connection


def main() -> None:
    plan = json.loads(sys.argv[1])
    with Path(sys.argv[2]).open("w", encoding="utf-8") as out:
        uvloop.run(Client(plan, out).run())


if __name__ == "__main__":
    main()
