"""Records behave as the frozen dataclasses that they stand for, whatever their fields are."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

import pytest

from schemas.record import record
from tests.harness.daemon import ROOT


@record
class Nothing:
    pass


@record
class One:
    value: list[int]


@record
class Several:
    left: int
    right: str = "right"
    made: dict[str, int] = field(default_factory=dict)
    hidden: int = field(default=0, repr=False)
    aside: list[int] | None = field(default=None, init=False, compare=False)


@dataclass(frozen=True, slots=True)
class Compared:
    left: int
    right: str = "right"
    made: dict[str, int] = field(default_factory=dict)
    hidden: int = field(default=0, repr=False)
    aside: list[int] | None = field(default=None, init=False, compare=False)


@record
class Other:
    left: int
    right: str = "right"


@record
class Folded:
    name: str

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Folded) and self.name.lower() == other.name.lower()

    def __hash__(self) -> int:
        return hash(self.name.lower())


def test_it_is_made_as_a_dataclass_is() -> None:
    for arguments, keywords in (
        ((1,), {}),
        ((1, "x"), {}),
        ((), {"left": 1, "hidden": 3}),
        ((1,), {"made": {"a": 1}}),
    ):
        one, other = Several(*arguments, **keywords), Compared(*arguments, **keywords)
        assert asdict(one) == asdict(other)
        assert repr(one) == repr(other).replace("Compared", "Several")
    for arguments, keywords in (((), {}), ((1, "2", {}, 4, 5), {}), ((1,), {"aside": []})):
        for made in (Several, Compared):
            with pytest.raises(TypeError):
                made(*arguments, **keywords)
    assert Several(1).made is not Several(1).made
    assert [each.name for each in fields(Several)] == ["left", "right", "made", "hidden", "aside"]
    assert Several.__match_args__ == Compared.__match_args__
    assert (repr(Nothing()), repr(One([1]))) == ("Nothing()", "One(value=[1])")


def test_equal_is_what_is_of_the_same_class_and_values() -> None:
    assert Several(1) == Several(1) != Several(2)
    assert Several(1, hidden=1) != Several(1)
    marked = Several(1)
    object.__setattr__(marked, "aside", [1])
    assert marked == Several(1) and replace(marked, left=1).aside is None
    assert One([1]) == One([1]) != One([2])
    assert Nothing() == Nothing()
    assert Other(1) != Several(1) and Several(1) != Compared(1) and One([1]) != [1]
    assert len({Other(1), Other(1), Other(1, "x"), Nothing(), Nothing()}) == 3
    with pytest.raises(TypeError):
        hash(One([1]))
    assert len({Folded("a"), Folded("A")}) == 1


def test_it_is_changed_by_a_copy_only_and_has_no_other_attribute() -> None:
    one = Several(1)
    assert replace(one, left=2) == Several(2) and one == Several(1)
    assert copy.copy(one) == copy.deepcopy(one) == pickle.loads(pickle.dumps(one)) == one
    assert not hasattr(one, "__dict__")
    with pytest.raises(AttributeError):
        one.another = 1  # type: ignore[attr-defined]


def test_the_type_checker_lets_nobody_set_a_field(tmp_path: Path) -> None:
    program = tmp_path / "sets.py"
    program.write_text(
        "from schemas.record import record\n\n@record\nclass Pair:\n    left: int\n\n"
        "pair = Pair(1)\npair.left = 2\nPair('x')\nPair()\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), str(program)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    found = [line.split("[")[-1] for line in done.stdout.splitlines() if ": error: " in line]
    assert found == ["misc]", "arg-type]", "call-arg]"], done.stdout + done.stderr
