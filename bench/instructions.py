"""Instructions that parsing, routing and rewriting a message take, held against a file in the tree.

`python -m bench instructions`, and tests/bench/test_instructions.py in every run of the tests.
Callgrind counts what a program around the engine (`proxy/engine/benches/instructions`) does: almost
the same number in every run (hash tables have keys of their own in each), so that 5 % are seen on a
machine on which no clock shows 50. More is a regression, and less is to be kept: both want the file
renewed, by a commit that says why.

Another compiler, or another kind of processor, gives other numbers for the same code, by as much as
what is looked for. They are then told and not compared: a test that fails because somebody has
updated Rust says nothing of the change that it fails on. Whoever changes the compiler renews the
file.
"""

from __future__ import annotations

import functools
import json
import os
import platform
import subprocess
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.measuring import report
from bench.measuring.service import program

REFERENCE = Path(__file__).with_name("instructions.json")
RENEW = ".venv/bin/python -m bench instructions --renew"
BOUND = 0.05
_MANIFEST = Path(__file__).resolve().parents[1] / "proxy" / "engine" / "Cargo.toml"
_PROGRAM = "instructions"


@dataclass(frozen=True, slots=True)
class Counts:
    """Instructions a message by stage, and what they were compiled by and for."""

    rustc: str
    machine: str
    per_message: Mapping[str, float]

    def is_like(self, other: Counts) -> bool:
        """Whether the numbers of both mean the same."""
        return (self.rustc, self.machine) == (other.rustc, other.machine)

    def moved(self, reference: Counts) -> dict[str, float]:
        """Every stage that is beyond the bound, or new, or gone: its ratio to the reference."""
        stages = self.per_message.keys() | reference.per_message.keys()
        ratios = {
            stage: self.per_message.get(stage, 0) / (reference.per_message.get(stage) or 1e-9)
            for stage in sorted(stages)
        }
        return {stage: ratio for stage, ratio in ratios.items() if abs(ratio - 1) > BOUND}


def count() -> Counts:
    """Build the program, and count all of its stages."""
    version = subprocess.run(["rustc", "--version"], capture_output=True, text=True, check=True)
    stages = _said([built(), "--list"]).split()
    # Callgrind takes one core, and counts the same whatever runs beside it.
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        counted = pool.map(_per_message, stages)
        per_message = dict(zip(stages, counted, strict=True))
    return Counts(version.stdout.split()[1], platform.machine(), per_message)


@functools.cache
def built() -> str:
    """The path of what is counted, after building what has changed."""
    command = ["cargo", "build", "--release", "--locked", "--quiet", "--bin", _PROGRAM]
    options = ["--message-format=json", "--manifest-path", str(_MANIFEST)]
    for line in _said([*command, *options]).splitlines():
        told = json.loads(line)
        if told.get("executable") and told["target"]["name"] == _PROGRAM:
            return str(told["executable"])
    raise SystemExit("bench: cargo tells of no program")


def _per_message(stage: str) -> float:
    with tempfile.TemporaryDirectory(prefix="kakehi-bench-") as base:
        out = Path(base) / "callgrind.out"
        command = [
            *(program("valgrind"), "--tool=callgrind", "--quiet", f"--callgrind-out-file={out}"),
            *("--collect-atstart=no", "--toggle-collect=*instructions*measured*"),
            *(built(), stage),
        ]
        messages = int(_said(command))
        return total(out.read_text()) / messages


def total(text: str) -> int:
    """The instructions that a file of callgrind's tells of."""
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name == "totals" and int(value) > 0:
            return int(value)
    raise SystemExit("bench: callgrind has counted nothing")


def _said(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"bench: {' '.join(command)} said\n{done.stderr}")
    return done.stdout


def reference() -> Counts:
    """What the file in the tree says."""
    told = json.loads(REFERENCE.read_text())
    return Counts(told["rustc"], told["machine"], told["per_message"])


def renew(counts: Counts) -> None:
    """Write the file in the tree anew."""
    told: dict[str, Any] = {
        "about": "instructions a message, by callgrind; renewed by: " + RENEW,
        "rustc": counts.rustc,
        "machine": counts.machine,
        "per_message": {stage: round(each, 1) for stage, each in counts.per_message.items()},
    }
    REFERENCE.write_text(json.dumps(told, indent=1) + "\n")


def verdict(counts: Counts, against: Counts) -> str | None:
    """What is wrong with them, in words; `None` if nothing is. For counts that can be compared."""
    moved = counts.moved(against)
    if not moved:
        return None
    told = ", ".join(f"{stage} {ratio - 1:+.1%}" for stage, ratio in moved.items())
    return (
        f"instructions a message moved by more than {BOUND:.0%}: {told}. If that is meant: {RENEW}"
    )


def run(*, is_renewed: bool) -> None:
    """Count, print, and hold against the file in the tree or write it."""
    counts = count()
    if is_renewed:
        renew(counts)
    against = reference()
    rows = [
        [stage, f"{each:.0f}", f"{against.per_message.get(stage, 0):.0f}"]
        for stage, each in counts.per_message.items()
    ]
    print(report.table(["", "instructions/message", "reference"], rows))
    if not counts.is_like(against):
        print(incomparable(counts, against))
    elif (said := verdict(counts, against)) is not None:
        raise SystemExit(f"bench: {said}")


def incomparable(counts: Counts, against: Counts) -> str:
    """Why nothing is compared."""
    return (
        f"not compared: the reference is of rustc {against.rustc} on {against.machine}, this is "
        f"{counts.rustc} on {counts.machine}; renew it with: {RENEW}"
    )
