"""kosoku, which has the cases of Autobahn: through the proxy as against the backend itself."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import ports, suites
from tests.harness.daemon import Kakehi
from tests.harness.repo import Repo

# Sizes up to 16 MiB, and compression in its variants, take minutes and are no other frames.
_LONG = bool(os.environ.get("KAKEHI_TEST_LONG"))
_LEFT_OUT = () if _LONG else ("9.*", "12.*", "13.*")
_CASES_MIN = 450 if _LONG else 200
_RUN_S = 1200 if _LONG else 300
_TRIES = 5

# What became of a case's messages, and of its end.
Verdict = tuple[str, str]


@pytest.fixture(scope="module")
def backend() -> Iterator[str]:
    server = Path(__file__).parent / "echo_server.py"
    python = suites.program("python")
    with subprocess.Popen(
        [python, str(server)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        yield f"127.0.0.1:{int(process.stdout.readline())}"
        process.kill()


def verdicts(address: str, directory: Path, *cases: str) -> dict[str, Verdict]:
    """Every case (or these) with what became of its messages and of its end."""
    chosen = [word for case in cases for word in ("-i", case)]
    left_out = [word for pattern in _LEFT_OUT for word in ("-x", pattern)]
    # It gives each case 20 s. Some are that long where several at a time share two cores.
    at_once = "1" if cases else "4"
    command = [suites.program("kosoku"), "-m", "fuzzingclient", "-p", at_once, "-o", str(directory)]
    done = subprocess.run(
        [*command, *(chosen or left_out), address], capture_output=True, timeout=_RUN_S
    )
    reports = list(directory.rglob("index.json"))
    assert reports, done.stdout.decode() + done.stderr.decode()
    [agent] = json.loads(reports[0].read_text()).values()
    return {case: (each["behavior"], each["behaviorClose"]) for case, each in agent.items()}


def differing(
    address: str, backend: str, expected: dict[str, set[Verdict]], directory: Path
) -> dict[str, Verdict | None]:
    """The cases with a verdict that the backend itself never gets, each time that they are tried.

    Some are decided by how many frames the backend finds in one read: by chance, and so one run
    against the backend may have met what comes once in fifteen. It is asked again as often.
    """
    found = verdicts(address, directory / "all")
    left = {case: found.get(case) for case in expected if found.get(case) not in expected[case]}
    for number in range(_TRIES):
        if not left:
            break
        for case, verdict in verdicts(backend, directory / f"backend-{number}", *left).items():
            expected[case].add(verdict)
        again = verdicts(address, directory / str(number), *left)
        left = {case: again.get(case) for case in left if again.get(case) not in expected[case]}
    return left


@pytest.mark.timeout(4 * _RUN_S)
def test_it_is_as_against_the_backend(backend: str, tmp_path: Path) -> None:
    """Over HTTP/1.1, and over HTTP/2 (RFC 8441) at both sides of the proxy."""
    plain, outer, inner = ports.address(), ports.address(), ports.address()
    first: dict[str, Any] = {
        "listeners": {"plain": {"address": plain}, "outer": {"address": outer}},
        "clusters": {
            "echo": {"backends": {"one": {"address": backend}}},
            # What comes over HTTP/1.1 goes on over HTTP/2, to another instance.
            "second": {"protocol": "h2", "backends": {"inner": {"address": inner}}},
        },
        "frontends": {
            "direct": {"listeners": ["plain"], "cluster": "echo"},
            "twice": {"listeners": ["outer"], "cluster": "second"},
        },
    }
    second: dict[str, Any] = {
        "listeners": {"inner": {"address": inner, "h2c": True}},
        "clusters": {"echo": {"backends": {"one": {"address": backend}}}},
        "frontends": {"direct": {"listeners": ["inner"], "cluster": "echo"}},
    }
    repos = {name: Repo(tmp_path / name) for name in ("first", "second")}
    repos["first"].commit({"kakehi.yaml": first})
    repos["second"].commit({"kakehi.yaml": second})
    met = verdicts(backend, tmp_path / "backend")
    expected = {case: {verdict} for case, verdict in met.items()}
    assert len(expected) > _CASES_MIN
    with Kakehi(repos["second"], workers=1) as other, Kakehi(repos["first"], workers=1) as daemon:
        for name, address in (("http1", plain), ("http2", outer)):
            assert differing(address, backend, expected, tmp_path / name) == {}, name
        for each in (daemon, other):
            assert [worker["restarts"] for worker in each.status()["workers"]] == [0]
