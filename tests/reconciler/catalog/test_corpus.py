"""The corpus: every file or folder of `tests/configs/bad` has one fault and is named for it (T40).

What is said about it stands in a text file beside it; `odd` has what is valid and warned about. To
take over changed wording, run this module as a program and read the difference.
"""

import re
from pathlib import Path

import pytest

from reconciler.catalog.catalog import load_directory
from tests.harness import pki
from tests.reconciler.catalog.configuration import Catalog

ROOT = Path(__file__).parents[3]
CONFIGS = ROOT / "tests" / "configs"
_SAYS_WHAT = re.compile(r"expected |it must be |is not there|nests deeper than")
CASES = sorted(path for path in CONFIGS.glob("*/*") if path.suffix != ".txt")


def files_of(case: Path) -> list[tuple[str, bytes]]:
    """Return the files of a case: one, or those of a folder."""
    if case.is_file():
        return [(case.name, case.read_bytes())]
    paths = sorted(case.rglob("*.yaml"))
    return [(path.relative_to(case).as_posix(), path.read_bytes()) for path in paths]


def said_about(case: Path) -> str:
    """Return what an operator reads about a case."""
    _, diagnostics = load_directory(files_of(case), pki.sample_file)
    assert Catalog().stage(dict(files_of(case)), pki.sample_file).diagnostics == diagnostics
    return "".join(f"{found.render()}\n" for found in diagnostics)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.parent.name}/{case.stem}")
def test_what_is_said_about_a_fault(case: Path) -> None:
    assert said_about(case) == case.with_suffix(".txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.parent.name}/{case.stem}")
def test_bad_is_refused_and_odd_is_not(case: Path) -> None:
    state, diagnostics = load_directory(files_of(case), pki.sample_file)
    assert (state is None) == (case.parent.name == "bad")
    assert diagnostics


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.parent.name}/{case.stem}")
def test_every_fault_has_a_way_out(case: Path) -> None:
    """What to write instead, or what was expected; of a file that is not there its name is one."""
    _, diagnostics = load_directory(files_of(case), pki.sample_file)
    for found in diagnostics:
        if found.severity == "error":
            assert found.hint or _SAYS_WHAT.search(found.message), found.render()


def test_every_text_has_its_case() -> None:
    texts = {path.with_suffix("") for path in CONFIGS.glob("*/*.txt")}
    assert texts == {path.with_suffix("") for path in CASES}


def test_the_example_has_nothing_to_complain_about() -> None:
    example = ROOT / "config.example"
    state, diagnostics = load_directory(files_of(example))
    assert diagnostics == ()
    assert state is not None
    assert state.names("frontend")


def test_an_empty_directory_is_valid() -> None:
    state, diagnostics = load_directory([])
    assert diagnostics == ()
    assert state is not None
    assert list(state) == [("settings", "settings")]


if __name__ == "__main__":
    for one in CASES:
        one.with_suffix(".txt").write_text(said_about(one), encoding="utf-8")
