"""Backends that answer with their own name: one nginx, one port a name.

nginx, because what serves a storm of commits under load must not be what limits it.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterable
from pathlib import Path

from tests.harness import nginx, ports, processes

_DEADLINE_S = 10.0

_CONFIGURATION = """\
daemon off;
master_process off;
worker_processes 1;
pid {prefix}/nginx.pid;
error_log {prefix}/error.log;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {prefix}/body;
    proxy_temp_path {prefix}/proxy;
    fastcgi_temp_path {prefix}/fastcgi;
    uwsgi_temp_path {prefix}/uwsgi;
    scgi_temp_path {prefix}/scgi;
    keepalive_timeout 120s;
    keepalive_requests 100000000;
    default_type text/plain;
{servers}
}}
"""


class NamedBackends:
    """Use as a context manager; `address[name]` is where that name is answered."""

    def __init__(self, prefix: Path, names: Iterable[str]) -> None:
        prefix.mkdir(parents=True)
        self.address = {name: ports.address() for name in names}
        servers = "\n".join(
            f'    server {{ listen {address}; location / {{ return 200 "{name}"; }} }}'
            for name, address in self.address.items()
        )
        configuration = prefix / "nginx.conf"
        configuration.write_text(_CONFIGURATION.format(prefix=prefix, servers=servers))
        with (prefix / "stderr").open("wb") as stderr:
            self._process = subprocess.Popen(
                [nginx.EXECUTABLE, "-p", str(prefix), "-c", str(configuration)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                env={**os.environ, "LC_ALL": "C"},
            )
        try:
            processes.wait_until(self._answers, "nginx listens", _DEADLINE_S)
        except AssertionError:
            self.stop()
            raise AssertionError((prefix / "stderr").read_text()) from None

    def __enter__(self) -> NamedBackends:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_DEADLINE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(_DEADLINE_S)

    def _answers(self) -> bool:
        try:
            for address in self.address.values():
                socket.create_connection(ports.split(address), timeout=1).close()
        except OSError:
            return False
        return True
