"""Unary gRPC calls side by side, over TLS from the clients and in clear text to the backend.

`python -m bench grpc`. The backend is the Go server of gRPC's own interoperability tests, asked for
its shortest call, in HTTP/2 by all three. The load is h2load's, as in `bench.side.h2`; before it,
the client of those tests makes that call through each proxy: what is measured is known to work.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.measuring import report
from bench.measuring.accounting import two_cores
from bench.measuring.contenders import Contender, Setup, TlsFiles, contenders
from bench.measuring.service import Service
from bench.side.h2 import Course, race
from bench.side.tls import HOST, certificate
from tests.harness.ports import free_port

_BIN = Path(sys.prefix) / "bin"
_CALL = "/grpc.testing.TestService/EmptyCall"
# One message: not compressed, and of no bytes.
_MESSAGE = bytes(5)
_CALL_S = 60


def run(course: Course) -> None:
    """Measure, print, and write a file for programs."""
    found: dict[str, Any] = {"rounds": course.rounds, "seconds": course.seconds}
    core, load_core = two_cores()
    with tempfile.TemporaryDirectory(prefix="kakehi-bench-") as name:
        base = Path(name)
        files = certificate(base, "ecdsa")
        message = base / "message"
        message.write_bytes(_MESSAGE)
        request = [
            *(_CALL, f"--data={message}", "--header=content-type: application/grpc"),
            "--header=te: trailers",
        ]
        port = free_port()
        server = [_program("grpc-interop-server"), f"--port={port}"]
        setup = Setup(core, port, "lean", len(_MESSAGE), files, h2=True)
        with (
            Service(server, port, load_core, base / "server"),
            contenders(base, setup) as running,
        ):
            for contender in running:
                _call(contender, files)
            for streams in course.streams:
                print("\nunary calls with an empty message each way")
                found[f"streams {streams}"] = race(course, streams, running, load_core, request)
    print(f"\nwritten to {report.save('grpc', found)}")


def _call(contender: Contender, files: TlsFiles) -> None:
    command = [
        *(_program("grpc-interop-client"), "--server_host=127.0.0.1", "--use_tls"),
        *(f"--server_port={contender.port}", "--use_test_ca"),
        *(f"--ca_file={files.certificate}", f"--server_host_override={HOST}"),
        "--test_case=empty_unary",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_CALL_S, check=False)
    if done.returncode != 0:
        raise SystemExit(f"bench: no call through {contender.name}:\n{done.stderr[-2000:]}")


def _program(name: str) -> str:
    if not (_BIN / name).exists():
        raise SystemExit(f"bench: {name} is missing; `make test-tools` installs it where Go is")
    return str(_BIN / name)
