"""The commands that speak to a daemon, against a real one with two workers."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.cli.asking import is_starting
from reconciler.cli.commands.status import lines
from reconciler.cli.output import Painter
from reconciler.cli.reports import report_schema
from reconciler.storage.file.place import lock_directory
from tests.harness import pki, processes
from tests.harness.daemon import EXECUTABLE, PROCESSES_ONLY, Kakehi
from tests.harness.ports import address
from tests.harness.repo import Content, Repo
from tests.reconciler.cli.test_reports import violations

SHA = 40


def configuration(listener: str, backend: str = "127.0.0.1:9", retries: int = 2) -> str:
    return (
        "settings: {access_log: off}\n".replace("off", '"off"')
        + f'listeners:\n  web: {{address: "{listener}"}}\n'
        + f"clusters:\n  shop:\n    retries: {retries}\n    backends:\n"
        + f'      shop-1: {{address: "{backend}"}}\n'
        + "frontends:\n  shop: {listeners: [web], cluster: shop}\n"
        + "  api: {listeners: [web], cluster: shop, path: {prefix: /api}, methods: [GET]}\n"
    )


@pytest.fixture(scope="module")
def listener() -> str:
    return address()


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, listener: str) -> Iterator[Kakehi]:
    """Return a daemon that all tests of this module share; each ends with the state it found."""
    repo = Repo(tmp_path_factory.mktemp("live") / "shop")
    repo.commit({"shop.yaml": configuration(listener)}, "First")
    with Kakehi(repo, workers=2) as daemon:
        yield daemon


def test_status_has_what_the_contract_says(live: Kakehi) -> None:
    status = live.status()
    assert status["commit"] == live.repo.head()
    assert isinstance(status["generation"], int)
    assert [worker["id"] for worker in status["workers"]] == [0, 1]
    wanted = {"id", "pid", "cpu", "generation", "digest", "connections"}
    for worker in status["workers"]:
        assert wanted <= worker.keys()
        assert (worker["generation"], worker["digest"]) == (status["generation"], status["digest"])
    assert "last_error" in status


def test_status_as_text(live: Kakehi) -> None:
    done = live.run_cli("status", check=True)
    assert live.repo.head()[:12] in done.stdout
    assert f"main of {live.repo.directory}" in done.stdout
    assert "entities   1 listener, 1 cluster, 1 backend, 2 frontends" in done.stdout
    assert (done.stdout.count("  running  "), done.stderr) == (2, "")


def test_a_plan_of_nothing(live: Kakehi) -> None:
    done = live.run_cli("plan", "--detailed-exitcode")
    assert done.returncode == 0
    assert "No changes. The live proxy runs exactly this configuration." in done.stdout
    assert live.json("plan")["changes"] == []


def test_a_plan_of_an_edit_that_nobody_committed(live: Kakehi, listener: str) -> None:
    live.repo.write({"shop.yaml": configuration(listener, "127.0.0.1:10", retries=0)})
    try:
        done = live.run_cli("plan", "--detailed-exitcode")
        assert (done.returncode, done.stderr) == (2, "")
        assert "~ backend shop/shop-1" in done.stdout
        assert '"127.0.0.1:9" → "127.0.0.1:10"' in done.stdout
        assert "retries  2 → 0" in done.stdout
        assert "Plan: 0 to add, 2 to change, 0 to remove." in done.stdout
        change = next(c for c in live.json("plan")["changes"] if c["kind"] == "backend")
        assert change["action"] == "update"
        assert change["name"] == "shop/shop-1"
        assert change["fields"] == {"address": {"from": "127.0.0.1:9", "to": "127.0.0.1:10"}}
        assert change["source"] == {"file": "shop.yaml", "line": 8}
        assert live.run_cli("plan").returncode == 0, "2 is only for --detailed-exitcode"
    finally:
        live.repo.git("checkout", "--quiet", "--", ".")


def test_a_plan_sees_new_and_deleted_files(live: Kakehi) -> None:
    live.repo.write({"new.yaml": "clusters: {spare: {backends: {x: {address: '127.0.0.1:9'}}}}\n"})
    try:
        actions = [(c["action"], c["kind"], c["name"]) for c in live.json("plan")["changes"]]
        assert actions == [("add", "cluster", "spare"), ("add", "backend", "spare/x")]
        (live.repo.directory / "shop.yaml").unlink()
        assert {c["action"] for c in live.json("plan")["changes"]} == {"add", "remove", "update"}
    finally:
        (live.repo.directory / "new.yaml").unlink()
        live.repo.git("checkout", "--quiet", "--", ".")


def test_a_plan_sees_the_files_that_certificates_name(live: Kakehi) -> None:
    """What would be refused as a commit is refused as a plan, whatever the edit is."""
    pair, other = pki.make("shop.test"), pki.make("shop.test")
    named = {"certificate": "tls/a.crt", "private_key": "tls/a.key"}
    files: dict[str, Content] = {
        "tls.yaml": {"certificates": {"shop": named}},
        "tls/a.crt": pair.chain.decode(),
        "tls/a.key": pair.key.decode(),
    }
    live.repo.write(files)
    try:
        (change,) = live.json("plan")["changes"]
        assert (change["action"], change["kind"]) == ("add", "certificate")
        assert change["fields"]["private_key.sha256"]["to"] == "(secret)"
        live.commit(files)
        live.repo.write({"tls/a.crt": other.chain.decode(), "tls/a.key": other.key.decode()})
        (change,) = live.json("plan")["changes"]
        assert set(change["fields"]) == {"certificate.sha256", "private_key.sha256"}
        for broken in (None, "", other.chain.decode()):
            live.repo.write({"tls/a.key": broken})
            done = live.run_cli("plan")
            assert (done.returncode, "tls.yaml:" in done.stderr) == (3, True), broken
            live.repo.write({"tls/a.key": pair.key.decode()})
    finally:
        live.commit(dict.fromkeys(files))


def test_a_plan_from_another_clone_and_of_a_branch(
    live: Kakehi, listener: str, tmp_path: Path
) -> None:
    live.repo.git("clone", "--quiet", ".", str(tmp_path / "clone"))
    clone = Repo(tmp_path / "clone")
    clone.write({"shop.yaml": configuration(listener, retries=5)})
    assert "retries  2 → 5" in live.run_cli("plan", str(clone.directory)).stdout
    clone.git("push", "--quiet", "origin", "HEAD:refs/heads/feature")
    assert live.json("plan", "--ref", "feature")["changes"] == []
    clone.commit(message="Five")
    clone.git("push", "--quiet", "origin", "HEAD:refs/heads/feature")
    planned = live.json("plan", "--ref", "feature")
    assert planned["commit"] == clone.head()
    assert [change["name"] for change in planned["changes"]] == ["shop"]


def test_a_plan_of_something_invalid(live: Kakehi) -> None:
    live.repo.write({"bad.yaml": "clusters: {shop: {}}\n"})
    try:
        done = live.run_cli("plan")
        assert (done.returncode, done.stdout) == (3, "")
        assert "bad.yaml:1:" in done.stderr
        assert "first at shop.yaml:5" in done.stderr, "a duplicate cites both places"
        done = live.run_cli("plan", "--json")
        assert done.returncode == 3
        assert json.loads(done.stdout)["errors"]
    finally:
        (live.repo.directory / "bad.yaml").unlink()


def test_a_plan_without_the_running_commit(live: Kakehi, tmp_path: Path) -> None:
    other = Repo(tmp_path / "other")
    other.commit({"a.yaml": ""})
    done = live.run_cli("plan", str(other.directory))
    assert done.returncode == 1
    assert "does not have that commit" in done.stderr


def test_wait_for_a_commit(live: Kakehi, listener: str) -> None:
    live.repo.commit({"shop.yaml": configuration(listener, retries=3)}, "Three")
    done = live.run_cli("wait", "--commit", "HEAD", "--timeout", "20s")
    assert (done.returncode, done.stderr) == (0, "")
    assert "runs on every worker" in done.stdout
    head = live.repo.head()
    assert live.json("wait", "--commit", head[:10])["outcome"] == "applied"
    assert live.run_cli("wait", "--commit", "HEAD~1").returncode == 0, "a descendant runs"
    live.revert()


def test_wait_for_a_refused_commit(live: Kakehi) -> None:
    before = live.status()
    live.repo.commit({"bad.yaml": "frontends: {x: {listeners: [web], cluster: nope}}\n"}, "Break")
    done = live.run_cli("wait", "--commit", "HEAD")
    assert (done.returncode, done.stdout) == (6, "")
    assert "bad.yaml:1" in done.stderr
    status = live.status()
    assert (status["generation"], status["digest"]) == (before["generation"], before["digest"])
    assert status["last_error"]["commit"] == live.repo.head()
    assert "bad.yaml:1" in live.run_cli("status").stdout
    history = live.run_cli("history", "-n", "1").stdout
    assert "refused" in history
    assert "bad.yaml:1" in history
    live.revert()


def test_wait_names_the_worker_that_is_behind(live: Kakehi, listener: str) -> None:
    pid = live.status()["workers"][1]["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        live.repo.commit({"shop.yaml": configuration(listener, retries=4)}, "Four")
        done = live.run_cli("wait", "--commit", "HEAD", "--timeout", "1s")
    finally:
        os.kill(pid, signal.SIGCONT)
    assert done.returncode == 8
    assert "1" in done.stderr.partition("after 1s")[2]
    live.revert()


def test_history_lists_what_happened(live: Kakehi, listener: str) -> None:
    live.commit({"shop.yaml": configuration(listener, retries=7)}, "Seven")
    entry = live.json("history", "--limit", "1")["entries"][0]
    assert entry["commit"] == live.repo.head()
    assert (entry["outcome"], entry["subject"]) == ("applied", "Seven")
    assert entry["changes"][0]["fields"] == {"retries": {"from": 2, "to": 7}}
    text = live.run_cli("history", "-n", "1").stdout
    assert "~ cluster shop" in text
    assert "Seven (Kakehi tests)" in text
    live.revert()


@pytest.mark.parametrize("size", [0, 300 * 1024], ids=["small", "staged by a process"])
def test_history_tells_a_rename_as_the_plan_has_told_it(
    live: Kakehi, listener: str, size: int
) -> None:
    text = configuration(listener).replace("shop", "store").replace("  api:", "  interface:")
    comment = f"#{'x' * 60}\n" * (size // 62)
    live.repo.write({"shop.yaml": text + comment})
    planned = {
        (each["action"], each["kind"], each["name"]): each.get("renamed")
        for each in live.json("plan")["changes"]
    }
    assert planned["add", "cluster", "store"] == "shop"
    assert planned["remove", "cluster", "shop"] == "store"
    assert planned["add", "backend", "store/store-1"] == "shop/shop-1"
    live.commit({"shop.yaml": text + comment}, "Rename")
    try:
        entry = live.json("history", "-n", "1")["entries"][0]
        found = {
            (each["action"], each["kind"], each["name"]): each.get("renamed")
            for each in entry["changes"]
        }
        assert found == planned
        lines = live.run_cli("history", "-n", "1").stdout.splitlines()
        assert "    ~ cluster shop → store" in lines
        assert "    ~ backend shop/shop-1 → store/store-1" in lines
        assert not any("cluster" in line for line in lines if "→" not in line)
        # Two renames, and both frontends under other names and with another cluster.
        assert lines[-1] == "    … and 1 more"
        report = report_schema("history")
        assert violations(report, live.json("history", "-n", "1")) == []
    finally:
        live.revert()


def test_show(live: Kakehi) -> None:
    text = live.run_cli("show", check=True).stdout
    assert "backend   shop/shop-1  shop.yaml:8" in text
    one = live.json("show", "backend/shop/shop-1")["entities"]
    whole = {"address": "127.0.0.1:9", "backup": False, "weight": 100}
    assert [entity["value"] for entity in one] == [whole]
    assert (
        live.run_cli("show", "cluster/shop").stdout.splitlines()[0] == "cluster shop  shop.yaml:5"
    )
    assert 'timeouts.connect: "3s"' in live.run_cli("show", "cluster/shop").stdout
    assert [e["kind"] for e in live.json("show", "frontend")["entities"]] == ["frontend"] * 2
    missing = live.run_cli("show", "cluster/nope")
    assert (missing.returncode, missing.stdout) == (1, "")
    assert "nope" in missing.stderr
    near = live.run_cli("show", "cluster/shpo").stderr
    assert 'there is no cluster "shpo" running; did you mean "shop"?' in near
    assert 'did you mean "frontend"?' in live.run_cli("show", "frontends").stderr


def test_explain(live: Kakehi, listener: str) -> None:
    found = live.json("explain", f"http://{listener}/api/7")
    assert found["frontend"]["name"] == "api"
    assert found["frontend"]["source"] == {"file": "shop.yaml", "line": 11}
    assert [lost["name"] for lost in found["lost"]] == ["shop"]
    text = live.run_cli("explain", f"http://{listener}/api/7", "-X", "POST").stdout
    assert "frontend  shop" in text
    assert "api" in text.partition("Others, and why not:")[2]


def test_drain_and_undrain(live: Kakehi) -> None:
    done = live.run_cli("drain", "shop/shop-1", "--wait", "--owner", "me", "--for", "10m")
    assert (done.returncode, done.stderr) == (0, "")
    try:
        assert "drained  shop/shop-1 by me until 2" in live.run_cli("status").stdout
        assert live.status()["drains"][0]["owner"] == "me"
    finally:
        assert live.run_cli("undrain", "shop/shop-1").returncode == 0
    assert live.status()["drains"] == []
    assert live.run_cli("drain", "shop/nope").returncode == 1
    assert 'did you mean "shop/shop-1"?' in live.run_cli("drain", "shop/shop1").stderr


@pytest.mark.parametrize(
    "line",
    [
        ("status",),
        ("plan",),
        ("wait", "--commit", "HEAD"),
        ("history",),
        ("show",),
        ("explain", "http://127.0.0.1:1/"),
        ("drain", "shop/shop-1"),
        ("undrain", "shop/shop-1"),
        ("validate", "DIRECTORY"),
    ],
    ids=lambda line: str(line[0]),
)
def test_json_is_what_its_schema_says(line: tuple[str, ...], live: Kakehi) -> None:
    line = tuple(word.replace("DIRECTORY", str(live.repo.directory)) for word in line)
    if line[0] == "undrain":
        live.run_cli("drain", *line[1:], check=True)
    try:
        assert violations(report_schema(line[0]), live.json(*line)) == []
    finally:
        if line[0] == "drain":
            live.run_cli("undrain", *line[1:], check=True)


def test_a_plan_with_changes_is_what_its_schema_says(live: Kakehi, listener: str) -> None:
    live.repo.write({"shop.yaml": configuration(listener, retries=9)})
    try:
        planned = live.json("plan")
    finally:
        live.repo.git("checkout", "--quiet", "--", ".")
    assert planned["changes"]
    assert violations(report_schema("plan"), planned) == []


def test_a_commit_that_the_branch_has_left_behind(live: Kakehi, listener: str) -> None:
    base = live.repo.head()
    left = live.commit({"shop.yaml": configuration(listener, retries=8)})
    live.repo.git("reset", "--quiet", "--hard", base)
    live.wait(base)
    done = live.run_cli("wait", "--commit", left)
    assert (done.returncode, done.stdout) == (6, "")
    assert f"{left[:12]} was superseded: the branch has moved" in done.stderr


def test_a_refused_commit_that_was_passed_by_is_not_applied(live: Kakehi, listener: str) -> None:
    broken = live.repo.commit({"broken.yaml": "a: ["})
    assert live.run_cli("wait", "--commit", broken).returncode == 6
    mended = live.commit({"broken.yaml": None})
    done = live.run_cli("wait", "--commit", broken)
    assert (done.returncode, done.stdout) == (6, "")
    assert f"{broken[:12]} was superseded: it was refused, and {mended[:12]}" in done.stderr


def test_wait_says_at_once_that_it_would_be_in_vain(live: Kakehi) -> None:
    head = live.repo.head()
    try:
        live.repo.git("checkout", "--quiet", "--detach")
        stray = live.repo.commit({"notes.txt": "nobody follows this"})
        began = time.monotonic()
        done = live.run_cli("wait", "--commit", "HEAD", "--timeout", "50s")
        assert time.monotonic() - began < 10
    finally:
        live.repo.git("checkout", "--quiet", "main")
    assert stray != head
    assert done.returncode == 8
    assert f"it is not on main, which is at {head[:12]}" in done.stderr
    assert "is detached: git switch main" in done.stderr


def test_stop_ends_everything(tmp_path: Path, listener: str) -> None:
    repo = Repo(tmp_path / "shop")
    repo.commit({"shop.yaml": configuration(address())})
    daemon = Kakehi(repo)
    daemon.start()
    pids = daemon.worker_pids()
    done = daemon.run_cli("stop")
    assert (done.returncode, done.stdout) == (0, "")
    assert daemon.process is not None
    assert daemon.process.wait(10) == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    daemon.stop(check=False)


def test_wait_says_at_once_what_is_no_commit(live: Kakehi) -> None:
    done = live.run_cli("wait", "--commit", "nope", timeout_s=15)
    assert done.returncode == 64
    assert "'nope' names no commit" in done.stderr


def test_one_request_is_one_request(live: Kakehi) -> None:
    done = live.run_cli("drain", "shop/shop-1", check=True)
    try:
        assert "; 0 requests in flight" in done.stdout
        drained = {**live.status()["drains"][0], "active": 1}
        text = "\n".join(lines({**live.status(), "drains": [drained]}, Painter(False)))
        assert ", 1 request in flight" in text
    finally:
        live.run_cli("undrain", "shop/shop-1", check=True)


def waiting(daemon: Kakehi) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [EXECUTABLE, "wait", "--commit", "HEAD", "--timeout", "60s"],
        env=daemon.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_wait_waits_for_a_daemon_that_is_starting(tmp_path: Path) -> None:
    """Which has the lock of its runtime directory before it answers; nobody else is waited for."""
    repo = Repo(tmp_path / "shop")
    repo.commit({"shop.yaml": configuration(address())})
    daemon = Kakehi(repo)
    began = time.monotonic()
    none = daemon.run_cli("wait", "--timeout", "60s")
    assert (none.returncode, "no daemon runs at" in none.stderr) == (8, True)
    assert "waiting" not in none.stderr
    assert time.monotonic() - began < 30, "it does not wait out its minute"
    lock = lock_directory(daemon.runtime_dir)
    waits = waiting(daemon)
    assert waits.stderr is not None
    try:
        assert "is starting; waiting for it" in waits.stderr.readline()
        with pytest.raises(subprocess.TimeoutExpired):
            waits.wait(3)
    finally:
        os.close(lock)
    assert waits.wait(30) == 8, "it did not come to be one"
    assert "no daemon runs at" in waits.communicate()[1]
    daemon.start(wait=False)
    try:
        # On a busy machine its imports may take longer than the second for which it is hoped for.
        processes.wait_until(lambda: is_starting(str(daemon.runtime_dir)), "it has its directory")
        waits = waiting(daemon)
        assert waits.wait(60) == 0, waits.communicate()
    finally:
        waits.communicate()
        daemon.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a /proc of its own")
def test_a_daemon_that_is_starting_is_seen_where_proc_has_processes_only(tmp_path: Path) -> None:
    lock = lock_directory(tmp_path)
    asked = f"from reconciler.cli.asking import is_starting; print(is_starting({str(tmp_path)!r}))"

    def told(within: tuple[str, ...]) -> str:
        command = [*within, sys.executable, "-c", asked]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        return done.stdout.strip()

    try:
        assert (told(()), told(PROCESSES_ONLY)) == ("True", "True")
    finally:
        os.close(lock)
    assert (told(()), told(PROCESSES_ONLY)) == ("False", "False")
