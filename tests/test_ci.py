"""`.ci/run` with programs that are made up: what it repeats, and what it never does."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FAILED = ".pytest_cache/v/cache/lastfailed"
STUB = '#!/bin/bash\necho "{name} $*" >> "$PWD/called"\n{script}\n'
RECORD = f"""
mkdir -p {Path(FAILED).parent}
printf '{{\\n  "tests/test_a.py::test_b": true\\n}}' > {FAILED}
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci")
    (tmp_path / FAILED).parent.mkdir(parents=True)
    (tmp_path / FAILED).write_text('{\n  "tests/test_old.py::test_old": true\n}')
    return tmp_path


def run(checkout: Path, *, make: str = "", pytest: str = "") -> tuple[int, str, list[str]]:
    """Return the exit code, what was printed, and the programs that were called."""
    for path, script in (("bin/make", make), (".venv/bin/python", pytest)):
        program = checkout / path
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(STUB.format(name=program.name, script=script))
        program.chmod(0o755)
    done = subprocess.run(
        [str(checkout / ".ci" / "run")],
        env={"PATH": f"{checkout / 'bin'}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stdout, (checkout / "called").read_text().splitlines()


EVERYTHING = ["make lint", "make test-rust test-tools", "python -m pytest"]
AGAIN = "python -m pytest --last-failed --last-failed-no-failures=none"


def test_nothing_is_repeated_when_all_is_well(checkout: Path) -> None:
    assert run(checkout) == (0, "", EVERYTHING)


def test_python_tests_that_failed_are_repeated_once_and_named(checkout: Path) -> None:
    flaky = f"[ $# -gt 2 ] && exit {RECORD} exit 1"
    code, said, called = run(checkout, pytest=flaky)
    assert (code, called) == (0, [*EVERYTHING, AGAIN])
    assert said.count("tests/test_a.py::test_b") == 2
    assert "test_old" not in said


def test_what_fails_twice_has_failed(checkout: Path) -> None:
    code, _, called = run(checkout, pytest=f"{RECORD} exit 1")
    assert (code, called) == (1, [*EVERYTHING, AGAIN])


@pytest.mark.parametrize("status", [2, 3, 4, 137])
def test_what_kept_tests_from_running_is_not_repeated(checkout: Path, status: int) -> None:
    code, _, called = run(checkout, pytest=f"{RECORD} exit {status}")
    assert (code, called) == (status, EVERYTHING)


def test_what_an_earlier_run_left_is_not_repeated(checkout: Path) -> None:
    code, _, called = run(checkout, pytest="exit 1")
    assert (code, called) == (1, EVERYTHING)


def test_a_rust_test_that_fails_ends_it(checkout: Path) -> None:
    code, _, called = run(checkout, make="[ $1 = lint ]")
    assert (code, called) == (1, EVERYTHING[:2])
