"""The machines of the demo shop: small HTTP servers that say who they are.

`kakehi demo` runs this module as a process of its own, with the ports as arguments. It ends when
its standard input does, so that it never outlives the demo, however that ends.
"""

import asyncio
import os
import sys
from functools import partial

HEAD_BYTES_MAX = 64 * 1024


async def serve(ports: list[int]) -> None:
    """Serve shop-1, shop-2, … on the ports until standard input ends."""
    servers = [
        await asyncio.start_server(
            partial(_connection, f"shop-{number}"), "127.0.0.1", port, limit=HEAD_BYTES_MAX
        )
        for number, port in enumerate(ports, start=1)
    ]
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), partial(_at_end, ended))
    await ended.wait()
    for server in servers:
        server.close()


def _at_end(ended: asyncio.Event) -> None:
    if not os.read(sys.stdin.fileno(), 1024):
        ended.set()


async def _connection(
    name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Answer the requests of one connection."""
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            method, path, _ = head.split(" ", 2)
            await _skip_body(reader, _fields(head))
            body = f"hello from {name}: {method} {path}\n".encode()
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n"
                b"Content-Length: %d\r\n\r\n" % len(body) + (b"" if method == "HEAD" else body)
            )
            await writer.drain()
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError, OSError):
        # The connection ended, or what came is no request: either way there is nothing to answer.
        pass
    except asyncio.CancelledError:
        # The demo ends in the middle of a request; asyncio would print where.
        pass
    finally:
        writer.close()


def _fields(head: str) -> dict[str, str]:
    pairs = (line.partition(":") for line in head.split("\r\n")[1:] if line)
    return {name.lower(): value.strip() for name, _, value in pairs}


async def _skip_body(reader: asyncio.StreamReader, fields: dict[str, str]) -> None:
    if fields.get("transfer-encoding", "").lower() == "chunked":
        while size := int((await reader.readline()).split(b";")[0], 16):
            await reader.readexactly(size + 2)
        while (await reader.readline()).strip():
            continue
    else:
        await reader.readexactly(int(fields.get("content-length", "0")))


if __name__ == "__main__":
    asyncio.run(serve([int(port) for port in sys.argv[1:]]))
