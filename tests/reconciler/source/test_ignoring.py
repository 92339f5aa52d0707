import re
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.source.ignoring import PATTERNS_MAX, parse
from reconciler.stalling import HurriedError, hurried


@pytest.mark.parametrize(
    ("patterns", "left_out", "read"),
    [
        ("docker-compose.yaml", ["docker-compose.yaml", "a/docker-compose.yaml"], ["a.yaml"]),
        ("/compose.yaml", ["compose.yaml"], ["a/compose.yaml"]),
        ("k8s/", ["k8s/a.yaml", "k8s/b/c.yaml", "x/k8s/a.yaml"], ["k8s", "a/k8s"]),
        ("a/b", ["a/b", "a/b/c.yaml"], ["x/a/b"]),
        ("*.gen.yaml", ["x.gen.yaml", "a/x.gen.yaml"], ["x.yaml"]),
        ("*\n!shop.yaml", ["a.yaml"], ["shop.yaml"]),
        ("a/\n!a/b.yaml", ["a/b.yaml"], []),
        ("a/**/z.yaml", ["a/z.yaml", "a/b/c/z.yaml"], ["z.yaml"]),
        ("**/x", ["x", "a/x", "a/b/x/c"], ["xx"]),
        ("a/**", ["a/b", "a/b/c"], ["a"]),
        ("# all\n\n  \n/", [], ["a.yaml"]),
        ("?.yaml", ["a.yaml"], ["ab.yaml"]),
    ],
)
def test_patterns(patterns: str, left_out: list[str], read: list[str]) -> None:
    ignoring = parse(patterns.encode())
    assert [path for path in (*left_out, *read) if ignoring.covers(path)] == left_out


NAMES = st.text(alphabet="ab.", min_size=1, max_size=3).filter(lambda name: name.strip("."))
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
PATTERNS = st.lists(
    st.text(alphabet="ab.*?/!", min_size=1, max_size=6).filter(lambda text: "***" not in text),
    max_size=3,
).map("\n".join)


@settings(max_examples=60, deadline=None)
@given(patterns=PATTERNS, paths=st.lists(PATHS, min_size=1, max_size=6, unique=True))
def test_git_says_the_same(
    patterns: str, paths: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = tmp_path_factory.mktemp("git")
    subprocess.run(["git", "init", "-q", place], check=True)
    (place / ".gitignore").write_text(patterns + "\n")
    there = [path for path in paths if _made(place / path)]
    asked = subprocess.run(
        ["git", "-C", place, "check-ignore", "--no-index", "--stdin"],
        input="\n".join(there),
        capture_output=True,
        text=True,
    )
    ignoring = parse((patterns + "\n").encode())
    assert [path for path in there if ignoring.covers(path)] == asked.stdout.split()


def _made(path: Path) -> bool:
    """Make a file, unless one of its directories is a file or the other way round."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(exist_ok=True)
    except OSError:
        return False
    return path.is_file()


def test_no_pattern_takes_long() -> None:
    began = time.process_time()
    hostile = ("*a" * 200 + "b\n" + "**/" * 100 + "x\n") * 90
    ignoring = parse(hostile.encode())
    assert 0 < len(ignoring.patterns) <= PATTERNS_MAX
    assert not ignoring.covers("/".join(["a" * 200] * 8))
    assert time.process_time() - began < 5
    assert not parse(b"*\n" * 40_000).covers("a.yaml"), "too large to be meant"


def test_names_that_fit_but_for_their_end_cost_little() -> None:
    lines = "".join(f"*{'a' * 58}b{number:03}\n" for number in range(PATTERNS_MAX))
    ignoring = parse(lines.encode())
    began = time.process_time()
    folder = "/".join(["a" * 200] * 6)
    assert not any(ignoring.covers(f"{folder}/{'a' * 200}{number}.yaml") for number in range(100))
    assert ignoring.covers(f"x/{'a' * 200}b007/{'a' * 200}.yaml")
    assert time.process_time() - began < 5


@settings(max_examples=500, deadline=None)
@given(pattern=st.text(alphabet="ab?*", min_size=1, max_size=8), name=st.text("ab", min_size=1))
def test_stars_are_what_an_expression_says_of_them(pattern: str, name: str) -> None:
    if pattern == "**":
        return
    expression = pattern.replace("?", ".").replace("*", ".*")
    fits = re.fullmatch(expression, name) is not None
    assert parse(pattern.encode()).covers(name) == fits


def test_on_the_loop_they_take_no_longer_than_a_moment() -> None:
    ignoring = parse(("*" + "a*" * 30 + "b\n").encode() * PATTERNS_MAX)
    paths = [f"{'a' * 200}{number}.yaml" for number in range(10_000)]
    began = time.process_time()
    with pytest.raises(HurriedError), hurried():
        any(map(ignoring.covers, paths))
    assert time.process_time() - began < 2
