"""Against a real notify socket, as systemd has it."""

from __future__ import annotations

import array
import contextlib
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.systemd import notify
from reconciler.systemd.notify import Notifier


class ServiceManager:
    """A datagram socket that takes notifications and the descriptors that come with them."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        self._socket.settimeout(2)
        self.descriptors: list[int] = []

    def next(self) -> list[str]:
        data, ancillary, _, _ = self._socket.recvmsg(4096, socket.CMSG_SPACE(64))
        for _, _, content in ancillary:
            numbers = array.array("i")
            numbers.frombytes(content)
            self.descriptors.extend(numbers)
        return data.decode().split("\n")

    def is_silent(self, said: list[list[str]] | None = None) -> bool:
        """Whether nothing waits to be heard; else the first of it goes to `said`."""
        self._socket.settimeout(0)
        try:
            heard = self.next()
        except BlockingIOError:
            return True
        finally:
            self._socket.settimeout(2)
        if said is not None:
            said.append(heard)
        return False

    def close(self) -> None:
        self._socket.close()
        for each in self.descriptors:
            os.close(each)


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[ServiceManager]:
    made = ServiceManager(tmp_path / "notify")
    yield made
    made.close()


def listening() -> socket.socket:
    made = socket.create_server(("127.0.0.1", 0))
    made.setblocking(False)
    return made


def test_life_in_its_order(manager: ServiceManager) -> None:
    notifier = Notifier(manager.path)
    notifier.ready()
    notifier.status("generation 1, commit abc")
    notifier.status("generation 1, commit abc")
    notifier.alive()
    notifier.stopping()
    said = [manager.next() for _ in range(4)]
    assert said == [
        ["READY=1"],
        ["STATUS=generation 1, commit abc"],
        ["WATCHDOG=1"],
        ["STOPPING=1"],
    ]
    assert manager.is_silent()


def test_a_status_is_one_line(manager: ServiceManager) -> None:
    Notifier(manager.path).status("two\nlines")
    assert manager.next() == ["STATUS=two lines"]


def test_sockets_are_parked_once_and_taken_out_again(manager: ServiceManager) -> None:
    notifier = Notifier(manager.path)
    with listening() as one, listening() as two:
        notifier.store({"w0_a": one.fileno(), "w1_a": two.fileno()})
        assert [manager.next(), manager.next()] == [
            ["FDSTORE=1", "FDNAME=w0_a"],
            ["FDSTORE=1", "FDNAME=w1_a"],
        ]
        parked = socket.socket(fileno=os.dup(manager.descriptors[0]))
        assert parked.getsockname() == one.getsockname()
        parked.close()
        notifier.store({"w0_a": one.fileno(), "w1_a": two.fileno()})
        assert manager.is_silent()
        notifier.store({"w1_a": two.fileno()})
        assert manager.next() == ["FDSTOREREMOVE=1", "FDNAME=w0_a"]
        notifier.store({"w1_a": one.fileno()})
        assert manager.next() == ["FDSTOREREMOVE=1", "FDNAME=w1_a"]
        assert manager.next() == ["FDSTORE=1", "FDNAME=w1_a"]


def test_a_manager_that_does_not_read_is_told_later_and_never_waited_for(
    manager: ServiceManager,
) -> None:
    notifier = Notifier(manager.path)
    notifier.ready()
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(listening()) for _ in range(40)]
        wanted = {f"w0_{number}": each.fileno() for number, each in enumerate(sockets)}
        begun = time.monotonic()
        notifier.store(wanted)
        for number in range(40):
            notifier.status(f"generation {number}")
        notifier.alive()
        took_s, was_behind = time.monotonic() - begun, notifier.is_behind
        assert took_s < 0.5
        assert was_behind
        # One that is closed before it was told of is not told of.
        sockets[39].close()
        said: list[list[str]] = []
        while not manager.is_silent(said) or notifier.is_behind:
            notifier.flush()
    statuses = [lines[0] for lines in said if lines[0].startswith("STATUS=")]
    assert statuses[-1] == "STATUS=generation 39"
    assert said[0] == ["READY=1"]
    assert ["WATCHDOG=1"] in said
    stored = [lines[1] for lines in said if lines[0] == "FDSTORE=1"]
    assert sorted(stored) == sorted(f"FDNAME=w0_{number}" for number in range(39))


def test_what_was_passed_is_not_parked_again(manager: ServiceManager) -> None:
    notifier = Notifier(manager.path)
    with listening() as one:
        notifier.assume_stored({"w0_a": one.fileno()})
        notifier.store({"w0_a": one.fileno()})
        assert manager.is_silent()


def test_an_abstract_socket(tmp_path: Path) -> None:
    name = f"kakehi-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0" + name)
        listener.settimeout(2)
        Notifier("@" + name).ready()
        assert listener.recv(100) == b"READY=1"


def test_without_a_manager_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notifier = Notifier()
    assert not notifier.active
    notifier.ready()
    notifier.store({"w0_a": -1})


def test_a_manager_that_is_gone_ends_nobody(tmp_path: Path) -> None:
    Notifier(str(tmp_path / "nobody")).ready()


def test_the_watchdog_is_fed_twice_as_often_as_it_must() -> None:
    environment = {"WATCHDOG_USEC": "10000000"}
    assert notify.watchdog_interval_s(environment) == 5.0
    assert notify.watchdog_interval_s({**environment, "WATCHDOG_PID": str(os.getpid())}) == 5.0
    assert notify.watchdog_interval_s({**environment, "WATCHDOG_PID": "1"}) is None
    assert notify.watchdog_interval_s({}) is None
    assert notify.watchdog_interval_s({"WATCHDOG_USEC": "often"}) is None


def test_what_is_passed_to_another_process_is_not_ours() -> None:
    environment = {"LISTEN_FDS": "2", "LISTEN_PID": "1", "LISTEN_FDNAMES": "a:b"}
    assert notify.take_passed(environment) == []
    assert environment == {}


def test_descriptors_that_are_passed_have_their_names() -> None:
    script = (
        "import os; from reconciler.systemd import notify\n"
        "os.environ['LISTEN_PID'] = str(os.getpid())\n"
        "print(notify.take_passed(os.environ), os.get_inheritable(3), 'LISTEN_FDS' in os.environ)"
    )
    import subprocess
    import sys

    with listening() as one, listening() as two:
        # What a service manager does: descriptors from 3 on.
        shell = f'exec 3<&{one.fileno()} 4<&{two.fileno()}; exec {sys.executable} -c "$0"'
        done = subprocess.run(
            ["bash", "-c", shell, script],
            pass_fds=[one.fileno(), two.fileno()],
            env={**os.environ, "LISTEN_FDS": "2", "LISTEN_FDNAMES": "w0_x:w1_y"},
            capture_output=True,
            text=True,
        )
    assert done.stdout == "[('w0_x', 3), ('w1_y', 4)] False False\n", done.stderr


def test_names_of_sockets() -> None:
    name = notify.socket_name(12, "[::1]:8080")
    assert ":" not in name
    assert notify.worker_of(name) == 12
    assert notify.worker_of("other") is None
    assert notify.worker_of("connection") is None
