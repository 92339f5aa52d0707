from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.workers.listening.sockets import (
    BindError,
    SocketTable,
    check_exclusive,
    exclusive,
)
from tests.harness import ports
from tests.harness.ports import address, free_port


@pytest.fixture
def table() -> Iterator[SocketTable]:
    made = SocketTable()
    yield made
    made.close()


def connect(where: str) -> socket.socket:
    return socket.create_connection(ports.split(where), timeout=2)


def test_each_worker_has_its_own_socket_of_an_address(table: SocketTable) -> None:
    where = address()
    one, two = table.open(0, where), table.open(1, where)
    assert one is not two
    assert one.getsockname() == two.getsockname()
    assert table.open(0, where) is one
    assert one.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)
    assert not one.getblocking()
    assert not os.get_inheritable(one.fileno())


def test_connections_have_no_delay_from_their_socket(table: SocketTable) -> None:
    where = address()
    found = table.open(0, where)
    with connect(where), found.accept()[0] as accepted:
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_ipv6_is_ipv6_alone(table: SocketTable) -> None:
    port = free_port("::1")
    table.open(0, f"[::]:{port}")
    connect(f"[::1]:{port}").close()
    with pytest.raises(ConnectionRefusedError):
        connect(f"127.0.0.1:{port}")


def test_a_taken_port_is_a_sentence(table: SocketTable) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        where = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(BindError) as refused:
            table.open(0, where)
    assert str(refused.value) == f"cannot bind {where}: address already in use"


def test_another_daemon_of_ours_is_not_shared_with_in_silence(table: SocketTable) -> None:
    other = SocketTable()
    where = address()
    other.open(0, where)
    with pytest.raises(BindError, match="address already in use"):
        table.open(0, where)
    other.close()
    table.open(0, where)


def test_a_wider_address_on_a_port_of_ours_is_no_clash(table: SocketTable) -> None:
    port = free_port()
    table.open(0, f"127.0.0.1:{port}")
    table.open(0, f"0.0.0.0:{port}")


@pytest.mark.parametrize("wanted", ["127.0.0.2", "0.0.0.0"])
def test_nor_on_a_port_that_we_have_at_another_address(table: SocketTable, wanted: str) -> None:
    """A wildcard is of both: ours at one address says nothing of another one's at the next."""
    port = free_port()
    table.open(0, f"127.0.0.1:{port}")
    other = SocketTable()
    other.open(0, f"127.0.0.2:{port}")
    for attempt in (table.check, lambda where: table.open(0, where)):
        with pytest.raises(BindError, match="address already in use") as refused:
            attempt(f"{wanted}:{port}")
        assert refused.value.taken == f"127.0.0.2:{port}"
    for attempt in (check_exclusive, exclusive):
        with pytest.raises(BindError, match="address already in use"):
            attempt(f"{wanted}:{port}", beside=f"127.0.0.1:{port}")
    other.close()
    table.check(f"{wanted}:{port}")
    table.open(0, f"{wanted}:{port}")


def test_an_address_within_a_wildcard_of_ours_is_no_clash(table: SocketTable) -> None:
    port = free_port()
    for host in ("0.0.0.0", "127.0.0.1", "127.0.0.2", "[::]", "[::1]"):
        for worker in (0, 1):
            table.check(f"{host}:{port}")
            table.open(worker, f"{host}:{port}")


def test_an_address_of_another_machine_is_a_sentence(table: SocketTable) -> None:
    with pytest.raises(BindError, match="this machine does not have that address"):
        table.open(0, f"192.0.2.1:{free_port()}")


def test_a_check_says_what_opening_would(table: SocketTable) -> None:
    """Also on a port of ours, where it may find ourselves; and it takes no connection."""
    ours = address()
    port = ours.rpartition(":")[2]
    table.open(0, ours)
    for where in (f"192.0.2.1:{port}", f"192.0.2.1:{free_port()}"):
        with pytest.raises(BindError, match="this machine does not have that address"):
            table.check(where)
    with pytest.raises(BindError, match="this machine does not have that address"):
        check_exclusive(f"192.0.2.1:{port}", beside=ours)
    table.check(f"0.0.0.0:{port}")
    table.check(ours)
    connect(ours).close()
    assert [key for key, _ in table.items()] == [(0, ours)]


def test_there_is_room_for_as_many_as_can_be_opened() -> None:
    """In a process of its own: here, what other tests have left is closed at any moment."""
    script = (
        "import resource\n"
        "from reconciler.workers.listening.sockets import BindError, SocketTable\n"
        "from reconciler.workers.listening.sockets import room, without_room\n"
        "_, most = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (120, most))\n"
        f"table, where, wanted = SocketTable(), {address()!r}, room()\n"
        "for worker in range(int(wanted)): table.open(worker, where)\n"
        "print(wanted > 50, room())\n"
        "try: table.open(-1, where)\n"
        "except BindError as refused: print(str(refused) == str(without_room(where)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.split() == ["True", "0", "True"], done


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become a user without rights")
def test_a_privileged_port_says_what_it_needs() -> None:
    script = (
        "import os; from reconciler.workers.listening.sockets import SocketTable\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "try: SocketTable().open(0, '127.0.0.1:81')\n"
        "except Exception as error: print(error)"
    )
    if Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text().strip() != "1024":
        pytest.skip("every port is free to use here")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "permission denied (ports below 1024 need" in done.stdout, done.stderr


def test_a_successor_takes_the_socket_with_what_waits_in_it(table: SocketTable) -> None:
    where = address()
    first = table.open(0, where)
    waiting = connect(where)
    worker = socket.socket(fileno=os.dup(first.fileno()))
    worker.close()
    successor = socket.socket(fileno=os.dup(table.open(0, where).fileno()))
    accepted, _ = successor.accept()
    assert accepted.getpeername() == waiting.getsockname()
    for each in (accepted, successor, waiting):
        each.close()


def test_settling_closes_what_nobody_needs(table: SocketTable) -> None:
    stays, goes = address(), address()
    for worker in (0, 1):
        table.open(worker, stays)
        table.open(worker, goes)
    assert sorted(table.settle([stays], [0])) == sorted([(0, goes), (1, goes), (1, stays)])
    assert [key for key, _ in table.items()] == [(0, stays)]
    with pytest.raises(ConnectionRefusedError):
        connect(goes)


def test_a_discarded_socket_is_closed(table: SocketTable) -> None:
    where = address()
    table.open(0, where)
    table.discard([(0, where), (7, where)])
    with pytest.raises(ConnectionRefusedError):
        connect(where)


def test_adopting_knows_the_address_again(table: SocketTable) -> None:
    other = SocketTable()
    for where in (address(), address("::1")):
        made = other.open(0, where)
        assert table.adopt(3, os.dup(made.fileno())) == where
        assert table.has(3, where)
    other.close()


def test_what_is_no_listening_socket_is_not_adopted(table: SocketTable) -> None:
    reader, writer = os.pipe()
    plain = socket.socket()
    path = socket.socket(socket.AF_UNIX)
    for descriptor in (reader, writer, plain.detach(), path.detach()):
        assert table.adopt(0, descriptor) is None
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)


def test_an_exclusive_socket_replaces_the_one_beside_it() -> None:
    port = free_port()
    with exclusive(f"127.0.0.1:{port}", beside=None):
        with pytest.raises(BindError):
            exclusive(f"0.0.0.0:{port}", beside=None)
        exclusive(f"0.0.0.0:{port}", beside=f"127.0.0.1:{port}").close()
