"""Compression side by side: what a byte of text costs Kakehi and nginx that is sent by gzip.

`python -m bench compression`. Both on one core in front of the same backend, which sends a page of
text with its length; nginx by the level that Kakehi has, and HAProxy beside them by the one that it
has (SLZ, which keeps no window). Kakehi's other codings are rows of their own. A second of a
processor is what counts: bytes of text that went in, and how much of them has left.
"""

from __future__ import annotations

import contextlib
import tempfile
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.measuring import load, report
from bench.measuring.accounting import two_cores
from bench.measuring.contenders import Contender, Setup, backend, contenders
from bench.measuring.rounds import in_turn

# That of `proxy/engine/src/protocol/coding`.
GZIP_LEVEL = 3
_ROOT = Path(__file__).resolve().parents[2]
_MEBIBYTE = 1 << 20


@dataclass(frozen=True, slots=True)
class Course:
    """How often, how long, with how many connections of wrk, and pages of which lengths."""

    rounds: int
    seconds: int
    connections: int
    bodies: Sequence[int]


def run(course: Course) -> None:
    """Measure, print, and write a file for programs."""
    found: dict[str, Any] = {"rounds": course.rounds, "seconds": course.seconds}
    for body_bytes in course.bodies:
        found[f"body {body_bytes}"] = _with(course, body_bytes)
    print(f"\nwritten to {report.save('compression', found)}")


@contextlib.contextmanager
def _running(base: Path, body_bytes: int) -> Iterator[tuple[Sequence[Contender], str, int]]:
    """All of them, the path that they are asked for, and the core of the load."""
    core, load_core = two_cores()
    # Our own pages: text that does not repeat itself within this length.
    pages = [_ROOT / "ARCHITECTURE.md", *sorted((_ROOT / "docs").glob("*.md"))]
    body = b"".join(page.read_bytes() for page in pages)[:body_bytes]
    if len(body) < body_bytes:
        raise SystemExit(f"bench: there is no text of {body_bytes} bytes")
    with (
        backend(base, load_core, body_bytes, body=body) as (port, path),
        contenders(base, Setup(core, port, "lean", body_bytes, gzip_level=GZIP_LEVEL)) as running,
    ):
        ours, *peers = running
        named = [replace(ours, name=f"kakehi {coding}") for coding in ("gzip", "zstd", "br")]
        yield [*named, *peers], path, load_core


def _with(course: Course, body_bytes: int) -> dict[str, Any]:
    with (
        tempfile.TemporaryDirectory(prefix="kakehi-bench-") as name,
        _running(Path(name), body_bytes) as (running, path, core),
    ):
        lengths = {each.name: _length(each, path) for each in running}

        def one(contender: Contender, seconds: int) -> load.Sample:
            return load.measure(
                contender.port,
                contender.pids(),
                connections=course.connections,
                seconds=seconds,
                core=core,
                path=path,
                accept_encoding=_coding(contender),
            )

        rounds = in_turn(running, one, rounds=course.rounds, seconds=course.seconds)
    title = f"{course.connections} connections, {body_bytes} B of text"
    print(f"\n{title}, {course.rounds} rounds of {course.seconds} s")
    return _show(rounds, lengths, body_bytes)


def _coding(contender: Contender) -> str:
    return contender.name.partition(" ")[2] or "gzip"


def _length(contender: Contender, path: str) -> int:
    """How long the page is that leaves; one that is not compressed is not worth measuring."""
    url = f"http://127.0.0.1:{contender.port}{path}"
    asked = urllib.request.Request(url, headers={"Accept-Encoding": _coding(contender)})
    with urllib.request.urlopen(asked, timeout=5) as answer:
        if answer.headers["Content-Encoding"] != _coding(contender):
            raise SystemExit(f"bench: {contender.name} does not compress")
        return len(answer.read())


def _show(
    rounds: dict[str, list[load.Sample]], lengths: dict[str, int], body_bytes: int
) -> dict[str, Any]:
    """Print the table and our ratio to nginx; return both for programs."""
    speeds = {
        name: [body_bytes / _MEBIBYTE / (each.cpu_us / 1e6) for each in samples]
        for name, samples in rounds.items()
    }
    rows = [
        [
            name,
            report.Spread.of(speeds[name]).show(0),
            f"{100 * lengths[name] / body_bytes:.1f} %",
            report.Spread.of([each.requests_per_s for each in samples]).show(0),
            str(sum(each.errors for each in samples)),
        ]
        for name, samples in rounds.items()
    ]
    print(report.table(["", "MiB/CPU s", "of its length", "pages/s", "errors"], rows))
    ratio = report.ratios(speeds["kakehi gzip"], speeds["nginx"])
    print(f"kakehi gzip / nginx: MiB/CPU s {ratio.show()}", flush=True)
    return {
        "samples": {name: [each.to_json() for each in all_] for name, all_ in rounds.items()},
        "bytes_out": lengths,
        "ratio_to_nginx": {"MiB/CPU s": ratio.to_json()},
    }
