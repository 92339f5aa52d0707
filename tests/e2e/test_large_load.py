"""A configuration of thousands of files: loaded beside the loop, and never parsed twice."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import pytest

from reconciler.catalog.catalog import load_directory
from reconciler.loop.large.loading import FILES_MAX
from reconciler.storage.kept import parsed
from reconciler.storage.writing import bulk
from tests.harness.daemon import Kakehi, stopped
from tests.harness.ports import free_port
from tests.harness.processes import is_alive

T = TypeVar("T")

pytestmark = pytest.mark.timeout(180)

# Enough to be loaded apart, and few enough for a test.
_MANY = FILES_MAX + 100


def listener() -> dict[str, str]:
    return {"listeners.yaml": f"listeners: {{public: {{address: '127.0.0.1:{free_port()}'}}}}\n"}


def tenant(number: int, *, retries: int = 0) -> str:
    return (
        f"clusters:\n  c{number}:\n    retries: {retries}\n"
        f"    backends: {{a: {{address: '127.0.0.1:{1024 + number}'}}}}\n"
        f"frontends:\n  f{number}:\n    listeners: [public]\n    hostname: h{number}.test\n"
        f"    cluster: c{number}\n"
    )


def tenants(count: int, *, retries: int = 0) -> dict[str, str]:
    return {f"t/{number}.yaml": tenant(number, retries=retries) for number in range(count)}


@pytest.fixture
def daemon(daemons: Callable[..., Kakehi]) -> Kakehi:
    return daemons(workers=1)


def test_a_large_load_is_what_its_files_say(daemon: Kakehi) -> None:
    files = listener() | tenants(_MANY)
    daemon.repo.commit(files)
    daemon.start()
    status = daemon.status()
    whole, _ = load_directory((path, text.encode()) for path, text in files.items())
    assert whole is not None
    assert status["digest"] == status["workers"][0]["digest"] == whole.digest
    assert status["entities"]["frontend"] == _MANY
    assert status["loading"] is None
    left = {path.name for path in daemon.state_dir.iterdir()}
    assert not left & {bulk.FILE_NAME, parsed.FILE_NAME}

    # A change of all of them, which also takes some away and moves others.
    files = {**files, **tenants(_MANY, retries=1)}
    gone = dict.fromkeys(list(tenants(50)))
    moved = {"t/100.yaml": "\n" + tenant(100)}
    daemon.commit({**files, **gone, **moved})
    kept = {path: text for path, text in {**files, **moved}.items() if path not in gone}
    whole, _ = load_directory((path, text.encode()) for path, text in kept.items())
    assert whole is not None
    status = daemon.status()
    assert status["digest"] == status["workers"][0]["digest"] == whole.digest
    [entry] = daemon.json("history", "--limit", "1")["entries"]
    assert entry["change_count"] == (_MANY - 50) - 1 + 50 * 3

    # And back, by a daemon that has nothing but the database.
    daemon.interrupt()
    daemon.start()
    assert daemon.status()["digest"] == whole.digest
    [shown] = daemon.json("show", "frontend/f100")["entities"]
    assert (shown["source"]["file"], shown["source"]["line"]) == ("t/100.yaml", 7)


def test_a_small_change_follows_a_large_load(daemon: Kakehi) -> None:
    daemon.repo.commit(listener() | tenants(_MANY))
    daemon.start()
    daemon.commit({"t/7.yaml": tenant(7, retries=2)})
    [entry] = daemon.json("history", "--limit", "1")["entries"]
    assert [(each["kind"], each["name"]) for each in entry["changes"]] == [("cluster", "c7")]


def test_what_lies_where_a_large_load_writes_is_set_aside(daemon: Kakehi) -> None:
    for name in ("parsed.db", "staged.db"):
        (daemon.state_dir / name / "inside").mkdir(parents=True)
    daemon.repo.commit(listener() | tenants(_MANY))
    daemon.start()
    left = {path.name for path in daemon.state_dir.iterdir() if path.is_dir()}
    assert left >= {"parsed.db.damaged-1", "staged.db.damaged-1"}
    assert "cannot write" not in daemon.log()


def test_what_was_parsed_before_a_crash_is_not_parsed_again(daemon: Kakehi) -> None:
    many = _MANY * 2
    daemon.repo.commit(listener() | tenants(many))
    daemon.start(wait=False)
    loading = _until(lambda: _loading(daemon), lambda each: each["parsed"] >= 400)
    assert loading["files"] == many + 1
    assert daemon.process is not None
    helpers = _loaders(daemon)
    assert helpers
    daemon.process.kill()
    daemon.process.wait()
    _until(lambda: [pid for pid in helpers if is_alive(pid)], lambda left: not left)
    daemon.start(wait=False)
    again = _until(lambda: _loading(daemon), lambda each: each["read"] > loading["parsed"])
    assert again["read"] - again["parsed"] >= loading["parsed"]
    text = daemon.run_cli("status").stdout
    assert re.search(r"loading +[0-9a-f]{12}: ", text) or daemon.status()["generation"] == 1
    daemon.wait_ready()
    assert daemon.status()["entities"]["frontend"] == many


def test_all_errors_of_a_large_load_are_told_as_validate_tells_them(daemon: Kakehi) -> None:
    daemon.repo.commit(listener())
    daemon.start()
    files = tenants(_MANY)
    files["t/3.yaml"] = files["t/3.yaml"].replace("retries: 0", "retires: 0")
    files["t/900.yaml"] = "frontends: [\n"
    files["t/901.yaml"] += "clusters: {}\n"
    files["z.yaml"] = tenant(12)
    sha = daemon.repo.commit(files)
    done = daemon.run_cli("wait", "--commit", sha, "--timeout", "60s")
    assert done.returncode == 6
    error = daemon.status()["last_error"]
    _, found = load_directory(
        (path, text.encode())
        for path, text in {
            "listeners.yaml": (daemon.repo.directory / "listeners.yaml").read_text(),
            **files,
        }.items()
    )
    errors = [each for each in found if each.severity == "error"]
    assert len(errors) == 5
    assert [each["rendered"] for each in error["diagnostics"]] == [each.render() for each in errors]


def test_all_warnings_of_a_large_load_are_told_once_it_serves(daemon: Kakehi) -> None:
    files = listener() | tenants(_MANY)
    files["spare.yaml"] = "clusters: {spare: {backends: {a: {address: '127.0.0.1:1024'}}}}\n"
    files["t/7.yaml"] = "clusters: {c7: {}}\n" + tenant(7)[tenant(7).index("frontends") :]
    _, found = load_directory((path, text.encode()) for path, text in files.items())
    assert [each.severity for each in found] == ["warning"] * 2
    daemon.repo.commit(files)
    daemon.start()
    for warning in found:
        assert daemon.log().count(warning.message) == 1


def test_the_daemon_answers_while_it_loads(daemon: Kakehi) -> None:
    daemon.repo.commit(listener() | tenants(_MANY * 2))
    daemon.start(wait=False)
    _until(lambda: _loading(daemon), lambda each: each["phase"] == "reading")
    with ExitStack() as held:
        for pid in _loaders(daemon):
            held.enter_context(stopped(pid))
        # It may have come further, and comes no further now, however long a command takes to start.
        phase = _loading(daemon)["phase"]
        assert phase
        assert phase in daemon.run_cli("status").stdout
    daemon.wait_ready()


def test_a_daemon_that_is_told_to_end_leaves_no_loader(daemon: Kakehi) -> None:
    daemon.repo.commit(listener() | tenants(_MANY * 2))
    daemon.start(wait=False)
    _until(lambda: _loading(daemon), lambda each: each["parsed"] > 0)
    helpers = _loaders(daemon)
    assert daemon.interrupt() == 0
    _until(lambda: [pid for pid in helpers if is_alive(pid)], lambda left: not left)


def test_a_loader_that_is_killed_is_started_again(daemon: Kakehi) -> None:
    daemon.repo.commit(listener() | tenants(_MANY * 2))
    daemon.start(wait=False)
    _until(lambda: _loading(daemon), lambda each: each["parsed"] > 0)
    os.kill(min(_loaders(daemon)), signal.SIGKILL)
    daemon.wait_ready()
    assert "the process that loads has died" in daemon.log() or "was killed" in daemon.log()
    assert daemon.status()["retry"] is None


def _loading(daemon: Kakehi) -> dict[str, Any]:
    """What status says of the load; zeros while there is none."""
    found = None
    with contextlib.suppress(AssertionError):  # no daemon answers yet
        found = daemon.status()["loading"]
    return found or {"phase": "", "files": 0, "read": 0, "parsed": 0}


def _loaders(daemon: Kakehi) -> list[int]:
    """The processes that load, by what they were started as."""
    found = []
    marker = str(daemon.runtime_dir).encode()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            is_loader = b"reconciler.loop.large.loader" in (process / "cmdline").read_bytes()
            if is_loader and marker in (process / "environ").read_bytes():
                found.append(int(process.name))
    return found


def _until(ask: Callable[[], T], wanted: Callable[[T], object]) -> T:
    deadline = time.monotonic() + 60
    while not wanted(found := ask()):
        assert time.monotonic() < deadline, f"it came to {found}"
        time.sleep(0.02)
    return found


def test_status_tells_of_a_commit_that_takes_long_in_few_files(daemon: Kakehi) -> None:
    beside = {f"tls/customer-{number:05}.example.com.pem": "" for number in range(5000)}
    daemon.repo.commit(listener() | beside)
    daemon.start()
    names = (f"tls/custmer-{number:05}.example.com" for number in range(150))
    certificates = "".join(
        f"  c{at}: {{certificate: {name}.crt, private_key: {name}.key}}\n"
        for at, name in enumerate(names)
    )
    began = datetime.now(UTC)
    commit = daemon.repo.commit({"c.yaml": f"certificates:\n{certificates}"})
    found = _until(lambda: _loading(daemon), lambda each: each["phase"] == "checking")
    assert (found["commit"], found["files"]) == (commit, 1)
    assert began <= datetime.fromisoformat(found["since"]) <= datetime.now(UTC)
    status = _until(daemon.status, lambda each: each["last_error"] is not None)
    assert status["last_error"]["commit"] == commit
    assert _loading(daemon)["phase"] == ""
