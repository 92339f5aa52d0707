"""Parsing, routing and rewriting take as many instructions as the file in the tree says."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import instructions
from bench.instructions import Counts, count, incomparable, reference, renew, total, verdict

OLD = Counts("1.95.0", "x86_64", {"parse": 1000.0, "route": 200.0})


# The benchmark is built by `make test-rust`, beside which `.ci/run` has the parallel part; whoever
# runs this alone waits for it.
@pytest.mark.serial
@pytest.mark.timeout(1800)
def test_no_stage_takes_more_or_less_than_it_did(capsys: pytest.CaptureFixture[str]) -> None:
    counts = count()
    against = reference()
    with capsys.disabled():
        print(f"\ninstructions a message: {dict(counts.per_message)}")
    if not counts.is_like(against):
        pytest.skip(incomparable(counts, against))
    assert verdict(counts, against) is None


@pytest.mark.parametrize(
    ("parse", "said"), [(1049, None), (951, None), (1051, "parse +5.1%"), (940, "parse -6.0%")]
)
def test_five_per_cent_either_way_are_told(parse: float, said: str | None) -> None:
    found = verdict(Counts("1.95.0", "x86_64", {"parse": parse, "route": 200.0}), OLD)
    assert (found is None) if said is None else (found is not None and said in found)
    if found is not None:
        assert "route" not in found
        assert "--renew" in found


def test_a_stage_that_is_new_or_gone_wants_the_file_renewed() -> None:
    assert "route" in str(verdict(Counts("1.95.0", "x86_64", {"parse": 1000.0}), OLD))
    more = {**OLD.per_message, "compress": 5.0}
    assert "compress" in str(verdict(Counts("1.95.0", "x86_64", more), OLD))


@pytest.mark.parametrize(("rustc", "machine"), [("1.96.0", "x86_64"), ("1.95.0", "aarch64")])
def test_another_compiler_or_processor_is_told_and_not_compared(rustc: str, machine: str) -> None:
    other = Counts(rustc, machine, OLD.per_message)
    assert not other.is_like(OLD)
    told = incomparable(other, OLD)
    assert rustc in told
    assert machine in told
    assert instructions.RENEW in told


def test_what_is_renewed_is_what_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instructions, "REFERENCE", tmp_path / "instructions.json")
    renew(OLD)
    assert reference() == OLD
    assert verdict(OLD, reference()) is None


def test_the_total_of_callgrind_is_read() -> None:
    assert total("events: Ir\nfn=(1) x\n1 5\ntotals: 12345\n") == 12345
    with pytest.raises(SystemExit, match="nothing"):
        total("events: Ir\ntotals: 0\n")
