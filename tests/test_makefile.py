"""The Makefile on machines that lack something: one plain sentence each, and nothing half-built."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ("bash", "cut", "env", "expand", "find", "make", "printf", "sed", "sort", "touch", "uname")


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """Return a checkout with nothing on its PATH (`bin`) but what every machine has, and git."""
    for name in ("Makefile", "requirements-dev.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    engine = tmp_path / "proxy" / "engine"
    engine.mkdir(parents=True)
    for name in ("Cargo.toml", "Cargo.lock"):
        shutil.copy(ROOT / "proxy" / "engine" / name, engine)
    (tmp_path / "bin").mkdir()
    for name in (*TOOLS, "git"):
        found = shutil.which(name)
        assert found is not None, f"{name} is missing"
        (tmp_path / "bin" / name).symlink_to(found)
    return tmp_path


def program(machine: Path, name: str, script: str) -> None:
    path = machine / "bin" / name
    path.write_text(f"#!/bin/bash\n{script}\n")
    path.chmod(0o755)


def built(machine: Path) -> None:
    """Pretend that the environment is there, so that the engine is next."""
    (machine / ".venv").mkdir()
    (machine / ".venv" / ".locked").touch()


def sentence(machine: Path, *arguments: str) -> str:
    """Run make and return the one sentence that it says before it gives up."""
    done = subprocess.run(
        ["make", *arguments],
        cwd=machine,
        env={"PATH": str(machine / "bin"), "HOME": str(machine)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2, done.stdout + done.stderr
    said = [line for line in done.stderr.splitlines() if not line.startswith("make: ***")]
    assert len(said) == 1, done.stderr
    return said[0]


def test_python_is_missing(machine: Path) -> None:
    assert sentence(machine, "build") == (
        "kakehi: Python 3.11 or newer is needed, and python3 is missing"
    )
    assert not (machine / ".venv").exists()


def test_python_is_old(machine: Path) -> None:
    program(machine, "python3", '[ "$1" = -V ] && echo "Python 3.9.2" && exit; exit 1')
    assert sentence(machine, "build") == (
        "kakehi: Python 3.11 or newer is needed, and python3 is Python 3.9.2"
    )


def test_python_has_no_venv(machine: Path) -> None:
    program(machine, "python3", '[ "$1" = -c ]')
    assert "apt-get install python3-venv" in sentence(machine, "run")


def test_git_is_missing(machine: Path) -> None:
    (machine / "bin" / "git").unlink()
    assert sentence(machine, "build") == (
        "kakehi: git is missing; install it, for instance with: apt-get install git"
    )


def test_cargo_is_missing(machine: Path) -> None:
    built(machine)
    assert sentence(machine, "build") == (
        "kakehi: cargo is missing; install Rust 1.85 or newer from rustup.rs"
    )


def test_cargo_is_old(machine: Path) -> None:
    built(machine)
    program(machine, "cargo", 'echo "cargo 1.70.0 (abc 2023-06-01)"')
    assert sentence(machine, "build") == "kakehi: Rust 1.85 or newer is needed, and cargo is 1.70.0"


def test_a_linker_is_missing(machine: Path) -> None:
    built(machine)
    program(machine, "cargo", 'echo "cargo 1.85.0 (abc 2025-02-17)"')
    assert sentence(machine, "build") == (
        "kakehi: cc is missing, with which Rust links; install it, for instance with: "
        "apt-get install gcc libc6-dev"
    )


def test_the_targets_list_themselves() -> None:
    done = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    listed = [line.split()[0] for line in done.stdout.splitlines()]
    tests = ["test", "test-full", "test-rust", "test-python"]
    assert listed == ["help", "build", "run", *tests, "lint", "fmt", "bench", "clean", "lock"]
