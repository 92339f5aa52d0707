"""What the scripts of shells ask for at a Tab: names of what runs."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.cli.commands.complete import ANSWER_WITHIN_S
from reconciler.reporting.control.naming import NAMES_MAX
from tests.harness import control
from tests.reconciler.cli.program import kakehi
from tests.reconciler.cli.test_exits import answering
from tests.reconciler.live import Shop, shop


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with shop(tmp_path_factory.mktemp("shop"), workers=1) as made:
        yield made


def completed(what: str, word: str, line: str = "", **environment: str) -> list[str]:
    done = kakehi("complete", what, "--", word, line, **environment)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def in_shop(running: Shop, what: str, word: str) -> list[str]:
    return completed(what, word, KAKEHI_RUNTIME_DIR=str(running.daemon.runtime_dir))


def test_without_a_daemon_there_are_kinds_but_no_names_and_no_words_about_it(
    tmp_path: Path,
) -> None:
    nowhere = str(tmp_path)
    assert completed("entities", "c", KAKEHI_RUNTIME_DIR=nowhere) == ["certificate", "cluster"]
    assert completed("entities", "frontend/", KAKEHI_RUNTIME_DIR=nowhere) == []
    assert completed("shown", "l", KAKEHI_RUNTIME_DIR=nowhere) == ["listener", "limits"]
    for what in ("backends", "drained", "limits", "urls"):
        assert completed(what, "", KAKEHI_RUNTIME_DIR=nowhere) == []


def test_a_daemon_that_does_not_answer_is_not_waited_for(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "control.sock"))
        silent.listen()
        began = time.monotonic()
        assert completed("backends", "", KAKEHI_RUNTIME_DIR=str(tmp_path)) == []
        assert time.monotonic() - began < ANSWER_WITHIN_S + 5


def test_names_come_from_the_daemon(running: Shop) -> None:
    assert in_shop(running, "backends", "x") == []
    assert in_shop(running, "backends", "sh") == ["shop/one"]
    assert in_shop(running, "entities", "fr") == ["frontend", "frontend/web"]
    assert in_shop(running, "entities", "backend/") == ["backend/shop/one"]
    assert in_shop(running, "drained", "") == []
    running.daemon.run_cli("drain", "shop/one", check=True)
    assert in_shop(running, "drained", "") == ["shop/one"]


def test_who_is_limited_is_offered_to_be_forgiven(tmp_path: Path) -> None:
    row = {"limit": "policy/shop/hour", "who": "a", "refused": 1, "wait_ms": 1}
    limited = {"limited": [row, {**row, "who": "b"}], "more": 0, "unheard": []}
    with answering(tmp_path, {"limits": limited}):
        assert completed("limits", "po", KAKEHI_RUNTIME_DIR=str(tmp_path)) == ["policy/shop/hour"]
        line = kakehi("completion", "bash").stdout
        for word in ("_kakehi_limits", "_kakehi_shown"):
            assert line.count(word) > 1, "it is defined, and asked"


def test_urls_are_those_of_frontends(running: Shop) -> None:
    port = running.listener.rpartition(":")[2]
    own = f"http://127.0.0.1:{port}/"
    assert in_shop(running, "urls", "") == [own]
    assert in_shop(running, "urls", "http://127") == [own]
    assert in_shop(running, "urls", "https://") == []
    hosts = ("a.test", "*.b.test", "c.test")
    frontends = {
        f"f{number}": {"listeners": ["public"], "hostname": host, "cluster": "shop"}
        for number, host in enumerate(hosts)
    }
    running.daemon.commit({"more.yaml": {"frontends": frontends}})
    named = [f"http://{host}:{port}/" for host in ("a.test", "c.test")]
    assert in_shop(running, "urls", "") == [own, *named]
    assert in_shop(running, "urls", "http://c.") == named[1:]


def test_a_tab_is_quick_however_much_there_is(running: Shop) -> None:
    """What the daemon is asked costs what is shown of it."""
    backends = {f"b{number:05}": {"address": "127.0.0.1:9"} for number in range(5000)}
    running.daemon.commit({"many.yaml": {"clusters": {"many": {"backends": backends}}}})
    began = time.monotonic()
    for _ in range(10):
        found = control.ask(running.daemon.runtime_dir, "names", kind="backend", under="many/b0")
        assert len(found["names"]) == NAMES_MAX
    assert (time.monotonic() - began) / 10 < 0.05
    assert in_shop(running, "backends", "many/b0499") == [
        f"many/b{n:05}" for n in range(4990, 5000)
    ]
    running.daemon.commit({"many.yaml": None})


@pytest.mark.parametrize("form", ["--runtime-dir {}", "--runtime-dir={}", "--runtime-dir '{}'"])
def test_the_runtime_directory_may_stand_in_the_line(running: Shop, form: str) -> None:
    line = f"kakehi drain {form.format(running.daemon.runtime_dir)} "
    assert completed("backends", "", line) == ["shop/one"]
    assert completed("backends", "", f'{line} "open') == ["shop/one"]
