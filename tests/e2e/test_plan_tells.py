"""What a plan says beside the changes: what no commit has, and, without a daemon, two commits."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.harness import rawclient
from tests.harness.repo import Repo
from tests.reconciler.cli.program import kakehi
from tests.reconciler.live import Shop, shop

OTHER = {
    "frontends": {"other": {"listeners": ["public"], "cluster": "shop", "path": {"prefix": "/x"}}}
}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with shop(tmp_path_factory.mktemp("tells"), workers=1) as made:
        yield made


@pytest.fixture(autouse=True)
def clean(running: Shop) -> Iterator[None]:
    yield
    running.repo.git("reset", "--quiet", "--hard")
    running.repo.git("clean", "--quiet", "-fd")


def planned(running: Shop, *arguments: str) -> CompletedProcess[str]:
    return running.daemon.run_cli("plan", *arguments)


def body(running: Shop, path: str) -> bytes:
    with rawclient.Connection(running.listener) as client:
        return client.get("a.test", path).body


def test_untracked_files_are_told(running: Shop) -> None:
    running.repo.write({"new.yaml": OTHER})
    done = planned(running)
    assert "note: new.yaml is untracked" in done.stderr
    assert 'takes requests of frontend "' in done.stdout
    report = json.loads(planned(running, "--json").stdout)
    assert report["uncommitted"] == {"edited": [], "deleted": [], "untracked": ["new.yaml"]}
    assert report["changes"][0]["takes_from"] == ["web"]
    running.repo.git("add", "new.yaml")
    assert "untracked" not in planned(running).stderr


def test_a_move_to_a_drained_cluster_is_marked(running: Shop) -> None:
    """Blue and green, and the green one still drained: all requests would get 503."""
    green = {"clusters": {"green": {"backends": {"one": {"address": "127.0.0.1:9"}}}}}
    before = running.repo.head()
    try:
        running.daemon.commit({"green.yaml": green})
        text = (running.repo.directory / "shop.yaml").read_text()
        moved = text.replace('"cluster": "shop"', '"cluster": "green"')
        assert moved != text
        running.repo.write({"shop.yaml": moved})
        assert "503" not in planned(running).stdout
        assert running.daemon.run_cli("drain", "green/one").returncode == 0
        told = '! brings requests to cluster "green", without a backend that takes any: 503'
        assert told in planned(running).stdout
        [change] = json.loads(planned(running, "--json").stdout)["changes"]
        assert change["leads_to_no_backend"] == ["green"]
        assert running.daemon.run_cli("undrain", "green/one").returncode == 0
    finally:
        running.repo.git("reset", "--quiet", "--hard", before)
        running.daemon.wait(before)


def test_what_leaves_files_out_is_told_like_them(running: Shop) -> None:
    running.repo.write({".kakehiignore": "settings.yaml\n"})
    done = planned(running)
    assert "note: .kakehiignore is untracked" in done.stderr
    assert "settings" in done.stdout
    report = json.loads(planned(running, "--json").stdout)
    assert report["uncommitted"] == {"edited": [], "deleted": [], "untracked": [".kakehiignore"]}


def test_a_page_is_planned_with_the_line_ends_of_its_commit(running: Shop) -> None:
    soon = {"listeners": ["public"], "path": {"prefix": "/soon"}, "respond": {"file": "soon.txt"}}
    running.repo.git("config", "core.autocrlf", "input")
    running.repo.write({"soon.yaml": {"frontends": {"soon": soon}}, "soon.txt": "one\r\n"})
    try:
        report = json.loads(planned(running, "--json").stdout)
        running.daemon.commit({})
        assert body(running, "/soon") == b"one\n"
        (planned_one,) = report["changes"]
        digest = hashlib.sha256(b"one\n").hexdigest()
        assert digest in json.dumps(planned_one)
    finally:
        running.repo.git("config", "--unset", "core.autocrlf")
        running.repo.git("reset", "--quiet", "--hard", "HEAD^")
        running.daemon.wait(running.repo.head())


def test_beside_a_ref_it_is_told_that_the_working_tree_differs(running: Shop) -> None:
    assert "note:" not in planned(running, "--ref", "HEAD").stderr
    running.repo.write({"new.yaml": OTHER})
    done = planned(running, "--ref", "HEAD")
    said = "note: 1 file differs from HEAD: new.yaml (untracked); this plan is not about that"
    assert said in done.stderr
    assert "No changes" in done.stdout


def test_every_form_has_the_same_warnings(running: Shop) -> None:
    """Those of the check, of the plan itself, and of the working tree."""
    running.repo.write({**running.files(workers=3), "new.YAML": "a: 1"})
    text = planned(running)
    told = [each for each in text.stderr.splitlines() if ": warning: " in each]
    assert len(told) == 2, text.stderr
    found = json.loads(planned(running, "--json").stdout)["warnings"]
    assert sorted(each["file"] for each in found) == ["new.YAML", "settings.yaml"]
    assert all("rendered" not in each for each in found)
    running.repo.write({"bad.yaml": "x: 1"})
    report = json.loads(planned(running, "--json").stdout)
    assert {each["severity"] for each in report["errors"]} == {"error"}
    assert [each["file"] for each in report["warnings"]] == ["new.YAML"]


@pytest.mark.parametrize(
    "line",
    [
        ("--format", "json", "--ref", "nope"),
        ("--format=json", "--ref", "nope"),
        ("--format", "json", "--from", "nope"),
        ("--format", "json", "--bogus"),
        ("--format", "json", "--full"),
        ("--ref", "nope", "--json"),
    ],
)
def test_what_fails_is_json_where_that_is_asked(running: Shop, line: tuple[str, ...]) -> None:
    done = planned(running, *line)
    error = json.loads(done.stdout)["error"]
    assert error["exit_code"] == done.returncode != 0
    assert error["message"] in done.stderr


@pytest.mark.parametrize("line", [("--format", "text"), ("--", "--format", "json"), ("--format",)])
def test_what_fails_is_no_json_where_it_is_not(running: Shop, line: tuple[str, ...]) -> None:
    done = planned(running, "--ref", "nope", *line)
    assert (done.returncode != 0, done.stdout) == (True, "")


def test_files_beside_the_configuration_are_those_of_the_working_tree(running: Shop) -> None:
    """What an entity names counts as it lies there: new, edited, or gone; nothing else is told."""
    soon = {"listeners": ["public"], "path": {"prefix": "/soon"}, "respond": {"file": "soon.bin"}}
    running.repo.write({"soon.yaml": {"frontends": {"soon": soon}}, "soon.bin": b"\xff1"})
    running.repo.write({"notes.txt": "nobody names it"})
    done = planned(running)
    assert (done.returncode, done.stderr.count("untracked")) == (0, 1), done.stderr
    assert "soon.bin" in done.stderr
    assert "notes.txt" not in done.stderr
    assert "+ frontend soon" in done.stdout
    running.repo.git("add", "-A")
    running.repo.git("commit", "--quiet", "-m", "soon")
    running.daemon.wait(running.repo.head())
    try:
        (running.repo.directory / "soon.bin").touch()
        assert "No changes" in planned(running).stdout
        running.repo.write({"soon.bin": b"\xff2", "notes.txt": "edited"})
        report = json.loads(planned(running, "--json").stdout)
        assert [each["name"] for each in report["changes"]] == ["soon"]
        assert report["uncommitted"]["edited"] == ["soon.bin"]
        running.repo.write({"soon.bin": b"\xff" * 15_000_000})
        done = planned(running)
        assert (done.returncode, done.stdout) == (3, "")
        assert "soon.bin: the file has more than 1024 KiB" in done.stderr
        running.repo.write({"soon.bin": None})
        done = planned(running)
        assert done.returncode == 3
        assert "soon.yaml:11:13: " in done.stderr
        assert "soon.bin: No such file or directory: looked for" in done.stderr
        assert "did you mean" not in done.stderr
    finally:
        running.repo.git("reset", "--quiet", "--hard", "HEAD^")
        running.daemon.wait(running.repo.head())


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("missing", "R.txt: No such file or directory: looked for {place}/R.txt"),
        ("near", 'hint: did you mean "r.txt"?'),
        ("a link", "R.txt: symbolic links are not followed"),
        ("a directory", "R.txt: it is a directory"),
        ("a pipe", "R.txt: it is no regular file"),
        ("ignored", "R.txt: git ignores the file, so that no commit has it"),
        ("too large", "R.txt: the file has more than 1024 KiB"),
        ("of another repository", "sub/R.txt: the file lies in a repository of its own"),
    ],
)
def test_why_a_named_file_cannot_be_had_is_told_alike(running: Shop, kind: str, said: str) -> None:
    """By the check, by the plan of the working tree, and by that of a commit, where it can be."""
    name = "sub/R.txt" if "another" in kind else "R.txt"
    page = {"listeners": ["public"], "path": {"prefix": "/p"}, "respond": {"file": name}}
    place = running.repo.directory
    running.repo.write({"p.yaml": {"frontends": {"p": page}}})
    match kind:
        case "near":
            running.repo.write({"r.txt": "r"})
        case "a link":
            (place / "R.txt").symlink_to("settings.yaml")
        case "a directory":
            running.repo.write({"R.txt/r.html": "r"})
        case "a pipe":
            os.mkfifo(place / "R.txt")
        case "ignored":
            running.repo.write({"R.txt": "r", ".gitignore": "R.txt\n"})
        case "too large":
            running.repo.write({"R.txt": b"r" * 1024 * 1025})
        case "of another repository":
            Repo(place / "sub").commit({"R.txt": "r"})
    try:
        checked = running.daemon.run_cli("validate", str(place))
        done = planned(running)
        assert (checked.returncode, done.returncode) == (3, 3)
        assert said.format(place=place) in done.stderr
        assert done.stderr == checked.stderr
        if kind in ("near", "a link", "a directory", "too large", "of another repository"):
            running.repo.git("add", "-A")
            running.repo.git("commit", "--quiet", "-m", kind)
            assert said in planned(running, "--ref", "HEAD").stderr
            running.repo.git("reset", "--quiet", "--hard", "HEAD^")
            running.daemon.wait(running.repo.head())
    finally:
        if kind == "a pipe":
            # Git does not see it.
            (place / "R.txt").unlink()
        running.repo.git("clean", "--quiet", "-ffdx")


def test_a_named_file_may_look_like_configuration(running: Shop) -> None:
    """What an entity names is a page, and a configuration file may be one, too."""
    api = {"listeners": ["public"], "path": {"prefix": "/api"}, "respond": {"file": "api.yaml"}}
    own = {"listeners": ["public"], "path": {"prefix": "/own"}, "respond": {"file": "own.yaml"}}
    running.repo.write({".kakehiignore": "api.yaml\n", "api.yaml": "openapi: 3.1.0\n"})
    running.repo.write({"own.yaml": {"frontends": {"api": api, "own": own}}})
    done = planned(running)
    assert done.returncode == 0, done.stderr
    running.daemon.commit({})
    try:
        assert body(running, "/api") == b"openapi: 3.1.0\n"
        running.repo.write({"api.yaml": "openapi: 3.2.0\n"})
        report = json.loads(planned(running, "--json").stdout)
        assert [each["name"] for each in report["changes"]] == ["api"]
        running.daemon.commit({})
        assert body(running, "/api") == b"openapi: 3.2.0\n"
        text = running.repo.show("HEAD", "own.yaml") + b"# more\n"
        running.repo.write({"own.yaml": text})
        report = json.loads(planned(running, "--json").stdout)
        assert [each["name"] for each in report["changes"]] == ["own"]
        running.daemon.commit({})
        assert body(running, "/own") == text
    finally:
        running.repo.git("reset", "--quiet", "--hard", "HEAD^^^")
        running.daemon.wait(running.repo.head())


def test_a_filter_leaves_the_rest_out(running: Shop) -> None:
    running.repo.write({"new.yaml": OTHER})
    assert "frontend other" in planned(running, "frontend").stdout
    assert "frontend other" in planned(running, "frontend/other").stdout
    done = planned(running, "frontend/web", "--detailed-exitcode")
    assert (done.returncode, "No changes" in done.stdout) == (0, True)
    assert planned(running, str(running.repo.directory), "route/x").returncode == 64


def test_two_commits_are_compared_without_a_daemon(running: Shop) -> None:
    place, first = str(running.repo.directory), running.repo.head()
    running.repo.write({"new.yaml": OTHER})
    running.repo.git("checkout", "-q", "-b", "feature")
    try:
        running.repo.commit({"new.yaml": OTHER})
        line = ("plan", place, "--from", first, "--ref", "feature")
        environment = {"KAKEHI_RUNTIME_DIR": "/nowhere"}
        done = kakehi(*line, "--detailed-exitcode", **environment)
        assert done.returncode == 2, done.stderr
        assert "+ frontend other" in done.stdout
        assert "not tried" in done.stderr
        report = json.loads(kakehi(*line, "--json", **environment).stdout)
        assert report["untried"] == ["ports", "capacity", "connections"]
        assert [each["name"] for each in report["changes"]] == ["other"]
        text = kakehi(*line, "--format", "markdown", **environment).stdout
        assert "| `+` | frontend other |" in text
        running.repo.commit({"bad.yaml": "listeners: []\n"})
        assert kakehi(*line, **environment).returncode == 3
        invalid = kakehi(*line, "--format", "markdown", **environment)
        assert invalid.returncode == 3
        assert invalid.stdout.startswith("### Kakehi plan: the configuration is invalid\n")
        assert "- **Error** `bad.yaml:1:12`: " in invalid.stdout
        assert invalid.stderr == ""
        unknown = kakehi(*line[:-1], "nowhere", "--format", "markdown", **environment)
        assert unknown.returncode == 64
        assert unknown.stdout.startswith("### Kakehi plan: there is none\n\n'nowhere' names no ")
        assert "names no commit" in unknown.stderr
    finally:
        running.repo.git("checkout", "-q", "-f", "main")


def test_a_plan_from_a_refused_commit_starts_at_what_runs(running: Shop) -> None:
    """What mends a refused branch is no fault of its own."""
    place, repo = str(running.repo.directory), running.repo
    repo.git("checkout", "-q", "-b", "mended")
    try:
        good = repo.head()
        bad = repo.commit({"new.yaml": "listeners: []\n"})
        repo.commit({"new.yaml": OTHER})
        environment = {"KAKEHI_RUNTIME_DIR": "/nowhere"}
        done = kakehi("plan", place, "--from", bad, "--ref", "HEAD", **environment)
        assert done.returncode == 0, done.stderr
        assert "+ frontend other" in done.stdout
        assert f"the commit {bad} is invalid itself: new.yaml:1:12: " in done.stderr
        assert f"compared with commit {good[:12]}, the last good one before it" in done.stderr
        line = ("plan", place, "--from", bad, "--ref", "HEAD", "--json")
        report = json.loads(kakehi(*line, **environment).stdout)
        assert ["is invalid itself" in each["message"] for each in report["warnings"]] == [True]
        assert kakehi("plan", place, "--from", good, "--ref", bad, **environment).returncode == 3
    finally:
        repo.git("checkout", "-q", "-f", "main")


def test_the_first_configuration_is_planned_from_nothing(tmp_path: Path) -> None:
    repo = Repo(tmp_path / "repo")
    empty = repo.commit({"README.md": "soon"})
    repo.commit({"conf/kakehi.yaml": "clusters: {c: {}}\n"})
    line = ("--from", empty, "--ref", "HEAD")
    for place in (repo.directory, repo.directory / "conf"):
        done = kakehi("plan", str(place), *line)
        assert (done.returncode, "+ cluster c" in done.stdout) == (0, True), done.stderr
        assert "has no configuration" in done.stderr or "there is no configuration" in done.stderr
        assert "compared with nothing" in done.stderr


def test_what_a_filter_will_change_is_told(running: Shop) -> None:
    """A plan runs nothing that a repository names: it reads the file as it lies there."""
    running.repo.git("config", "filter.x.clean", "sed s/other/cleaned/")
    running.repo.write({".gitattributes": "new.yaml filter=x\n", "new.yaml": OTHER})
    try:
        done = planned(running)
        assert (
            'new.yaml is planned as it lies here: git changes it by the filter "x"' in done.stderr
        )
        assert "+ frontend other" in done.stdout
    finally:
        running.repo.write({".gitattributes": None, "new.yaml": None})
    assert "filter" not in planned(running).stderr
