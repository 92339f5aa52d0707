"""`.kakehiignore`: validate, plan and the daemon leave out the same files of other programs."""

from __future__ import annotations

import json
from pathlib import Path

from tests.reconciler.live import shop

OTHER = "version: '3'\nservices: {web: {image: nginx}}\n"


def test_files_of_other_programs_are_left_out(tmp_path: Path) -> None:
    with shop(tmp_path, workers=1) as running:
        daemon, repo = running.daemon, running.repo
        place = str(repo.directory)
        repo.write({"compose.yaml": OTHER, "deploy/a.yaml": OTHER})
        invalid = daemon.run_cli("validate", place)
        assert invalid.returncode == 3
        assert invalid.stderr.count("is no Kakehi configuration") == 2
        assert ".kakehiignore" in invalid.stderr
        assert daemon.run_cli("plan").returncode == 3
        # Written: all of it is left out, by the working tree and by a plan of it.
        repo.write({".kakehiignore": "compose.yaml\n/deploy/\n"})
        done = daemon.run_cli("validate", place)
        assert done.returncode == 0
        # Of nothing else there is a word.
        assert done.stderr.startswith(".kakehiignore: warning: .kakehiignore is untracked")
        assert done.stderr.count("warning") == 1
        assert json.loads(daemon.run_cli("plan", "--json").stdout)["changes"] == []
        applied = repo.commit()
        daemon.wait(applied)
        assert daemon.run_cli("validate", place, "--ref", "HEAD").returncode == 0
        # Taken back: what it hid counts at once, for all three.
        more = {"clusters": {"hidden": {}}}
        repo.write({"deploy/a.yaml": json.dumps(more)})
        assert json.loads(daemon.run_cli("plan", "--json").stdout)["changes"] == []
        repo.write({".kakehiignore": "compose.yaml\n"})
        changes = json.loads(daemon.run_cli("plan", "--json").stdout)["changes"]
        assert [each["name"] for each in changes] == ["hidden"]
        daemon.wait(repo.commit())
        assert daemon.run_cli("show", "cluster/hidden").returncode == 0
        # And hidden again: it is gone.
        repo.write({".kakehiignore": "compose.yaml\ndeploy\n"})
        changes = json.loads(daemon.run_cli("plan", "--json").stdout)["changes"]
        assert [(each["action"], each["name"]) for each in changes] == [("remove", "hidden")]
        daemon.wait(repo.commit())
        assert daemon.run_cli("show", "cluster/hidden").returncode == 1
