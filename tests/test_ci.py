"""`.ci/run` and `tests/run` with programs that are made up: what is repeated, and what never is."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.harness import processes

ROOT = Path(__file__).resolve().parent.parent
FAILED = ".pytest_cache/v/cache/lastfailed"
STUB = '#!/bin/bash\necho "{name} $*" >> "$PWD/called"\n{script}\n'
RECORD = f"""
mkdir -p {Path(FAILED).parent}
printf '{{\\n  "tests/test_a.py::test_b": true\\n}}' > {FAILED}
"""
TOOK = re.compile("==> .*: [0-9]+ min [0-9]{2} s")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / ".ci").mkdir()
    (tmp_path / "tests").mkdir()
    for name in (".ci/run", "tests/run"):
        shutil.copy(ROOT / name, tmp_path / name)
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
    called = (checkout / "called").read_text().replace(str(checkout), "CHECKOUT").splitlines()
    said = [line for line in done.stdout.splitlines() if line and not TOOK.fullmatch(line)]
    # The lanes run beside each other, and one of them beside the tests.
    lanes = sorted(line for line in called if line.startswith("make "))
    tests = [line for line in called if line not in lanes]
    return done.returncode, "\n".join(said), [*lanes, *tests]


CORES = len(os.sched_getaffinity(0))
_DIST = "--dist loadfile --no-loadscope-reorder"
PARALLEL = f"python -m pytest -n {2 * CORES + 2} {_DIST} -m not serial and not timed --durations=10"
TIMED = f"python -m pytest -n {CORES + 1} --dist worksteal -m timed --durations=10"
SERIAL = "python -m pytest -m serial --durations=10"
PYTHON = "make --jobs=2 build test-tools compiled-tests lint-python"
LANE = "lint-rust bench-programs test-engine test-fuzz"
RUST = f"make --output-sync=target --jobs=2 LINTER=CHECKOUT/.ci/clippy {LANE}"
INSTRUCTIONS = "make --output-sync=target bench-instructions"
TRAFFIC = "make test-traffic"
LANES = [PYTHON, RUST, INSTRUCTIONS]
EVERYTHING = [*LANES, TRAFFIC, PARALLEL, TIMED, SERIAL]
AGAIN = " --numprocesses=0 --last-failed --last-failed-no-failures=none"
FIRST_OF_PARALLEL = '[[ "$*" = *"not serial"* && "$*" != *last-failed* ]] &&'
FIRST_OF_TIMED = '[[ "$*" = *"-m timed"* && "$*" != *last-failed* ]] &&'
FIRST_OF_SERIAL = '[[ "$*" = *"-m serial"* && "$*" != *last-failed* ]] &&'


def test_nothing_is_repeated_when_all_is_well(checkout: Path) -> None:
    assert run(checkout) == (0, "", EVERYTHING)


def test_parallel_tests_that_failed_are_repeated_once_alone_and_named(checkout: Path) -> None:
    code, said, called = run(checkout, pytest=f"{FIRST_OF_PARALLEL} {{ {RECORD} exit 1; }}; exit 0")
    assert (code, called) == (0, [*EVERYTHING[:5], PARALLEL + AGAIN, TIMED, SERIAL])
    assert said.count("tests/test_a.py::test_b") == 2
    assert "test_old" not in said


def test_serial_tests_that_failed_are_repeated_once_and_named(checkout: Path) -> None:
    code, said, called = run(checkout, pytest=f"{FIRST_OF_SERIAL} {{ {RECORD} exit 1; }}; exit 0")
    assert (code, called) == (0, [*EVERYTHING, SERIAL + AGAIN])
    assert said.count("tests/test_a.py::test_b") == 2


def test_timed_tests_that_failed_are_repeated_once_and_named(checkout: Path) -> None:
    code, said, called = run(checkout, pytest=f"{FIRST_OF_TIMED} {{ {RECORD} exit 1; }}; exit 0")
    assert (code, called) == (0, [*EVERYTHING[:6], TIMED + AGAIN, SERIAL])
    assert said.count("tests/test_a.py::test_b") == 2


def test_what_fails_twice_has_failed_and_keeps_no_other_part_from_running(checkout: Path) -> None:
    code, _, called = run(
        checkout, pytest=f'[[ "$*" != *"not serial"* ]] && exit 0; {RECORD} exit 1'
    )
    assert (code, called) == (1, [*EVERYTHING[:5], PARALLEL + AGAIN, TIMED, SERIAL])


@pytest.mark.parametrize("status", [2, 3, 4, 5, 137])
@pytest.mark.parametrize("part", [FIRST_OF_PARALLEL, FIRST_OF_TIMED, FIRST_OF_SERIAL])
def test_what_kept_tests_from_running_is_not_repeated(
    checkout: Path, part: str, status: int
) -> None:
    code, _, called = run(checkout, pytest=f"{part} {{ {RECORD} exit {status}; }}; exit 0")
    assert (code, called) == (status, EVERYTHING)


def test_a_part_that_ended_without_a_record_is_not_excused_by_the_one_before(
    checkout: Path,
) -> None:
    """What hangs in the serial part ends pytest with 1 too, and the others have not run."""
    flaky = f"{FIRST_OF_PARALLEL} {{ {RECORD} exit 1; }}; {FIRST_OF_SERIAL} exit 1; exit 0"
    code, _, called = run(checkout, pytest=flaky)
    assert (code, called) == (1, [*EVERYTHING[:5], PARALLEL + AGAIN, TIMED, SERIAL])


def test_each_part_writes_into_a_directory_of_its_own_that_is_gone_in_the_end(
    checkout: Path,
) -> None:
    """pytest deletes what earlier sessions have left in the one of all, and that takes minutes."""
    note = 'echo "$PYTEST_DEBUG_TEMPROOT" >> "$PWD/wrote"; : > "$PYTEST_DEBUG_TEMPROOT/left"'
    assert run(checkout, pytest=note)[0] == 0
    wrote = [Path(line) for line in (checkout / "wrote").read_text().splitlines()]
    assert len(set(wrote)) == 3
    [together] = {path.parent for path in wrote}
    processes.wait_until(lambda: not os.path.lexists(together), "they are deleted")


def test_what_an_earlier_run_left_is_not_repeated(checkout: Path) -> None:
    code, _, called = run(checkout, pytest="exit 1")
    assert (code, called) == (1, EVERYTHING)


def test_what_cannot_be_built_ends_it_when_the_lane_beside_has_ended(checkout: Path) -> None:
    made = '[[ "$*" != *lint-python* ]] || { echo WRONG; exit 2; }; sleep 0.5; echo "$*" >> ended'
    code, said, called = run(checkout, make=made)
    assert (code, said, called) == (2, "WRONG", [PYTHON, RUST])
    ended = (checkout / "ended").read_text().strip().replace(str(checkout), "CHECKOUT")
    assert f"make {ended}" == RUST


def test_what_fails_in_the_lane_beside_is_said_behind_the_tests_that_run_meanwhile(
    checkout: Path,
) -> None:
    made = '[[ "$*" != *lint-rust* ]] || { echo WRONG; exit 2; }; echo FINE'
    code, said, called = run(checkout, make=made, pytest="echo TESTED")
    assert (code, called) == (2, [*LANES, PARALLEL, TIMED])
    built, *tested = said.splitlines()[:3]
    assert (built, tested) == ("FINE", ["TESTED", "TESTED"])
    assert sorted(said.splitlines()[3:]) == ["FINE", "WRONG"]


@pytest.mark.parametrize(("times", "code"), [(1, 0), (2, 2)])
def test_tests_of_the_generator_are_repeated_once(checkout: Path, times: int, code: int) -> None:
    failing = '[[ "$*" != *test-traffic* ]] || echo >>failed; lines=$(wc -l <failed)'
    made = f'touch failed; {failing}; [[ "$*" != *test-traffic* ]] || ((lines > {times})) || exit 2'
    found, _, called = run(checkout, make=made)
    assert (found, called) == (code, [*LANES, TRAFFIC, TRAFFIC, PARALLEL, TIMED, SERIAL])


def test_it_tells_how_long_each_part_takes(checkout: Path) -> None:
    run(checkout)
    done = subprocess.run(
        [str(checkout / ".ci" / "run")],
        env={"PATH": f"{checkout / 'bin'}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    told = [line for line in done.stdout.splitlines() if TOOK.fullmatch(line)]
    parts = [
        "build and lint of Python",
        "parallel Python tests",
        "timed Python tests",
        "waiting for lint and tests of Rust",
        "serial Python tests",
    ]
    assert [line.removeprefix("==> ").partition(":")[0] for line in told] == parts


def test_a_part_may_have_none_of_the_tests_that_were_asked_for(checkout: Path) -> None:
    run(checkout, pytest="exit 5")
    for arguments, code in (((), 5), (("tests/test_ci.py",), 0)):
        done = subprocess.run([str(checkout / "tests" / "run"), "serial", *arguments])
        assert done.returncode == code


def test_who_is_marked_is_found_by_name() -> None:
    """`tests/run` reads only files which say `pytest.mark.timed`, or `serial`."""
    marking = re.compile(r"mark\.(timed|serial)\b|add_marker|(timed|serial) = pytest")
    for path in (ROOT / "tests").rglob("*.py"):
        text = path.read_text()
        if path.name.startswith("test_"):
            text = re.sub(r"pytest\.mark\.(timed|serial)\b", "", text)
        if path != Path(__file__):
            assert not marking.search(text), path


def test_a_part_with_marked_tests_reads_those_files_alone(checkout: Path) -> None:
    marked = {"timed": "tests/a/test_one.py", "serial": "tests/test_two.py"}
    for mark, name in marked.items():
        path = checkout / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"@pytest.mark.{mark}\ndef test_it(): ...\n")
    (checkout / "tests" / "test_other.py").write_text("def test_timed_and_serial(): ...\n")
    _, _, called = run(checkout)
    for mark, name in marked.items():
        (line,) = (line for line in called if f"-m {mark}" in line)
        assert [word for word in line.split() if word.endswith(".py")] == [name]
    assert not any(".py" in line for line in called if "-m not serial" in line)


def test_what_clippy_complains_of_is_not_compiled(tmp_path: Path) -> None:
    """Nothing else in `.ci/run` would tell that clippy is silent."""
    (tmp_path / "Cargo.toml").write_text('[package]\nname = "it"\nedition = "2024"\n')
    (tmp_path / "src").mkdir()
    for said, body in (("clippy::needless-return", "return 1;"), ("", "1")):
        (tmp_path / "src/lib.rs").write_text(f"pub fn it() -> u8 {{ {body} }}\n")
        done = subprocess.run(
            ["cargo", "test", "--no-run", "--quiet", "--target-dir", str(tmp_path / "target")],
            cwd=tmp_path,
            env={**os.environ, "RUSTC_WORKSPACE_WRAPPER": str(ROOT / ".ci" / "clippy")},
            capture_output=True,
            text=True,
        )
        assert done.returncode == (101 if said else 0), done.stderr
        assert said in done.stderr
