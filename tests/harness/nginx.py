"""Debian's nginx as a backend: one process in the foreground, everything below its own prefix."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Collection
from pathlib import Path
from typing import Self

from tests.harness import ports, processes

EXECUTABLE = shutil.which("nginx") or "/usr/sbin/nginx"
_DEADLINE_S = 10.0

_CONFIGURATION = """\
daemon off;
master_process off;
worker_processes 1;
pid {prefix}/nginx.pid;
error_log {prefix}/error.log;
events {{ worker_connections 4096; }}
http {{
    access_log {prefix}/access.log;
    client_body_temp_path {prefix}/body;
    proxy_temp_path {prefix}/proxy;
    fastcgi_temp_path {prefix}/fastcgi;
    uwsgi_temp_path {prefix}/uwsgi;
    scgi_temp_path {prefix}/scgi;
    keepalive_requests 100000000;
    default_type text/plain;
{http}
}}
"""

_FILES = """\
    keepalive_timeout 60s;
    gzip on;
    gzip_types text/plain;
    gzip_proxied any;
    client_max_body_size 0;
    server {{
        listen {address};
        root {files};
{locations}
    }}
"""


class NginxProcess:
    """One nginx with a configuration of its own; a context manager, and there once it listens."""

    def __init__(self, prefix: Path, http: str, addresses: Collection[str]) -> None:
        """`http` stands within the `http` block; `addresses` are those that it listens at."""
        self._addresses = addresses
        configuration = prefix / "nginx.conf"
        configuration.write_text(_CONFIGURATION.format(prefix=prefix, http=http))
        with (prefix / "stderr").open("wb") as stderr:
            self._process = subprocess.Popen(
                [EXECUTABLE, "-p", str(prefix), "-c", str(configuration)],
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

    def __enter__(self) -> Self:
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
        assert self._process.poll() is None
        try:
            for address in self._addresses:
                socket.create_connection(ports.split(address), timeout=1).close()
        except OSError:
            return False
        return True


class Nginx(NginxProcess):
    """Serves the files below `files`; more locations may be given as configuration text."""

    def __init__(self, prefix: Path, locations: str = "") -> None:
        self.prefix = prefix
        self.files = prefix / "files"
        self.files.mkdir(parents=True)
        self.address = ports.address()
        http = _FILES.format(address=self.address, files=self.files, locations=locations)
        super().__init__(prefix, http, [self.address])
