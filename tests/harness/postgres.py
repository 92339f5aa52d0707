"""A real PostgreSQL in a directory of its own. Used by tests of listeners that pass bytes on."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from tests.harness import ports

_VERSIONS = Path("/usr/lib/postgresql")


def programs() -> Path | None:
    """Where Debian keeps the programs of the newest version; None without any."""
    found = sorted(_VERSIONS.glob("*/bin/postgres"), key=lambda path: float(path.parts[-3]))
    return found[-1].parent if found else None


class Postgres:
    """Use as a context manager. It refuses to run as root, and runs then as Debian's own user."""

    def __init__(self) -> None:
        self._programs = programs()
        assert self._programs is not None, "PostgreSQL is not installed"
        self.address = ports.address()
        self._base = Path(tempfile.mkdtemp(prefix="kk-pg-"))
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Postgres:
        user = pwd.getpwnam("postgres") if os.geteuid() == 0 else None
        if user is not None:
            os.chown(self._base, user.pw_uid, user.pw_gid)
        self._as = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] * bool(
            user
        )
        options = ["--auth=trust", "--username=app", "--no-sync", "--encoding=UTF8"]
        self._run("initdb", *options, f"--pgdata={self._base}/data")
        host, _, port = self.address.rpartition(":")
        said = {"listen_addresses": host, "port": port, "unix_socket_directories": self._base}
        settings = [word for key, value in said.items() for word in ("-c", f"{key}={value}")]
        assert self._programs is not None
        self._process = subprocess.Popen(
            [*self._as, self._programs / "postgres", "-D", f"{self._base}/data", *settings],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
        )
        self._run("pg_isready", "--timeout=30", f"--host={host}", f"--port={port}", retry=True)
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            # Fast shutdown: whoever is connected is cut off.
            self._process.send_signal(signal.SIGINT)
            self._process.wait(30)
        shutil.rmtree(self._base, ignore_errors=True)

    def _run(self, program: str, *arguments: str, retry: bool = False) -> None:
        assert self._programs is not None
        command = [*self._as, str(self._programs / program), *arguments]
        for _ in range(100 if retry else 1):
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd="/")
            if done.returncode == 0:
                return
            time.sleep(0.1)
        raise AssertionError(f"{program}: {done.stdout}{done.stderr}")


def environment(address: str) -> dict[str, str]:
    """What clients of it want to know, to go by an address."""
    host, _, port = address.rpartition(":")
    wanted = {"PGHOST": host, "PGPORT": port, "PGUSER": "app", "PGDATABASE": "postgres"}
    return {**os.environ, **wanted, "PGSSLMODE": "disable", "PGCONNECT_TIMEOUT": "10"}
