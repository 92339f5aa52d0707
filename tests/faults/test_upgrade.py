"""F24: all is restarted as another version, and finds what the last one has left (D05).

A state in another form, and workers that speak another protocol.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from reconciler.storage.store import Store
from reconciler.workers.listening import sockets
from reconciler.workers.processes import spawning, worker_sockets
from schemas.changes.state import State
from schemas.entities.entity import Entity
from schemas.kinds.registry import full
from schemas.messages import wire
from tests.harness import pki, processes
from tests.harness.load import OpenLoop
from tests.harness.site import Site
from tests.proxy.worker import Connection
from tests.reconciler.entities import leave

# A worker as another version has it: the real one, whose greeting has another number.
OTHER_WORKER = """
import sys
from schemas.messages import wire
wire.PROTOCOL = 2
from proxy.__main__ import main
sys.argv.remove("proxy")
sys.exit(main())
"""


def of_before(entity: Entity) -> Entity:
    """As the first version of the digest wrote it, with every key."""
    return replace(entity, value=full(entity))


def test_a_state_of_another_version_serves_without_the_repository(site: Site) -> None:
    document: Any = site.document({"main": ["red"]}, {"main": "main"})
    site.start({"kakehi.yaml": document})
    generation, digest = site.running()
    assert site.daemon.interrupt() == 0
    site.daemon.await_end()

    store = Store(site.daemon.state_dir)
    old = [of_before(entity) for entity in store.running.state.values()]
    commit, tree = store.running.commit, store.running.tree
    store.close()
    assert commit is not None
    assert tree is not None
    assert leave(site.daemon.state_dir, old, "another", commit, tree) != digest
    generation += 1

    away = site.repo.directory.with_name("away")
    site.repo.directory.rename(away)
    try:
        site.daemon.return_(wait=False)
        processes.wait_until(
            lambda: {each["state"] for each in site.daemon.ask("status")["workers"]} == {"running"},
            "workers of the new version serve",
        )
        assert site.everywhere("main.test") == {"red"}, "as before"
        assert site.running() == (generation + 1, digest)
        assert "another version wrote the state" in site.daemon.log()
    finally:
        away.rename(site.repo.directory)
    # And it goes on from there.
    document["frontends"]["main"]["hostname"] = "moved.test"
    site.commit({"kakehi.yaml": document})
    assert site.everywhere("moved.test") == {"red"}
    assert site.running()[0] == generation + 2


ROOT = Path(__file__).parents[2]


TIMEOUT = 8
# What the older version has not had yet.
CONNECTIONS = ("kinds/cluster.py", r"    keep_alive_connections: Annotated\[.*?\] = 1024\n")
DENY = ("policies/effects.py", r"    deny: Denied = None\n")


def older_version(directory: Path, *, without: tuple[str, str], protocol: int) -> Path:
    """The product as it would be before a key was there: of which module, as what text."""
    for package in ("reconciler", "routing", "schemas", "proxy"):
        shutil.copytree(
            ROOT / package, directory / package, ignore=shutil.ignore_patterns("engine", "*.pyc")
        )
    name, text = without
    replaced(directory / "schemas" / name, text, "")
    replaced(directory / "schemas/messages/wire.py", re.escape(wire.LANGUAGE), "before")
    number = f"PROTOCOL = {wire.PROTOCOL}\n"
    replaced(directory / "schemas/messages/wire.py", number, f"PROTOCOL = {protocol}\n")
    return directory


def replaced(module: Path, pattern: str, by: str) -> None:
    text, count = re.subn(pattern, by, module.read_text(), flags=re.DOTALL)
    assert count == 1, (module, pattern)
    module.write_text(text)


def denied_by(older: Path) -> Path:
    """Nothing in it asks for the key that it has not."""
    replaced(older / "schemas/policies/effects.py", r"self\.deny\b", "None")
    replaced(older / "reconciler/catalog/policies.py", r"says\.deny\b", "None")
    return older


def test_what_an_older_version_leaves_out_comes_back_with_the_newer(
    site: Site, tmp_path: Path
) -> None:
    """Nobody serves when it starts: what it can read of it is served then, and told."""
    older = older_version(tmp_path / "older", without=CONNECTIONS, protocol=wire.PROTOCOL)
    document: Any = site.document({"main": ["red"]}, {"main": "main"})
    document["clusters"]["main"]["keep_alive_connections"] = 7
    site.start({"kakehi.yaml": document})
    digest = site.running()[1]
    assert site.daemon.interrupt() == 0
    site.daemon.await_end()

    site.daemon.return_(wait=False, PYTHONPATH=str(older))
    # It serves what it knows of it, and does not say that this is the commit, which it refuses.
    assert site.daemon.outcome(site.repo.head()) == "refused"
    assert site.running()[1] != digest
    assert site.everywhere("main.test") == {"red"}
    told = 'cluster "main" (keep_alive_connections)'
    assert told in site.daemon.log()
    assert any("unknown key" in each for each in site.daemon.ask("status")["last_error"].values())
    site.daemon.leave(signal.SIGTERM)

    site.daemon.return_()
    assert site.running()[1] == digest
    assert site.everywhere("main.test") == {"red"}
    assert "lost" not in site.daemon.log()


def test_an_older_version_takes_nothing_from_workers_that_serve(site: Site, tmp_path: Path) -> None:
    """A site that runs is never served with less protection, whatever becomes of its daemon."""
    older = denied_by(older_version(tmp_path / "older", without=DENY, protocol=wire.PROTOCOL - 1))
    document: Any = site.document({"main": ["red"]}, {"main": "main", "closed": "main"})
    document["frontends"]["closed"]["deny"] = ["127.0.0.0/8"]
    site.start({"kakehi.yaml": document})
    head, digest, pids = site.repo.head(), site.running()[1], site.worker_pids()
    with OpenLoop(site.address, ["closed.test"], tmp_path / "load", rate=50, fresh=4) as load:
        load.wait_for(5)
        for _ in range(2):
            site.daemon.leave(signal.SIGTERM)
            site.daemon.return_(wait=False, PYTHONPATH=str(older))
            assert site.daemon.outcome(head) == "refused"
            processes.wait_until(
                lambda: is_told(site, "serves on as it is"), "who serves is told in status"
            )
            # At every start: who looks for it now may not have seen the first.
            assert is_told(site, 'frontend "closed" (deny)')
            status = site.daemon.ask("status")
            assert [each["pid"] for each in status["workers"]] == pids
            assert {each["state"] for each in status["workers"]} == {"former"}
            load.wait_for(20)
        # One that dies has no successor that takes connections, as long as another one serves.
        os.kill(pids[0], signal.SIGKILL)
        processes.await_end(pids[:1])
        load.wait_for(40)
        site.daemon.leave(signal.SIGTERM)
        site.daemon.return_()
        assert site.running()[1] == digest
        load.wait_for(20)
        load.stop()
    assert {each.status for each in load.samples} <= {403, 0}
    assert sum(each.status == 0 for each in load.samples) <= len(load.samples) // 4
    assert "internal error" not in site.daemon.log()
    # The newer version knows by them what runs, and leads on who has it.
    assert site.worker_pids()[1] == pids[1]


def test_the_newer_version_takes_the_whole_from_workers_where_no_commit_says_it(
    site: Site, tmp_path: Path
) -> None:
    """What the older one has left in the state is a part of what is served, and no more."""
    older = denied_by(older_version(tmp_path / "older", without=DENY, protocol=wire.PROTOCOL - 1))
    document: Any = site.document({"main": ["red"]}, {"main": "main", "closed": "main"})
    document["frontends"]["closed"]["deny"] = ["127.0.0.0/8"]
    site.start({"kakehi.yaml": document})
    head, was, pids = site.repo.head(), site.running(), site.worker_pids()
    site.daemon.leave(signal.SIGTERM)
    site.daemon.return_(wait=False, PYTHONPATH=str(older))
    assert site.daemon.outcome(head) == "refused"
    processes.wait_until(lambda: is_told(site, "serves on as it is"), "they are kept")
    site.daemon.leave(signal.SIGTERM)

    bad = site.repo.commit({"kakehi.yaml": "frontends: {main: {cluster: nowhere}}\n"}, "bad")
    site.daemon.return_(wait=False)
    assert site.daemon.outcome(bad) == "refused"
    processes.wait_until(
        lambda: {each["state"] for each in site.daemon.ask("status")["workers"]} == {"running"},
        "they are led again",
    )
    assert site.running() == was
    assert site.worker_pids() == pids
    assert is_told(site, f"generation {was[0]}, which workers serve, was taken from the repository")
    assert not is_told(site, "lost")
    assert not is_told(site, "left out")
    # What they hold is what a successor gets, and what the next commit is compared with.
    os.kill(pids[0], signal.SIGKILL)
    processes.wait_until(lambda: site.worker_pids()[0] not in (pids[0], None), "it is replaced")
    assert site.everywhere("closed.test") == {"403"}
    document["frontends"]["main"]["hostname"] = "moved.test"
    site.commit({"kakehi.yaml": document})
    assert site.everywhere("moved.test") == {"red"}
    assert site.everywhere("closed.test") == {"403"}
    assert "internal error" not in site.daemon.log()


def test_drains_say_which_workers_hear_nothing_of_them(site: Site, tmp_path: Path) -> None:
    """Whoever takes a machine down then would take it down under traffic."""
    older = denied_by(older_version(tmp_path / "older", without=DENY, protocol=wire.PROTOCOL - 1))
    document: Any = site.document({"main": ["red"]}, {"main": "main"})
    document["frontends"]["main"]["deny"] = ["192.0.2.0/24"]
    site.start({"kakehi.yaml": document})
    cli = site.daemon.run_cli
    assert json.loads(cli("drain", "main/b0", "--json", check=True).stdout)["unheard"] == []
    cli("undrain", "main/b0", check=True)
    pids = site.worker_pids()
    site.daemon.leave(signal.SIGTERM)
    site.daemon.return_(wait=False, PYTHONPATH=str(older))
    assert site.daemon.outcome(site.repo.head()) == "refused"
    processes.wait_until(lambda: is_told(site, "serves on as it is"), "they are kept")

    drained = cli("drain", "main/b0", "--json")
    assert drained.returncode == TIMEOUT
    assert [each["pid"] for each in json.loads(drained.stdout)["unheard"]] == pids
    assert site.everywhere("main.test") == {"red"}, "it is so"
    again = cli("undrain", "main/b0")
    assert again.returncode == TIMEOUT
    assert f"worker 0 (process {pids[0]}) does not hear of it" in again.stderr
    assert "this version cannot read it all" in again.stderr
    for arguments in (("forgive", "--all"), ("forgive", "--who", "192.0.2.7")):
        forgiven = cli(*arguments, "--json")
        assert forgiven.returncode == TIMEOUT
        assert [each["pid"] for each in json.loads(forgiven.stdout)["unheard"]] == pids
    said = cli("forgive", "--all").stderr
    assert f"worker 0 (process {pids[0]}) does not hear of it" in said
    shown = cli("show", "limits")
    assert shown.returncode == 0
    assert f"worker 0 (process {pids[0]}) is not in it: this version cannot" in shown.stderr


def test_renewed_files_wait_behind_a_rollback_and_status_says_so(
    site: Site, tmp_path: Path
) -> None:
    """Whoever renews a certificate thinks otherwise that it is a matter of a moment."""
    older = denied_by(older_version(tmp_path / "older", without=DENY, protocol=wire.PROTOCOL - 1))
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"

    def renew() -> None:
        pair = pki.make("renewed.test")
        for path, content in ((key, pair.key), (chain, pair.chain)):
            path.with_suffix(".new").write_bytes(content)
            path.with_suffix(".new").replace(path)

    renew()
    document: Any = site.document({"main": ["red"]}, {"main": "main"})
    document["frontends"]["main"]["deny"] = ["192.0.2.0/24"]
    document["certificates"] = {"one": {"certificate": str(chain), "private_key": str(key)}}
    site.start({"kakehi.yaml": document})
    site.daemon.leave(signal.SIGTERM)
    site.daemon.return_(wait=False, PYTHONPATH=str(older))
    assert site.daemon.outcome(site.repo.head()) == "refused"
    renew()
    said = f"{chain}: what is served is not what the file has now, and will not be until a commit"
    processes.wait_until(lambda: is_told(site, said), "it is told")
    del document["frontends"]["main"]["deny"]
    site.commit({"kakehi.yaml": document})
    processes.wait_until(lambda: not is_told(site, str(chain)), "it is told no more")


def is_told(site: Site, what: str) -> bool:
    return any(what in each for each in site.daemon.ask("status")["warnings"])


def test_an_older_version_serves_by_workers_of_its_own_from_the_next_commit_on(
    site: Site, tmp_path: Path
) -> None:
    older = denied_by(older_version(tmp_path / "older", without=DENY, protocol=wire.PROTOCOL - 1))
    document: Any = site.document({"main": ["red"]}, {"main": "main", "closed": "main"})
    document["frontends"]["closed"]["deny"] = ["127.0.0.0/8"]
    site.start({"kakehi.yaml": document})
    pids = site.worker_pids()
    site.daemon.leave(signal.SIGTERM)
    site.daemon.return_(wait=False, PYTHONPATH=str(older))
    assert site.daemon.outcome(site.repo.head()) == "refused"
    del document["frontends"]["closed"]
    site.commit({"kakehi.yaml": document})
    site.running()
    assert not set(site.worker_pids()) & set(pids)
    assert site.everywhere("main.test") == {"red"}
    processes.await_end(pids)
    assert not is_told(site, "serves on as it is")


def test_what_an_older_version_can_read_is_served_when_nobody_serves_any_more(
    site: Site, tmp_path: Path
) -> None:
    older = denied_by(older_version(tmp_path / "older", without=DENY, protocol=wire.PROTOCOL - 1))
    document: Any = site.document({"main": ["red"]}, {"main": "main"})
    document["frontends"]["main"]["deny"] = ["192.0.2.0/24"]
    site.start({"kakehi.yaml": document})
    pids = site.worker_pids()
    site.daemon.leave(signal.SIGTERM)
    site.daemon.return_(wait=False, PYTHONPATH=str(older))
    assert site.daemon.outcome(site.repo.head()) == "refused"
    processes.wait_until(lambda: is_told(site, "serves on as it is"), "they are kept")
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    processes.wait_until(
        lambda: {each["state"] for each in site.daemon.ask("status")["workers"]} == {"running"},
        "others serve",
    )
    site.running()
    assert site.everywhere("main.test") == {"red"}


class OtherWorker:
    """It holds the running state and serves it, in the place of worker 0."""

    def __init__(self, site: Site) -> None:
        store = Store(site.daemon.state_dir)
        generation, epoch = store.running.generation, store.epoch
        state = State(store.running.state.values())
        store.close()
        path = worker_sockets.socket_path(site.daemon.runtime_dir, 0)
        with worker_sockets.listen(path) as control:
            command = [sys.executable, "-c", OTHER_WORKER, "proxy", "--worker=0", "--cpu=-1"]
            self.process = subprocess.Popen(
                [*command, f"--control-fd={control.fileno()}"], pass_fds=[control.fileno()]
            )
        connection = Connection(path)
        welcome = connection.ask(wire.Hello(epoch=epoch, protocol=2))
        assert isinstance(welcome, wire.Welcome)
        assert welcome.protocol == 2
        connection.descriptors(welcome)
        prepared = connection.prepare(state, generation)
        assert isinstance(prepared, wire.Prepared), prepared
        connection.ask(wire.Commit(transaction=0, generation=generation))
        # Beside the other worker, which listens there too.
        with sockets._bind(site.address, share=True) as listening:
            served = connection.ask(wire.Serve(sockets=["main"]), [listening.fileno()])
        assert served == wire.Served()
        connection.close()


def test_a_worker_of_another_protocol_cannot_tell_what_it_drains(site: Site) -> None:
    site.start({"kakehi.yaml": site.document({"main": ["red"]}, {"main": "main"})})
    pids = site.worker_pids()
    site.daemon.leave(signal.SIGTERM)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    other = OtherWorker(site)
    shutil.rmtree(site.daemon.state_dir)
    site.daemon.return_()
    told = "not all workers can tell which backends they drain"
    assert any(told in each for each in site.daemon.ask("status")["warnings"])
    assert other.process.wait(30) == 0
    assert site.everywhere("main.test") == {"red"}


def test_a_worker_of_another_protocol_serves_until_its_successor_holds_the_commit(
    site: Site, tmp_path: Path
) -> None:
    site.start({"kakehi.yaml": site.document({"main": ["red"]}, {"main": "main"})})
    first, second = site.worker_pids()
    site.daemon.leave(signal.SIGTERM)
    os.kill(first, signal.SIGKILL)
    other = OtherWorker(site)
    with OpenLoop(site.address, ["main.test"], tmp_path / "load", rate=100, fresh=1) as load:
        load.wait_for(5)
        site.daemon.return_(wait=False)

        assert site.daemon.process is not None
        children = Path(f"/proc/{site.daemon.process.pid}/task")

        def successor() -> int | None:
            """A child of the daemon; the worker that it replaces is ours."""
            found = (
                each for task in children.glob("*/children") for each in task.read_text().split()
            )
            return next((int(each) for each in found if spawning.is_worker(int(each), 0)), None)

        # It is a successor for a moment only: whoever looks seldom does not see it.
        deadline = time.monotonic() + 20
        while (pid := successor()) is None:
            assert time.monotonic() < deadline, "no successor"
            time.sleep(0.001)
        processes.stop(pid)
        load.wait_for(20)
        served = processes.servers([other.process.pid, second], site.address)
        assert other.process.poll() is None, "nobody else serves in its place"
        assert other.process.pid in served.values(), served
        processes.resume(pid)
        site.wait("HEAD")
        assert other.process.wait(30) == 0
        load.wait_for(20)
        load.stop()
    assert load.failures == []
    assert site.worker_pids() == [pid, second]
    assert "draining a former worker" in site.daemon.log()
    site.commit({"kakehi.yaml": site.document({"main": ["blue"]}, {"main": "main"})})
    assert site.everywhere("main.test") == {"blue"}
