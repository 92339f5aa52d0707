"""A worker process with the real engine, spoken to as the reconciler does."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import http.client
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.drained import GRACE_S
from proxy.engine_api import EngineApi
from proxy.shell import Shell
from reconciler.storage.store import Store
from reconciler.workers.listening.sockets import SocketTable
from reconciler.workers.telling.rates import RateTableKeeper
from reconciler.workers.telling.tickets import TicketKeeper
from schemas.changes.state import EMPTY_DIGEST, State
from schemas.entities.entity import NOWHERE, Entity, EntityKey
from schemas.messages import wire
from schemas.messages.files import identity
from tests.harness import processes
from tests.harness.ports import address, split
from tests.harness.rawbackend import RawBackend
from tests.proxy.worker import DEADLINE_S, Connection, Worker, prepare, stages, state


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    made = Worker(tmp_path)
    yield made
    made.end()


@pytest.fixture
def connection(worker: Worker) -> Iterator[Connection]:
    made = worker.connect()
    yield made
    made.close()


class Served:
    """A listener with its socket and a backend behind it."""

    def __init__(self) -> None:
        self.backend = RawBackend()
        self.address = address()
        self.state: State = state(self.address, self.backend.address)
        self.sockets = SocketTable()
        self.descriptor = self.sockets.open(0, self.address).fileno()

    def get(self) -> int:
        connection = http.client.HTTPConnection(*split(self.address), timeout=5)
        try:
            connection.request("GET", "/")
            return connection.getresponse().status
        finally:
            connection.close()

    def bring_up(self, connection: Connection) -> None:
        reply = connection.prepare(self.state)
        assert reply == wire.Prepared(transaction=7, generation=1, digest=self.state.digest)
        reply = connection.ask(wire.Commit(transaction=7, generation=1))
        assert reply == wire.Committed(transaction=7, generation=1, digest=self.state.digest)
        self.serve(connection)

    def serve(self, connection: Connection) -> None:
        reply = connection.ask(wire.Serve(sockets=["public"]), [self.descriptor])
        assert reply == wire.Served()


@pytest.fixture
def served() -> Iterator[Served]:
    made = Served()
    yield made
    made.sockets.close()
    made.backend.stop()


def test_a_fresh_worker_says_what_it_is(worker: Worker, connection: Connection) -> None:
    welcome = connection.greet()
    assert (welcome.worker, welcome.pid, welcome.cpu) == (3, worker.process.pid, worker.cpu)
    assert (welcome.generation, welcome.digest, welcome.staged) == (0, EMPTY_DIGEST, None)
    (memory,) = connection.descriptors(welcome)
    assert os.pread(memory, 8, 0) == b"KAKEHI01"
    os.close(memory)
    assert os.sched_getaffinity(worker.process.pid) == {worker.cpu}
    threads = os.listdir(f"/proc/{worker.process.pid}/task")
    assert all(os.sched_getaffinity(int(thread)) == {worker.cpu} for thread in threads)
    assert Path(f"/proc/{worker.process.pid}/comm").read_text() == "kakehi-w3\n"


def test_prepare_changes_nothing_and_commit_all(connection: Connection, served: Served) -> None:
    connection.descriptors(connection.greet())
    connection.prepare(served.state)
    audited = connection.ask(wire.Audit())
    assert audited == wire.Audited(generation=0, digest=EMPTY_DIGEST, differing=[])
    connection.ask(wire.Commit(transaction=7, generation=1))
    served.serve(connection)
    assert served.get() == 200
    assert connection.ask(wire.Release(transaction=7, generation=1)) == wire.Released(
        transaction=7, generation=1
    )
    audited = connection.ask(wire.Audit())
    assert audited == wire.Audited(generation=1, digest=served.state.digest, differing=[])


def test_nobody_waits_for_an_audit_of_a_large_state(connection: Connection, served: Served) -> None:
    connection.descriptors(connection.greet())
    backend = served.state[EntityKey("backend", "shop/one")]
    many = [replace(backend, key=EntityKey("backend", f"shop/{n}")) for n in range(20_000)]
    wanted = State([*served.state.entities.values(), *many])
    connection.prepare(wanted)
    connection.ask(wire.Commit(transaction=7, generation=1))
    whole = wire.Audited(generation=1, digest=wanted.digest, differing=[])

    # Whether the first is through before the second comes is up to the machine.
    ended = 0
    for _ in range(20):
        connection.send(wire.Audit())
        connection.send(wire.Overlay(drained=[]))
        found = connection.receive()
        assert found in (wire.AuditEnded(), whole)
        ended += found == wire.AuditEnded()
        assert connection.receive() == wire.Overlaid(drained=[])
    assert ended > 0

    connection.send(wire.Audit(to_the_end=True))
    connection.send(wire.Overlay(drained=[]))
    assert [connection.receive(), connection.receive()] == [whole, wire.Overlaid(drained=[])]
    assert connection.ask(wire.Audit()) == whole


def test_what_is_held_is_told_in_bounded_parts(connection: Connection, served: Served) -> None:
    connection.descriptors(connection.greet())
    nothing = wire.Recited(generation=0, digest=EMPTY_DIGEST, entities="[]", next=0, last=True)
    assert connection.ask(wire.Recite(position=0)) == nothing
    wanted = served.state
    backend = wanted[EntityKey("backend", "shop/one")]
    wanted = State(
        [
            *wanted.entities.values(),
            *(replace(backend, key=EntityKey("backend", f"shop/{n}")) for n in range(600)),
        ]
    )
    connection.prepare(wanted)
    connection.ask(wire.Commit(transaction=7, generation=1))
    entities: list[Entity] = []
    parts, position, last = 0, 0, False
    while not last:
        part = connection.ask(wire.Recite(position=position))
        assert isinstance(part, wire.Recited)
        assert (part.generation, part.digest) == (1, wanted.digest)
        told = json.loads(part.entities)
        assert len(told) <= 256
        entities += (
            Entity(EntityKey(each["kind"], each["name"]), each["value"], NOWHERE) for each in told
        )
        parts, position, last = parts + 1, part.next, part.last
    assert parts == 3
    assert State(entities).digest == wanted.digest
    beyond = connection.ask(wire.Recite(position=10_000))
    assert isinstance(beyond, wire.Recited)
    assert (beyond.entities, beyond.last) == ("[]", True)


def test_messages_may_be_repeated(connection: Connection, served: Served) -> None:
    connection.descriptors(connection.greet())
    served.bring_up(connection)
    served.bring_up(connection)
    for message in (
        wire.Commit(transaction=8, generation=1),
        wire.Abort(transaction=8, generation=1),
        wire.Abort(transaction=8, generation=2),
        wire.Release(transaction=8, generation=1),
        wire.Release(transaction=8, generation=1),
        wire.Overlay(drained=["shop/one", "gone/gone"]),
        wire.Overlay(drained=[]),
    ):
        assert connection.ask(message) is not None
    assert served.get() == 200


def test_what_is_kept_of_an_overlay_is_told_to_the_next_reconciler(
    connection: Connection, worker: Worker
) -> None:
    connection.descriptors(connection.greet())
    assert connection.ask(wire.Recall()) == wire.Recalled(kept="")
    connection.ask(wire.Overlay(drained=["shop/one"], kept="whatever"))
    # Somebody only asks whether it answers.
    connection.ask(wire.Overlay(drained=["shop/one"]))
    other = worker.connect()
    other.descriptors(other.greet(2))
    assert other.ask(wire.Recall()) == wire.Recalled(kept="whatever")
    other.close()


def test_a_drain_ends_without_another_word(connection: Connection, served: Served) -> None:
    connection.descriptors(connection.greet())
    served.bring_up(connection)
    ends = time.time() + 1
    assert connection.ask(wire.Overlay(drained=["shop/one"], ends={"shop/one": ends})) is not None
    assert served.get() == 503
    # A later end takes the place of the one before, and one that has no end any.
    later = wire.Overlay(drained=["shop/one"], ends={"shop/one": ends + 1})
    assert connection.ask(later) is not None
    while time.time() < ends + GRACE_S + 0.5:
        assert served.get() == 503
    processes.wait_until(lambda: served.get() == 200, "it takes requests again", 5)
    assert connection.ask(wire.Overlay(drained=["shop/one"])) is not None
    time.sleep(0.2)
    assert served.get() == 503
    # What is over before it comes drains nobody.
    connection.ask(wire.Overlay(drained=["shop/one"], ends={"shop/one": ends - GRACE_S}))
    assert served.get() == 200


def test_ticket_keys_are_read_from_where_they_lie(connection: Connection, tmp_path: Path) -> None:
    connection.descriptors(connection.greet())
    store = Store(tmp_path / "state")
    keys = TicketKeeper(tmp_path, store)
    keys.rotate_if_due()
    store.close()
    taken = connection.ask(wire.TicketKeys(path=str(keys.path)))
    assert taken == wire.TicketKeysTaken()
    keys.path.write_bytes(b"short")
    for path in (keys.path, tmp_path / "nothing"):
        taken = connection.ask(wire.TicketKeys(path=str(path)))
        assert isinstance(taken, wire.TicketKeysTaken)
        assert taken.problem


def test_a_table_of_rates_is_taken_and_nothing_else(connection: Connection, tmp_path: Path) -> None:
    connection.descriptors(connection.greet())
    with closing(RateTableKeeper(tmp_path)) as table, table.opened() as file:
        assert file is not None
        assert connection.ask(wire.RateTable(), [file]) == wire.RateTableTaken()
        welcome = connection.greet(2)
        connection.descriptors(welcome)
        assert welcome.rate_table == identity(file)
        os.pwrite(file, b"another", 0)
        taken = connection.ask(wire.RateTable(), [file])
        assert isinstance(taken, wire.RateTableTaken)
        assert "no table of this version" in str(taken.problem)
        os.ftruncate(file, 100)
        taken = connection.ask(wire.RateTable(), [file])
        assert isinstance(taken, wire.RateTableTaken)
        assert "no file of that length" in str(taken.problem)


def test_an_aborted_attempt_leaves_room_for_another(connection: Connection, served: Served) -> None:
    connection.descriptors(connection.greet())
    connection.prepare(served.state)
    aborted = connection.ask(wire.Abort(transaction=7, generation=1))
    assert aborted == wire.Aborted(transaction=7, generation=1)
    # And one that nobody aborted, because its reconciler died, does too.
    connection.prepare(served.state)
    served.bring_up(connection)
    assert served.get() == 200


def test_an_abort_ends_a_change_that_is_on_its_way(connection: Connection, served: Served) -> None:
    connection.descriptors(connection.greet())
    *some, last = stages(served.state)
    for message in some:
        assert isinstance(connection.ask(message), wire.Staged)
    connection.ask(wire.Abort(transaction=7, generation=1))
    refused = connection.ask(last)
    assert isinstance(refused, wire.Refused)
    assert refused.kind == "state"
    # As does the beginning of the next one.
    for message in some:
        connection.ask(message)
    served.bring_up(connection)
    assert served.get() == 200


def test_a_change_ends_with_the_connection_by_which_it_came(worker: Worker, served: Served) -> None:
    first = worker.connect()
    first.descriptors(first.greet())
    *some, last = stages(served.state)
    for message in some:
        first.ask(message)
    first.close()
    second = worker.connect()
    welcome = second.greet(epoch=2)
    second.descriptors(welcome)
    assert (welcome.generation, welcome.staged, welcome.serving) == (0, None, False)
    assert isinstance(second.ask(last), wire.Refused)
    served.bring_up(second)
    assert served.get() == 200
    second.close()


def test_connections_wait_until_it_serves(connection: Connection, served: Served) -> None:
    connection.descriptors(connection.greet())
    connection.prepare(served.state)
    connection.ask(wire.Commit(transaction=7, generation=1))
    early = http.client.HTTPConnection(*split(served.address), timeout=DEADLINE_S)
    early.request("GET", "/")
    time.sleep(0.2)
    assert not served.backend.requests
    # What cannot be had keeps nobody from the rest.
    assert connection.ask(wire.Serve(sockets=[])) == wire.Served()
    time.sleep(0.2)
    assert not served.backend.requests
    served.serve(connection)
    assert early.getresponse().status == 200
    early.close()
    assert connection.ask(wire.Serve(sockets=[])) == wire.Served()


def test_one_of_another_protocol_is_greeted_and_not_obeyed(
    worker: Worker, connection: Connection, served: Served
) -> None:
    connection.descriptors(connection.greet())
    served.bring_up(connection)
    other = worker.connect()
    other.send_body(b'{"type":"hello","epoch":2,"protocol":99,"colour":"red"}')
    welcome = other.receive()
    assert isinstance(welcome, wire.Welcome)
    assert (welcome.protocol, welcome.serving) == (wire.PROTOCOL, True)
    other.descriptors(welcome)
    assert connection.receive() == wire.Stale(epoch=2), "it is the newer one all the same"
    other.send(wire.Shutdown(drain_ms=0))
    assert isinstance(other.receive(), wire.Stale)
    assert other.receive() is None
    other.close()
    assert served.get() == 200
    assert worker.process.poll() is None


def test_a_refusal_names_its_entity(connection: Connection, served: Served) -> None:
    connection.descriptors(connection.greet())
    connection.ask(wire.Serve(sockets=[]))
    reply = connection.prepare(served.state)
    assert isinstance(reply, wire.Refused)
    assert (reply.kind, reply.name, reply.transaction) == ("listener", "public", 7)
    first, second, *_ = stages(served.state)
    connection.ask(first)
    broken = second.model_copy(update={"ops": second.ops.replace("address", "adress")})
    reply = connection.ask(broken)
    assert isinstance(reply, wire.Refused)
    assert (reply.kind, reply.name, reply.transaction) == ("listener", "public", 7)
    wrong_base = prepare(served.state).model_copy(update={"base_generation": 5})
    reply = connection.ask(wrong_base)
    assert isinstance(reply, wire.Refused)
    assert reply.kind == "state", "what the reconciler takes for drift"


def test_a_worker_outlives_its_reconciler(worker: Worker, served: Served) -> None:
    first = worker.connect()
    first.descriptors(first.greet())
    served.bring_up(first)
    first.close()
    served.sockets.close()
    assert served.get() == 200
    second = worker.connect()
    welcome = second.greet(epoch=2)
    assert (welcome.generation, welcome.digest) == (1, served.state.digest)
    assert welcome.listeners == ["public"]
    memory, listener = second.descriptors(welcome)
    with socket.socket(fileno=listener) as held:
        assert held.getsockname() == split(served.address)
    os.close(memory)
    second.close()


@pytest.mark.parametrize("spoken", [False, True])
def test_a_worker_that_nobody_has_spoken_to_ends(tmp_path: Path, *, spoken: bool) -> None:
    """Who has forked it may have given up meanwhile, and knows of none."""
    path = tmp_path / "w.sock"

    async def lived() -> float:
        control = socket.socket(socket.AF_UNIX)
        control.bind(str(path))
        shell = Shell(0, -1, EngineApi(0, None), control, unspoken_s=0.3)
        asyncio.get_running_loop().call_later(2.0, shell.end, 0)
        begun = time.monotonic()
        living = asyncio.create_task(shell.run())
        await asyncio.sleep(0)
        if spoken:
            await asyncio.to_thread(greeted)
        await living
        return time.monotonic() - begun

    def greeted() -> None:
        connection = Connection(path)
        connection.greet()
        connection.close()

    assert (asyncio.run(lived()) >= 2.0) == spoken


def test_a_higher_epoch_takes_over_and_a_lower_one_is_stale(worker: Worker) -> None:
    first, second, third = worker.connect(), worker.connect(), worker.connect()
    first.greet(epoch=5)
    second.greet(epoch=6)
    assert first.receive() == wire.Stale(epoch=6)
    assert first.receive() is None
    assert third.ask(wire.Hello(epoch=5)) == wire.Stale(epoch=6)
    assert third.receive() is None
    assert isinstance(second.ask(wire.Audit()), wire.Audited)
    for each in (first, second, third):
        each.close()


def test_nobody_is_obeyed_before_hello(worker: Worker) -> None:
    stranger = worker.connect()
    stranger.send(wire.Shutdown(drain_ms=0))
    assert isinstance(stranger.receive(), wire.Stale)
    assert stranger.receive() is None
    stranger.close()
    assert worker.process.poll() is None


@pytest.mark.parametrize(
    "garbage",
    [b"GET / HTTP/1.1\r\n\r\n", b"\xff\xff\xff\xff", b"\0\0\0\x02{}", b'\0\0\0\x05{"a":'],
)
def test_garbage_costs_its_sender_the_connection(
    worker: Worker, served: Served, garbage: bytes
) -> None:
    good = worker.connect()
    good.descriptors(good.greet())
    served.bring_up(good)
    bad = socket.socket(socket.AF_UNIX)
    bad.connect(str(worker.path))
    bad.sendall(garbage)
    bad.settimeout(DEADLINE_S)
    assert bad.recv(100) == b""
    bad.close()
    assert served.get() == 200
    assert isinstance(good.ask(wire.Audit()), wire.Audited)
    good.close()


def test_a_log_that_nobody_reads_holds_nobody_up(worker: Worker, served: Served) -> None:
    """Each of these costs a line on stderr, and the test reads none."""
    good = worker.connect()
    good.descriptors(good.greet())
    served.bring_up(good)
    assert worker.process.stderr is not None
    fcntl.fcntl(worker.process.stderr, fcntl.F_SETPIPE_SZ, 4096)
    for _ in range(150):
        with socket.socket(socket.AF_UNIX) as bad:
            bad.settimeout(DEADLINE_S)
            bad.connect(str(worker.path))
            bad.sendall(b"\xff\xff\xff\xff")
            assert bad.recv(100) == b""
    assert isinstance(good.ask(wire.Audit()), wire.Audited)
    assert served.get() == 200
    good.close()
    worker.process.terminate()
    assert worker.process.wait(DEADLINE_S) == 0


def test_a_shell_without_memory_ends_at_once(worker: Worker, connection: Connection) -> None:
    """What it could not read is lost, so that it would answer nothing any more."""
    connection.descriptors(connection.greet())
    pid = worker.process.pid
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + (4 << 20)
    resource.prlimit(pid, resource.RLIMIT_AS, (limit, limit))
    large = prepare(state(address(), "127.0.0.1:9"))
    large = large.model_copy(update={"ops": " " * (32 << 20), "sockets": []})
    began = time.monotonic()
    with contextlib.suppress(OSError):
        connection.send(large)
    worker.process.wait(5)
    assert time.monotonic() - began < 5
    assert worker.process.stderr is not None
    said = worker.process.stderr.read().decode()
    assert "Traceback" not in said
    # Even a thread to write its last line may be more than there is.
    assert "MemoryError" in said or "can't start new thread" in said


def test_descriptors_that_do_not_fit_their_message_are_refused(
    worker: Worker, served: Served
) -> None:
    bad = worker.connect()
    bad.descriptors(bad.greet())
    message = prepare(served.state).model_copy(update={"sockets": ["public"]})
    bad.send(message, [served.descriptor, served.descriptor])
    assert bad.receive() is None
    bad.close()
    assert worker.process.poll() is None


def test_committing_what_is_not_staged_ends_the_worker(
    worker: Worker, connection: Connection
) -> None:
    """It is behind the commit point and cannot go along: a successor will."""
    connection.descriptors(connection.greet())
    reply = connection.ask(wire.Commit(transaction=1, generation=9))
    assert isinstance(reply, wire.Failed)
    assert worker.process.wait(DEADLINE_S) == 0


def test_what_a_terminal_sends_is_ignored(
    worker: Worker, connection: Connection, served: Served
) -> None:
    connection.descriptors(connection.greet())
    served.bring_up(connection)
    for number in (signal.SIGINT, signal.SIGHUP):
        os.kill(worker.process.pid, number)
    time.sleep(0.2)
    assert served.get() == 200
    assert os.getsid(worker.process.pid) == worker.process.pid


@pytest.mark.parametrize("way", ["signal", "message"])
def test_ending_lets_a_request_finish(
    worker: Worker, connection: Connection, served: Served, way: str
) -> None:
    connection.descriptors(connection.greet())
    served.bring_up(connection)
    served.backend.script = lambda exchange: (
        exchange.wait_for_go(),
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    )[0]
    client = http.client.HTTPConnection(*split(served.address), timeout=DEADLINE_S)
    client.request("GET", "/")
    served.backend.wait_for_requests(1)
    if way == "signal":
        os.kill(worker.process.pid, signal.SIGTERM)
    else:
        connection.send(wire.Shutdown(drain_ms=10_000))
    assert connection.receive() == wire.Leaving()
    time.sleep(0.3)
    assert worker.process.poll() is None
    served.backend.go.set()
    assert client.getresponse().status == 200
    client.close()
    assert worker.process.wait(DEADLINE_S) == 0


def test_a_second_sigterm_does_not_wait(
    worker: Worker, connection: Connection, served: Served
) -> None:
    connection.descriptors(connection.greet())
    served.bring_up(connection)
    served.backend.script = lambda exchange: exchange.wait_for_go()
    client = http.client.HTTPConnection(*split(served.address), timeout=DEADLINE_S)
    client.request("GET", "/")
    served.backend.wait_for_requests(1)
    for _ in range(2):
        os.kill(worker.process.pid, signal.SIGTERM)
        time.sleep(0.3)
    assert worker.process.wait(DEADLINE_S) == 0
    client.close()


def test_an_idle_worker_sleeps(worker: Worker, connection: Connection, served: Served) -> None:
    connection.descriptors(connection.greet())
    served.bring_up(connection)
    assert served.get() == 200
    time.sleep(1.0)

    def switches() -> int:
        total = 0
        for task in Path(f"/proc/{worker.process.pid}/task").iterdir():
            for line in (task / "status").read_text().splitlines():
                if line.startswith("voluntary_ctxt_switches"):
                    total += int(line.split()[1])
        return total

    before = switches()
    time.sleep(5.0)
    assert switches() - before < 10, "an idle worker wakes less than twice a second"


def test_a_core_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    worker = Worker(tmp_path)
    worker.end()
    with socket.socket(socket.AF_UNIX) as control:
        done = subprocess.run(
            [sys.executable, "-m", "proxy", "--worker=0", "--cpu=999"]
            + [f"--control-fd={control.fileno()}"],
            pass_fds=[control.fileno()],
            capture_output=True,
            text=True,
        )
    assert done.returncode == 1
    assert done.stderr.startswith("worker 0 cannot run: ")
    assert len(done.stderr.splitlines()) == 1
