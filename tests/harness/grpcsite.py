"""A real gRPC service, by grpcio: four methods, one of each kind, whose messages are plain bytes.

No generated code: what passes through a proxy is the same with messages of any making.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc

SERVICE = "kakehi.test.Echo"
_MESSAGE_BYTES_MAX = 64 << 20
_OPTIONS = [
    ("grpc.max_receive_message_length", _MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", _MESSAGE_BYTES_MAX),
]


class Echo(grpc.GenericRpcHandler):
    """Answers with what it is sent; what else it does is in the metadata of a call."""

    def __init__(self) -> None:
        self.cancelled = threading.Event()
        self.deadlines: list[float] = []

    def service(self, details: Any) -> Any:
        handlers = {
            "Unary": grpc.unary_unary_rpc_method_handler(self.unary),
            "Download": grpc.unary_stream_rpc_method_handler(self.download),
            "Upload": grpc.stream_unary_rpc_method_handler(self.upload),
            "Chat": grpc.stream_stream_rpc_method_handler(self.chat),
            "Stall": grpc.unary_unary_rpc_method_handler(self.stall),
            "Fail": grpc.unary_unary_rpc_method_handler(self.fail),
        }
        return handlers.get(details.method.rpartition("/")[2])

    def unary(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        sent = dict(context.invocation_metadata())
        context.set_trailing_metadata([("x-seen-bin", sent.get("x-given-bin", b""))])
        return request

    def download(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        count, length = (int(word) for word in request.split())
        for number in range(count):
            yield bytes([number % 256]) * length

    def upload(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        return str(sum(len(each) for each in requests)).encode()

    def chat(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        for each in requests:
            yield each.upper()

    def stall(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        self.deadlines.append(context.time_remaining() or 0.0)
        context.add_callback(self.cancelled.set)
        while context.is_active():
            time.sleep(0.01)
        return b""

    def fail(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, request.decode())
        return b""


class GrpcServer:
    """Use as a context manager."""

    def __init__(self, credentials: grpc.ServerCredentials | None = None) -> None:
        self.echo = Echo()
        self.server = grpc.server(
            futures.ThreadPoolExecutor(32), handlers=[self.echo], options=_OPTIONS
        )
        if credentials is None:
            port = self.server.add_insecure_port("127.0.0.1:0")
        else:
            port = self.server.add_secure_port("127.0.0.1:0", credentials)
        self.address = f"127.0.0.1:{port}"

    def __enter__(self) -> GrpcServer:
        self.server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.stop(0).wait(5)


class GrpcClient:
    """Use as a context manager; a method for each of the service's."""

    def __init__(self, address: str, credentials: grpc.ChannelCredentials | None = None) -> None:
        options = [*_OPTIONS, ("grpc.ssl_target_name_override", "shop.test")]
        if credentials is None:
            self.channel = grpc.insecure_channel(address, _OPTIONS)
        else:
            self.channel = grpc.secure_channel(address, credentials, options)
        self.unary = self.channel.unary_unary(f"/{SERVICE}/Unary")
        self.download = self.channel.unary_stream(f"/{SERVICE}/Download")
        self.upload = self.channel.stream_unary(f"/{SERVICE}/Upload")
        self.chat = self.channel.stream_stream(f"/{SERVICE}/Chat")
        self.stall = self.channel.unary_unary(f"/{SERVICE}/Stall")
        self.fail = self.channel.unary_unary(f"/{SERVICE}/Fail")
        self.unknown = self.channel.unary_unary(f"/{SERVICE}/Unknown")

    def __enter__(self) -> GrpcClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()
