"""What looks like configuration and is none: validate, plan and the daemon name the same (T40)."""

from __future__ import annotations

import json
import os
from pathlib import Path

from tests.harness.repo import Repo
from tests.reconciler.live import Shop, shop

ODD = {"upper.YAML", "other.json", "link.yaml", "module", "wrong-\\xff.yaml"}
EVERY_SO_MANY = 30


def write_odd(repo: Repo) -> None:
    repo.write(
        {
            "upper.YAML": "a: [",
            "other.json": '{"clusters": {',
            "package.json": '{"name": "x"}',
            "notes.txt": "n",
            "more.yaml": "",
            "shop.expect.yaml": "expectations: [",
        }
    )
    (repo.directory / "link.yaml").symlink_to("shop.yaml")
    with open(os.fsencode(repo.directory) + b"/wrong-\xff.yaml", "wb") as file:
        file.write(b"a: [")
    module = Repo(repo.directory / "module")
    module.commit({"inner.yaml": "a: ["})


def named(diagnostics: list[dict[str, str]]) -> set[str]:
    return {each["file"] for each in diagnostics if each["message"].endswith("it is left out")}


def validated(running: Shop, *arguments: str) -> set[str]:
    directory = str(running.repo.directory)
    done = running.daemon.run_cli("validate", directory, *arguments, "--json")
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stdout + done.stderr
    return named(json.loads(done.stdout)["diagnostics"])


def test_all_three_name_the_same(tmp_path: Path) -> None:
    with shop(tmp_path, workers=1) as running:
        write_odd(running.repo)
        assert validated(running) == ODD
        done = running.daemon.run_cli("plan", check=True)
        told = {name for name in ODD if f"{name}: warning: {name} " in done.stderr}
        assert told == ODD, done.stderr
        assert named(running.daemon.json("plan")["warnings"]) == ODD
        markdown = running.daemon.run_cli("plan", "--format", "markdown", check=True).stdout
        assert markdown.count("it is left out") == len(ODD), markdown
        head = running.repo.commit()
        assert validated(running, "--ref", "HEAD") == ODD
        ref = running.daemon.json("plan", "--ref", "HEAD")
        running.daemon.wait(head)
        assert ref["changes"] == []
        log = running.daemon.log()
        assert all(name.partition("\\")[0] in log for name in ODD), log


def test_what_git_ignores_is_in_no_commit_and_so_in_no_check(tmp_path: Path) -> None:
    with shop(tmp_path, workers=1) as running:
        running.repo.write({".gitignore": "local.yaml\n", "local.yaml": "a: ["})
        assert validated(running) == {"local.yaml"}
        done = running.daemon.run_cli("plan")
        assert (done.returncode, "ignored by git" in done.stderr) == (0, True), done.stderr


def test_so_many_are_named(tmp_path: Path) -> None:
    with shop(tmp_path, workers=1) as running:
        running.repo.write({f"data/{number}.YML": "{}" for number in range(EVERY_SO_MANY)})
        done = running.daemon.run_cli("validate", str(running.repo.directory))
        assert "10 more files are left out" in done.stderr
