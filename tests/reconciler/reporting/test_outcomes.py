"""What status says of a refusal is bounded, whatever was committed."""

from __future__ import annotations

import json
from pathlib import Path

from tests.reconciler.live import shop

LARGE = 200_000


def test_a_commit_with_thousands_of_errors_and_endless_lines(tmp_path: Path) -> None:
    many = {f"x{number}": {"retires": 1} for number in range(3000)}
    with shop(tmp_path, workers=1) as running:
        refused = running.repo.commit({"broken.yaml": json.dumps({"clusters": many})})
        assert running.daemon.run_cli("wait", "--commit", refused).returncode == 6
        error = running.daemon.status()["last_error"]
        assert len(error["diagnostics"]) <= 101
        assert len(json.dumps(error)) < 2_000_000
        long = "y" * LARGE
        refused = running.repo.commit({"broken.yaml": f"clusters: {{x: {{balance: {long}}}}}"})
        assert running.daemon.run_cli("wait", "--commit", refused).returncode == 6
        assert len(json.dumps(running.daemon.status()["last_error"])) < 50_000
