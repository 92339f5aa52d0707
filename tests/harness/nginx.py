"""Debian's nginx as a backend: one process in the foreground, everything below its own prefix."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from tests.harness import ports

EXECUTABLE = shutil.which("nginx") or "/usr/sbin/nginx"
_DEADLINE_S = 10.0

_CONFIGURATION = """\
daemon off;
master_process off;
worker_processes 1;
pid {prefix}/nginx.pid;
error_log {prefix}/error.log;
events {{ worker_connections 512; }}
http {{
    access_log {prefix}/access.log;
    client_body_temp_path {prefix}/body;
    proxy_temp_path {prefix}/proxy;
    fastcgi_temp_path {prefix}/fastcgi;
    uwsgi_temp_path {prefix}/uwsgi;
    scgi_temp_path {prefix}/scgi;
    keepalive_timeout 60s;
    keepalive_requests 100000;
    gzip on;
    gzip_types text/plain;
    gzip_proxied any;
    client_max_body_size 0;
    default_type text/plain;
    server {{
        listen {address};
        root {prefix}/files;
{locations}
    }}
}}
"""


class Nginx:
    """Serves the files below `files`; more locations may be given as configuration text."""

    def __init__(self, prefix: Path, locations: str = "") -> None:
        self.prefix = prefix
        self.files = prefix / "files"
        self.files.mkdir(parents=True)
        self.address = ports.address()
        configuration = prefix / "nginx.conf"
        configuration.write_text(
            _CONFIGURATION.format(prefix=prefix, address=self.address, locations=locations)
        )
        with (prefix / "stderr").open("wb") as stderr:
            self._process = subprocess.Popen(
                [EXECUTABLE, "-p", str(prefix), "-c", str(configuration)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                env={**os.environ, "LC_ALL": "C"},
            )
        self._wait()

    def __enter__(self) -> Nginx:
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

    def _wait(self) -> None:
        deadline = time.monotonic() + _DEADLINE_S
        while True:
            try:
                socket.create_connection(ports.split(self.address), timeout=1).close()
                return
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError((self.prefix / "stderr").read_text()) from None
                time.sleep(0.02)
