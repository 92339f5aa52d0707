"""The command line of the benchmarks. Without a command it runs all of them with their defaults."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import instructions
from bench.changes import reconfigure, site
from bench.climb import ladder
from bench.measuring.contenders import PROFILES
from bench.side import bulk, compression, floor, grpc, h2, profile, proxies, tls, upstream
from bench.side.course import Course

_ALL = (
    "proxies",
    "floor",
    "tls",
    "h2",
    "grpc",
    "upstream",
    "bulk",
    "compression",
    "reconfigure",
    "site",
)


def main(arguments: Sequence[str] | None = None) -> None:
    """`python -m bench`."""
    parser = _parser()
    chosen = parser.parse_args(arguments)
    if chosen.command is None:
        for command in _ALL:
            print(f"==> {command}", flush=True)
            _RUNS[command](parser.parse_args([command]))
    else:
        _RUNS[chosen.command](chosen)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    commands = parser.add_subparsers(dest="command")
    _add_proxies(commands.add_parser("proxies", help="side by side with nginx and HAProxy"))
    _add_floor(commands.add_parser("floor", help="beside passing bytes on unread"))
    sampled = commands.add_parser("profile", help="where the time of both goes, by perf")
    sampled.add_argument("--seconds", type=int, default=5, help="of each measurement")
    sampled.add_argument("--connections", type=_numbers, default=[1, 64, 1000], metavar="N,N…")
    _add_ladder(commands.add_parser("ladder", help="rates raised until failure"))
    counted = commands.add_parser("instructions", help="of parsing, routing, rewriting: callgrind")
    counted.add_argument("--renew", action="store_true", help="write bench/instructions.json")
    secure = commands.add_parser("tls", help="handshakes and requests over TLS, side by side")
    secure.add_argument("--rounds", type=int, default=5)
    secure.add_argument("--seconds", type=int, default=3, help="of each measurement")
    secure.add_argument("--connections", type=int, default=64, help="of wrk")
    secure.add_argument("--bodies", type=_numbers, default=[65_536, 1_048_576], metavar="N,N…")
    many = commands.add_parser("h2", help="requests in streams over TLS, side by side")
    many.add_argument("--rounds", type=int, default=5)
    many.add_argument("--seconds", type=int, default=3, help="of each measurement")
    many.add_argument("--connections", type=int, default=16)
    many.add_argument("--streams", type=_numbers, default=[1, 10, 100], metavar="N,N…")
    many.add_argument("--body", type=int, default=64, metavar="BYTES", help="of each response")
    calls = commands.add_parser("grpc", help="unary gRPC calls over TLS, side by side")
    calls.add_argument("--rounds", type=int, default=5)
    calls.add_argument("--seconds", type=int, default=3, help="of each measurement")
    calls.add_argument("--connections", type=int, default=16)
    calls.add_argument("--streams", type=_numbers, default=[1, 10], metavar="N,N…")
    shared = commands.add_parser("upstream", help="HTTP/2 to the backend instead of HTTP/1.1")
    shared.add_argument("--rounds", type=int, default=5)
    shared.add_argument("--seconds", type=int, default=3, help="of each measurement")
    shared.add_argument("--connections", type=_numbers, default=[1, 64, 1000], metavar="N,N…")
    shared.add_argument("--body", type=int, default=64, metavar="BYTES", help="of each response")
    shared.add_argument("--one-core", action="store_true", help="load on the core of the proxies")
    beside = commands.add_parser("bulk", help="short requests beside long downloads")
    beside.add_argument("--rounds", type=int, default=5)
    beside.add_argument("--seconds", type=int, default=3, help="of each measurement")
    beside.add_argument("--downloads", type=int, default=50, help="at a time")
    beside.add_argument("--body", type=int, default=1_048_576, metavar="BYTES", help="of each")
    beside.add_argument("--rate", type=int, default=500, help="short requests a second")
    squeezed = commands.add_parser("compression", help="text sent by gzip, side by side")
    squeezed.add_argument("--rounds", type=int, default=5)
    squeezed.add_argument("--seconds", type=int, default=3, help="of each measurement")
    squeezed.add_argument("--connections", type=int, default=16)
    squeezed.add_argument("--bodies", type=_numbers, default=[16_384, 131_072], metavar="N,N…")
    _add_changes(commands)
    return parser


def _add_changes(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    change = commands.add_parser("reconfigure", help="what a change of one backend costs")
    change.add_argument("--frontends", type=_numbers, default=[100, 10_000], metavar="N,N…")
    change.add_argument("--changes", type=int, default=30, help="at each size")
    change.add_argument("--per-file", type=int, default=50, help="frontends in one file")
    change.add_argument("--peers", action="store_true", help="reload nginx and HAProxy, too")
    large = commands.add_parser("site", help="what the operator of a large site waits for")
    large.add_argument("--frontends", type=int, default=100_000, help="each in a file")
    large.add_argument("--changes", type=int, default=1000, help="one by one")
    large.add_argument("--profile", action="store_true", help="tell the functions, too")


def _add_floor(least: argparse.ArgumentParser) -> None:
    least.add_argument("--rounds", type=int, default=7)
    least.add_argument("--seconds", type=int, default=3, help="of each measurement")
    least.add_argument("--connections", type=_numbers, default=[1, 64, 1000], metavar="N,N…")
    least.add_argument("--bodies", type=_numbers, default=[64, 65_536, 1_048_576], metavar="N,N…")
    least.add_argument("--profile", choices=PROFILES, default="lean")
    least.add_argument("--upload", action="store_true", help="the bodies are those of requests")
    least.add_argument("--bytes", action="store_true", help="read nothing, and beside HAProxy")


def _add_proxies(side: argparse.ArgumentParser) -> None:
    side.add_argument("--rounds", type=int, default=5)
    side.add_argument("--seconds", type=int, default=3, help="of each measurement")
    side.add_argument("--connections", type=_numbers, default=[1, 64, 1000], metavar="N,N…")
    side.add_argument("--profile", choices=[*PROFILES, "both"], default="both")
    side.add_argument("--body", type=int, default=64, metavar="BYTES", help="of each response")
    side.add_argument("--one-core", action="store_true", help="load on the core of the proxies")
    side.add_argument("--fresh", action="store_true", help="a connection for each request")
    side.add_argument("--splice", action="store_true", help="HAProxy splices bodies of responses")


def _add_ladder(steps: argparse.ArgumentParser) -> None:
    steps.add_argument("--first-rate", type=float, default=500, help="requests a second")
    steps.add_argument("--factor", type=float, default=1.25, help="from step to step")
    steps.add_argument("--seconds", type=float, default=3, help="of each step")
    steps.add_argument("--warm-up", type=float, default=1, help="seconds before each step")
    steps.add_argument("--delays", type=_numbers, default=[0, 5, 50], metavar="MS,MS…")
    steps.add_argument("--body", type=int, default=64, metavar="BYTES", help="of each response")
    steps.add_argument("--max-requests", type=int, default=256, help="in flight at a proxy")
    steps.add_argument("--timeout-ms", type=int, default=1000, help="how long a client waits")
    steps.add_argument("--rounds", type=int, default=5, help="at half load")
    steps.add_argument("--fresh", action="store_true", help="a connection for each request")
    steps.add_argument("--plots", type=Path, metavar="DIRECTORY", help="where pictures go")


def _climb(chosen: argparse.Namespace) -> None:
    ladder.run(
        ladder.Course(
            first_rate=chosen.first_rate,
            factor=chosen.factor,
            seconds=chosen.seconds,
            warm_up_s=chosen.warm_up,
            delays_ms=chosen.delays,
            body_bytes=chosen.body,
            max_requests=chosen.max_requests,
            timeout_ms=chosen.timeout_ms,
            rounds=chosen.rounds,
            fresh=chosen.fresh,
            plots=chosen.plots,
        )
    )


def _numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


def _proxies(chosen: argparse.Namespace) -> None:
    profiles = PROFILES if chosen.profile == "both" else (chosen.profile,)
    course = Course(
        chosen.rounds,
        chosen.seconds,
        chosen.connections,
        chosen.body,
        chosen.one_core,
        chosen.splice,
        chosen.fresh,
    )
    proxies.run(course, profiles)


def _floor(chosen: argparse.Namespace) -> None:
    course = floor.Course(
        chosen.rounds,
        chosen.seconds,
        chosen.connections,
        chosen.bodies,
        chosen.profile,
        chosen.upload,
        chosen.bytes,
    )
    floor.run(course)


def _upstream(chosen: argparse.Namespace) -> None:
    course = Course(chosen.rounds, chosen.seconds, chosen.connections, chosen.body, chosen.one_core)
    upstream.run(course)


_RUNS: dict[str, Callable[[argparse.Namespace], object]] = {
    "proxies": _proxies,
    "floor": _floor,
    "profile": lambda of: profile.run(profile.Course(of.connections, of.seconds)),
    "ladder": _climb,
    "instructions": lambda of: instructions.run(is_renewed=of.renew),
    "tls": lambda of: tls.run(tls.Course(of.rounds, of.seconds, of.connections, of.bodies)),
    "h2": lambda of: h2.run(h2.Course(of.rounds, of.seconds, of.connections, of.streams, of.body)),
    "grpc": lambda of: grpc.run(h2.Course(of.rounds, of.seconds, of.connections, of.streams, 0)),
    "upstream": _upstream,
    "bulk": lambda of: bulk.run(bulk.Course(of.rounds, of.seconds, of.downloads, of.body, of.rate)),
    "compression": lambda of: compression.run(
        compression.Course(of.rounds, of.seconds, of.connections, of.bodies)
    ),
    "reconfigure": lambda of: reconfigure.run(
        of.frontends, of.changes, of.per_file, peers=of.peers
    ),
    "site": lambda of: site.run(of.frontends, of.changes, sampled=of.profile),
}


if __name__ == "__main__":
    main()
