"""A WebSocket server that sends back what it gets, by the `websockets` package.

Run by `test_kosoku` under the interpreter of the suites; prints its port when it listens.
"""

import asyncio

import websockets


async def echo(connection: websockets.ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


async def main() -> None:
    async with websockets.serve(echo, "127.0.0.1", 0, max_size=None) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()


asyncio.run(main())
