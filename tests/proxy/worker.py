"""A worker process as the reconciler starts it, and one connection to it, for the shell's tests."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import time
from pathlib import Path

from schemas.changes.ops import Chunk, chunks
from schemas.changes.state import EMPTY_DIGEST, State
from schemas.entities.entity import Entity, EntityKey, Json, Provenance
from schemas.kinds.registry import MODELS
from schemas.messages import wire
from schemas.messages.channel import Channel

DEADLINE_S = 20.0
SMALL_MAX = 100


class Connection:
    """One connection to a worker, blocking."""

    def __init__(self, path: Path) -> None:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(path))
        self.channel = Channel(connection)
        self._waiting: list[bytes] = []
        self.worked = 0
        """How often it has said that it is at it."""

    def send(self, message: wire.ToWorker, descriptors: list[int] | None = None) -> None:
        self.channel.send(wire.encode(message), descriptors)
        while self.channel.has_outgoing:
            select.select([], [self.channel], [], DEADLINE_S)
            self.channel.flush()

    def send_body(self, body: bytes) -> None:
        """What is no message of ours."""
        self.channel.send(len(body).to_bytes(4, "big") + body)

    def receive(self) -> wire.FromWorker | None:
        """The next answer; None when the worker closed the connection."""
        while isinstance(message := self._next(), wire.Working):
            self.worked += 1
        return message

    def _next(self) -> wire.FromWorker | None:
        deadline = time.monotonic() + DEADLINE_S
        while not self._waiting:
            assert time.monotonic() < deadline, "the worker says nothing"
            select.select([self.channel], [], [], 0.5)
            bodies, closed = self.channel.receive()
            self._waiting += bodies
            if closed and not self._waiting:
                return None
        return wire.decode_from_worker(self._waiting.pop(0))

    def ask(
        self, message: wire.ToWorker, descriptors: list[int] | None = None
    ) -> wire.FromWorker | None:
        self.send(message, descriptors)
        return self.receive()

    def prepare(self, wanted: State, generation: int = 1) -> wire.FromWorker | None:
        """Stages a state chunk by chunk and has it prepared; the answer to the last message."""
        for message in stages(wanted, generation):
            assert isinstance(self.ask(message), wire.Staged)
        return self.ask(prepare(wanted, generation))

    def greet(self, epoch: int = 1) -> wire.Welcome:
        reply = self.ask(wire.Hello(epoch=epoch))
        assert isinstance(reply, wire.Welcome)
        return reply

    def descriptors(self, welcome: wire.Welcome) -> list[int]:
        return self.channel.take_descriptors(1 + len(welcome.listeners))

    def close(self) -> None:
        self.channel.close()


class Worker:
    """One process; its control socket lies in a directory of the test."""

    def __init__(self, directory: Path, number: int = 3) -> None:
        self.path = directory / f"{number}.sock"
        self.cpu = max(os.sched_getaffinity(0))
        control = socket.socket(socket.AF_UNIX)
        control.bind(str(self.path))
        control.listen(8)
        command = [sys.executable, "-P", "-m", "proxy", f"--worker={number}", f"--cpu={self.cpu}"]
        self.process = subprocess.Popen(
            [*command, f"--control-fd={control.fileno()}"],
            pass_fds=[control.fileno()],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        control.close()

    def connect(self) -> Connection:
        return Connection(self.path)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(DEADLINE_S)
        assert self.process.stderr is not None
        self.process.stderr.close()


def state(listener: str, backend: str) -> State:
    """The smallest state that serves."""

    def entity(kind: str, name: str, **value: Json) -> Entity:
        whole = MODELS[kind].of_value(value).value()
        return Entity(EntityKey(kind, name), whole, Provenance("a.yaml", 1, 1))

    return State(
        [
            entity("settings", "settings", access_log="off"),
            entity("listener", "public", address=listener),
            entity("cluster", "shop"),
            entity("backend", "shop/one", address=backend),
            entity("frontend", "web", listeners=["public"], cluster="shop"),
        ]
    )


def stages(wanted: State, generation: int = 1, transaction: int = 7) -> list[wire.Stage]:
    """The messages that bring a fresh worker to a state."""
    return [
        wire.Stage(
            transaction=transaction,
            generation=generation,
            number=number,
            ops=chunk.ops,
            material_dir="",
            materials=chunk.materials,
        )
        for number, chunk in enumerate(_parts(wanted))
    ]


def _parts(wanted: State) -> list[Chunk]:
    """One for each entity; of a large state as few as the reconciler makes of it."""
    entities = wanted.entities.values()
    if len(wanted) > SMALL_MAX:
        return list(chunks(entities))
    return [chunk for entity in entities for chunk in chunks([entity])]


def prepare(wanted: State, generation: int = 1, transaction: int = 7) -> wire.Prepare:
    """What follows them."""
    return wire.Prepare(
        transaction=transaction,
        generation=generation,
        base_generation=0,
        base_digest=EMPTY_DIGEST,
        commit="c" * 40,
        chunks=len(_parts(wanted)),
        sockets=[],
    )
