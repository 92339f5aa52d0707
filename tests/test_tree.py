"""Rules that hold for the whole tree, because no single module's test would notice them broken."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("schemas", "reconciler", "routing", "proxy")
FILE_LINES_MAX = 600
# Without signature and docstring, which are long where they are the help of a command.
FUNCTION_LINES_MAX = 60

# Words that mean something else everywhere else. The glossary of CONTRIBUTING.md says what we say.
BANNED_MODULE_WORDS = {"config", "data", "handler", "helper", "info", "manager", "misc", "utils"}


def modules(package: str) -> Iterator[Path]:
    return (path for path in sorted((ROOT / package).rglob("*.py")) if "target" not in path.parts)


def all_modules() -> list[Path]:
    return [path for package in PACKAGES for path in modules(package)]


def sources() -> list[Path]:
    rust = [
        path
        for path in sorted((ROOT / "proxy" / "engine").rglob("*.rs"))
        if "target" not in path.parts
    ]
    bench = [path for path in (ROOT / "bench").rglob("*.[pr][ys]") if "target" not in path.parts]
    tests = sorted((ROOT / "tests").rglob("*.py"))
    return [*all_modules(), *rust, *sorted(bench), *tests]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [
        ("schemas", ("reconciler", "routing", "proxy")),
        ("reconciler", ("proxy",)),
        ("routing", ("reconciler",)),
        ("proxy", ("reconciler", "routing")),
    ],
)
def test_layers_meet_in_schemas_only(package: str, forbidden: tuple[str, ...]) -> None:
    wrong = [
        f"{name_of(path)} imports {name}"
        for path in modules(package)
        # It forks what forks workers, and knows no more of it.
        if name_of(path) != "reconciler/cli/commands/run.py"
        for name in imported(ast.parse(path.read_text()))
        if name.split(".")[0] in forbidden
    ]
    assert wrong == []


def test_only_the_facade_knows_the_engine() -> None:
    wrong = [
        name_of(path)
        for path in all_modules()
        if name_of(path) != "proxy/engine_api.py"
        and any("_engine" in name.split(".") for name in imported(ast.parse(path.read_text())))
    ]
    assert wrong == []


def test_an_exchange_does_not_know_what_is_spoken() -> None:
    room = ROOT / "proxy" / "engine" / "src" / "session" / "exchange"
    files = sorted(room.rglob("*.rs"))
    assert files
    code = [
        (name_of(path), line)
        for path in files
        for line in path.read_text().splitlines()
        if not line.lstrip().startswith("//")
    ]
    of_connections = re.compile(
        r"BackStream|Carrier::|Shared|Multiplex|Transport|protocol::h2|h1::request::parse"
    )
    assert [found for found in code if of_connections.search(found[1])] == []


def test_no_two_classes_have_one_name() -> None:
    places: dict[str, list[str]] = {}
    for path in all_modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(name_of(path))
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


def test_every_file_fits_its_reader() -> None:
    long = {
        name_of(path): count
        for path in sources()
        if (count := len(path.read_text().splitlines())) > FILE_LINES_MAX
    }
    assert long == {}


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def test_every_function_fits_a_screen() -> None:
    long = {
        f"{name_of(path)}: {node.name}": count
        for path in all_modules()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (count := body_lines(node)) > FUNCTION_LINES_MAX
    }
    assert long == {}


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        name_of(path)
        for path in all_modules()
        if not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert silent == []


def test_what_a_docstring_names_is_there() -> None:
    """A module, or something in one, by its full name: who calls it, where it is explained."""
    files = {".".join(path.with_suffix("").relative_to(ROOT).parts) for path in all_modules()}
    known = files | {name.removesuffix(".__init__") for name in files}
    named = re.compile(rf"`((?:{'|'.join(PACKAGES)})(?:\.\w+)+)`")
    wrong = [
        f"{name_of(path)}: {name}"
        for path in all_modules()
        for name in named.findall(path.read_text())
        # A room defines nothing itself: what stands below its name is a module, or gone.
        if name not in known and name.rpartition(".")[0] not in files
    ]
    assert wrong == []


def test_the_map_has_every_module_of_the_control_plane() -> None:
    lines = (ROOT / "ARCHITECTURE.md").read_text().splitlines()
    rows = {row[1]: row[0] for line in lines if (row := re.match(r"\| `(\w+)/`.*", line))}
    rooms = sorted(
        path.parent
        for path in (ROOT / "reconciler").glob("*/__init__.py")
        if path.parent.name != "cli"
    )
    assert rooms
    unnamed = [
        name_of(path)
        for room in rooms
        for path in sorted(room.rglob("*.py"))
        if path.stem != "__init__" and f"`{path.stem}`" not in rows.get(room.name, "")
    ]
    assert unnamed == []


def test_every_rust_file_says_what_it_is_for() -> None:
    silent = [
        name_of(path)
        for path in sources()
        if path.suffix == ".rs"
        and "src" in path.parts
        and not path.read_text().lstrip().startswith(("//!", "/*!"))
    ]
    assert silent == []


def test_module_names_are_nouns_of_the_glossary() -> None:
    wrong = [
        name_of(path)
        for path in sources()
        if BANNED_MODULE_WORDS & set(path.stem.strip("_").split("_")) and "tests" not in path.parts
    ]
    assert wrong == []


def test_nothing_is_left_to_do() -> None:
    mark = re.compile(r"\b(?:[T]ODO|[F]IXME|[X]XX)\b")
    found = [
        f"{name_of(path)}:{number}"
        for path in sources()
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if mark.search(line)
    ]
    assert found == []


def test_no_merge_is_half_done() -> None:
    marks = tuple(each * 7 + " " for each in "<>")
    texts = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *sources()]
    found = [
        f"{name_of(path)}:{number}"
        for path in texts
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if line.startswith(marks)
    ]
    assert not found


def test_the_version_is_the_same_everywhere() -> None:
    from reconciler.cli.commands.version import VERSION

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    crate = tomllib.loads((ROOT / "proxy" / "engine" / "Cargo.toml").read_text())["package"]
    assert VERSION == project["version"] == crate["version"]
    assert f"## [{VERSION}]" in (ROOT / "CHANGELOG.md").read_text()


def test_the_lock_holds_every_dependency_and_no_address() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    lock = (ROOT / "requirements-dev.txt").read_text()
    locked = {
        match.replace(".", "-") for match in re.findall(r"^([a-z0-9.-]+)==", lock, re.MULTILINE)
    }
    names = {re.split(r"[\[<>=]", entry)[0].replace(".", "-") for entry in wanted}
    assert names <= locked
    assert "://" not in lock
    assert all(">=" in entry for entry in wanted), "every dependency has a lower bound"


def test_a_look_at_a_path_is_never_an_exception() -> None:
    """`Path.exists` and its kin raise below a closed directory; in a task that is the end of it."""
    look = re.compile(r"\.(?:exists|is_dir|is_file)\(\)")
    wrong = [
        name_of(path)
        for path in modules("reconciler")
        if "cli" not in path.parts and look.search(path.read_text())
    ]
    assert wrong == []
