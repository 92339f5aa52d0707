"""`kakehi init`: what it makes is valid, committed, and the example as it is in the repository."""

import json
import os
import subprocess
from pathlib import Path

from reconciler.cli.commands.init import EXAMPLE, SCHEMA_FILE
from tests.harness.repo import Repo
from tests.reconciler.cli.program import kakehi


def test_a_new_repository_is_valid_and_clean(tmp_path: Path) -> None:
    done = kakehi("init", "shop", cwd=tmp_path, GIT_CONFIG_GLOBAL=os.devnull, HOME=str(tmp_path))
    assert (done.returncode, done.stdout) == (0, "")
    repo = Repo(tmp_path / "shop")
    assert repo.git("status", "--porcelain") == ""
    assert repo.git("branch", "--show-current") == "main"
    assert repo.git("rev-list", "--count", "HEAD") == "1"
    checked = kakehi("validate", "shop", "--ref", "HEAD", cwd=tmp_path)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_every_file_names_the_schema_beside_it(tmp_path: Path) -> None:
    kakehi("init", "shop", cwd=tmp_path)
    schema = json.loads((tmp_path / "shop" / SCHEMA_FILE).read_text())
    assert schema == json.loads(kakehi("schema").stdout)
    files = sorted((tmp_path / "shop").glob("**/[!.]*.yaml"))
    configuration = [path for path in files if ".github" not in path.parts]
    assert len(configuration) == len(list(EXAMPLE.rglob("*.yaml")))
    for path in configuration:
        modeline = path.read_text().splitlines()[0]
        named = modeline.removeprefix("# yaml-language-server: $schema=")
        assert (path.parent / named).resolve() == tmp_path / "shop" / SCHEMA_FILE


def test_the_example_names_the_schema_of_the_repository() -> None:
    for path in EXAMPLE.rglob("*.yaml"):
        modeline = path.read_text().splitlines()[0]
        named = modeline.removeprefix("# yaml-language-server: $schema=")
        assert (path.parent / named).resolve() == EXAMPLE.parent / "schemas" / SCHEMA_FILE


def test_keys_are_ignored(tmp_path: Path) -> None:
    kakehi("init", "shop", cwd=tmp_path)
    repo = Repo(tmp_path / "shop")
    repo.write({"tls/shop.key": "secret"})
    assert repo.git("status", "--porcelain") == ""


def test_what_is_not_empty_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    assert kakehi("init", "shop", cwd=tmp_path).returncode == 0, "an empty directory is welcome"
    before = sorted(tmp_path.rglob("*"))
    done = kakehi("init", "shop", cwd=tmp_path)
    assert done.returncode == 1
    assert "shop is not an empty directory" in done.stderr
    assert sorted(tmp_path.rglob("*")) == before
    (tmp_path / "file").write_text("")
    assert "file is not an empty directory" in kakehi("init", "file", cwd=tmp_path).stderr


def test_the_first_commit_is_of_whom_git_would_say(tmp_path: Path) -> None:
    names = {"GIT_AUTHOR_NAME": "Ada", "GIT_COMMITTER_EMAIL": "ci@shop.test"}
    done = kakehi(
        *("init", "shop"), cwd=tmp_path, GIT_CONFIG_GLOBAL=os.devnull, HOME=str(tmp_path), **names
    )
    assert done.returncode == 0
    shown = subprocess.run(
        ["git", "-C", str(tmp_path / "shop"), "log", "-1", "--format=%an %ae %cn %ce"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.split() == [
        *("Ada", "kakehi@localhost"),
        *("kakehi", "init", "ci@shop.test"),
    ]
