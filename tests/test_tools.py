"""`tests/install-tools` on a machine that lacks everything: what is fetched side by side."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
THERE = ("bash", "cmp", "dirname", "mktemp", "mv", "rm", "sleep", "touch")
# Each goes on when the other one was called.
CALLED = """#!/bin/bash
touch called-{name}
for _ in {{1..200}}; do [ -e called-{other} ] && exit {status}; sleep 0.05; done
exit 70
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "tests").mkdir()
    (tmp_path / "bin").mkdir()
    for name in ("install-tools", "suites.txt"):
        shutil.copy(ROOT / "tests" / name, tmp_path / "tests")
    for name in THERE:
        found = shutil.which(name)
        assert found is not None, f"{name} is missing"
        (tmp_path / "bin" / name).symlink_to(found)
    scripts = {
        "go": CALLED.format(name="go", other="python3", status=1),
        "python3": CALLED.format(name="python3", other="go", status=1),
        "id": "#!/bin/bash\necho 1000\n",
    }
    for name, script in scripts.items():
        (tmp_path / "bin" / name).write_text(script)
        (tmp_path / "bin" / name).chmod(0o755)
    return tmp_path


def test_suites_come_beside_programs_and_only_packages_are_a_must(checkout: Path) -> None:
    done = subprocess.run(
        [str(checkout / "tests" / "install-tools")],
        env={"PATH": str(checkout / "bin")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    said = done.stderr.splitlines()
    assert sum(line.startswith("kakehi: the tests need chromium") for line in said) == 1
    assert sum(line.endswith("the tests that run it are skipped") for line in said) == 5
    assert "kakehi: the suites cannot be installed; the tests that run them are skipped" in said
    assert (checkout / "called-go").exists()
    assert (checkout / "called-python3").exists()
