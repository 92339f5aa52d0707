"""TLS side by side: what handshakes, requests and long bodies cost Kakehi, nginx and HAProxy.

`python -m bench tls`. All three terminate TLS on one core in front of the same backend in clear
text, alive at once, and are measured in turn as in `bench.side.proxies`. New and resumed handshakes
are TLS 1.3 by `bench.side.handshakes`; requests on kept connections and bodies of 64 KiB and 1 MiB
by wrk. Kakehi sends one ticket a handshake, the peers two; that is what each does unless told
otherwise.
"""

from __future__ import annotations

import ssl
import tempfile
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.measuring import load, report
from bench.measuring.accounting import two_cores
from bench.measuring.contenders import Contender, Setup, TlsFiles, backend, contenders
from bench.measuring.rounds import in_turn
from bench.side import handshakes, proxies
from tests.harness import pki

_OURS = "kakehi"
_SMALL_BODY = 64
# What the certificate is for.
HOST = "shop.example.com"
KEYS = {"ecdsa": "ECDSA P-256", "rsa": "RSA 2048"}


@dataclass(frozen=True, slots=True)
class Course:
    """What is measured: how often, how long, with how many connections of wrk."""

    rounds: int
    seconds: int
    connections: int
    bodies: Sequence[int]


def run(course: Course) -> None:
    """Measure, print, and write a file for programs."""
    found: dict[str, Any] = {"rounds": course.rounds, "seconds": course.seconds}
    for key in KEYS:
        found[key] = _with(course, key, _SMALL_BODY, _handshakes)
    for body_bytes in (_SMALL_BODY, *course.bodies):
        found[f"body {body_bytes}"] = _with(course, "ecdsa", body_bytes, _requests)
    path = report.save("tls", found)
    print(f"\nwritten to {path}")


_Measure = Callable[[Course, str, int, Sequence[Contender], int, str], dict[str, Any]]


def _with(course: Course, key: str, body_bytes: int, measure: _Measure) -> dict[str, Any]:
    core, load_core = two_cores()
    with tempfile.TemporaryDirectory(prefix="kakehi-bench-") as name:
        base = Path(name)
        files = certificate(base, key)
        with (
            backend(base, load_core, body_bytes) as (port, path),
            contenders(base, Setup(core, port, "lean", body_bytes, files)) as running,
        ):
            suite = _require(running, path, body_bytes)
            return {"suite": suite, **measure(course, key, body_bytes, running, load_core, path)}


def certificate(base: Path, key: str) -> TlsFiles:
    """A leaf of an authority that is not sent, as most servers have it but for an intermediate."""
    pair = pki.make(HOST, kind=key, issuer=pki.make("bench CA", is_ca=True))
    files = TlsFiles(base / "shop.crt", base / "shop.key")
    files.certificate.write_bytes(pair.pem)
    files.private_key.write_bytes(pair.key)
    return files


def _require(running: Sequence[Contender], path: str, body_bytes: int) -> str:
    """All answer rightly, and have agreed on the same; returns on what."""
    # Made for this one question; who answers is known.
    context = ssl._create_unverified_context()  # noqa: SLF001
    suites = set()
    for contender in running:
        url = f"https://127.0.0.1:{contender.port}{path}"
        with urllib.request.urlopen(url, timeout=5, context=context) as answer:
            if len(answer.read()) != body_bytes:
                raise SystemExit(f"bench: {contender.name} does not pass the backend's body on")
        suites.add(handshakes.agreed(contender.port))
    if len(suites) != 1:
        raise SystemExit(f"bench: the proxies agree on different suites: {suites}")
    return suites.pop()


def _handshakes(
    course: Course, key: str, _: int, running: Sequence[Contender], core: int, _path: str
) -> dict[str, Any]:
    found = {}
    for how in ("new", "resumed"):

        def one(contender: Contender, seconds: int, *, resumed: bool = how == "resumed") -> Any:
            return handshakes.measure(
                contender.port, contender.pids(), resumed=resumed, seconds=seconds, core=core
            )

        rounds = in_turn(running, one, rounds=course.rounds, seconds=course.seconds)
        print(f"\n{how} handshakes, {KEYS[key]}, {_duration(course)}", flush=True)
        found[how] = _show_handshakes(rounds)
    return found


def _requests(
    course: Course,
    _: str,
    body_bytes: int,
    running: Sequence[Contender],
    core: int,
    path: str,
) -> dict[str, Any]:
    def one(contender: Contender, seconds: int) -> load.Sample:
        return load.measure(
            contender.port,
            contender.pids(),
            connections=course.connections,
            seconds=seconds,
            core=core,
            path=path,
            scheme="https",
        )

    rounds = in_turn(running, one, rounds=course.rounds, seconds=course.seconds)
    print(f"\n{course.connections} connections, {body_bytes} B bodies, {_duration(course)}")
    print(proxies.show(rounds), flush=True)
    return proxies.to_json(rounds)


def _duration(course: Course) -> str:
    return f"{course.rounds} rounds of {course.seconds} s"


def _show_handshakes(rounds: dict[str, list[handshakes.Sample]]) -> dict[str, Any]:
    """Print the table and our ratio to the better peer; return both for programs."""
    rows = [
        [
            name,
            report.Spread.of([each.cpu_us for each in samples]).show(1),
            report.Spread.of([each.per_cpu_s for each in samples]).show(0),
            report.Spread.of([each.handshakes_per_s for each in samples]).show(0),
            str(sum(each.errors for each in samples)),
        ]
        for name, samples in rounds.items()
    ]
    head = ["", "CPU µs/handshake", "handshakes/CPU s", "made/s", "errors"]
    print(report.table(head, rows))
    peers = [samples for name, samples in rounds.items() if name != _OURS]
    better = [min(each.cpu_us for each in peer) for peer in zip(*peers, strict=True)]
    ratio = report.ratios([each.cpu_us for each in rounds[_OURS]], better)
    print(f"kakehi / better of nginx and haproxy: CPU/handshake {ratio.show()}", flush=True)
    return {
        "samples": {name: [each.to_json() for each in all_] for name, all_ in rounds.items()},
        "ratio_to_better_peer": {"CPU/handshake": ratio.to_json()},
    }
