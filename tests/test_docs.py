"""What the documents say is true of the product: samples load, commands and links exist."""

import re
from pathlib import Path

import pytest

from reconciler.catalog.catalog import load_directory
from reconciler.cli.main import COMMANDS
from tests.harness import pki

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])

# A sample may leave out what another one has; it may not be wrong in itself.
INCOMPLETE = re.compile(
    r"there is no (listener|cluster|certificate)|has no backends|no frontend names"
    r"|no listener has protocol https|no frontend has|no listener speaks it"
)


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def samples() -> list[tuple[str, str]]:
    return [
        (f"{named(path)}-{number}", text)
        for path in DOCUMENTS
        for number, text in enumerate(
            re.findall(r"^```yaml\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL), start=1
        )
    ]


@pytest.mark.parametrize(("name", "text"), samples(), ids=[name for name, _ in samples()])
def test_every_sample_is_the_language(name: str, text: str) -> None:
    _, diagnostics = load_directory([(name, text.encode())], pki.sample_file)
    wrong = [d.render() for d in diagnostics if not INCOMPLETE.search(d.message)]
    assert wrong == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_every_command_exists(path: Path) -> None:
    code = "\n".join(re.findall(r"```.*?```|`[^`\n]+`", path.read_text(), re.DOTALL))
    used = set(re.findall(r"(?:^|[\s`(/])kakehi ([a-z][a-z-]+)", code))
    # Words that follow the name of the package, the user or the unit.
    assert used - {"runs", "stop", "kakehi"} <= COMMANDS.keys()


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_every_link_leads_somewhere(path: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text())
    local = [target for target in targets if "://" not in target]
    assert [target for target in local if not (path.parent / target).exists()] == []


def test_each_attack_is_held_by_tests_that_name_it() -> None:
    """By one of the files at least; those of a range name its ends."""
    rows = re.findall(
        r"^\| ([TD]\d\d.*?) \| .* \| (.*) \|$",
        (ROOT / "docs" / "security.md").read_text(),
        re.MULTILINE,
    )
    assert len(rows) > 20
    for numbers, held_by in rows:
        files = re.findall(r"`([\w/]+\.(?:py|rs))`", held_by)
        directory, found = Path(), []
        for name in files:
            if "/" in name:
                directory = Path(name).parent
            path = directory / Path(name).name
            base = ROOT / "proxy" / "engine" / "src" if name.endswith(".rs") else ROOT / "tests"
            found.append((base / path).read_text())
        for number in re.findall(r"[TD]\d\d", numbers):
            assert any(re.search(rf"\b{number}\b", text) for text in found), (number, files)
