"""A real ACME server (pebble) and the name server that it asks, on ports of their own.

Every name has the address 127.0.0.1; challenges are looked for at the ports that the caller names.
Used by the tests of ordered certificates; `available` says whether it could be installed.
"""

from __future__ import annotations

import json
import os
import shutil
import ssl
import subprocess
import sys
import urllib.request
from pathlib import Path

from tests.harness import pki, ports, processes

_PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
_NONE = ""


def available() -> bool:
    """Whether both programs are there."""
    names = ("pebble", "pebble-challtestsrv")
    return all(shutil.which(name, path=_PATH) for name in names)


class Pebble:
    """Runs until closed. `http` and `https` are where it looks for challenges."""

    def __init__(
        self, directory: Path, http: str, https: str, *, lifetime_s: int = 7_776_000
    ) -> None:
        self._directory = directory
        directory.mkdir()
        self._address, self._management = ports.address(), ports.address()
        authority = pki.make("Pebble's own authority", is_ca=True)
        own = pki.make("localhost", "127.0.0.1", issuer=authority)
        self.ca = directory / "ca.pem"
        self.ca.write_bytes(authority.pem)
        (directory / "own.crt").write_bytes(own.chain)
        (directory / "own.key").write_bytes(own.key)
        self._context = ssl.create_default_context(cafile=str(self.ca))
        config = {
            "listenAddress": self._address,
            "managementListenAddress": self._management,
            "certificate": str(directory / "own.crt"),
            "privateKey": str(directory / "own.key"),
            "httpPort": ports.split(http)[1],
            "tlsPort": ports.split(https)[1],
            "retryAfter": {"authz": 1, "order": 1},
            "domainBlocklist": ["blocked.test"],
            "profiles": {"default": {"description": "of the tests", "validityPeriod": lifetime_s}},
        }
        (directory / "config.json").write_text(json.dumps({"pebble": config}))
        self._running: list[subprocess.Popen[bytes]] = []

    @property
    def url(self) -> str:
        """The ACME directory."""
        return f"https://{self._address}/dir"

    def __enter__(self) -> Pebble:
        names, config = ports.address(), str(self._directory / "config.json")
        self._run(
            "pebble-challtestsrv",
            *("-dnsserver", names, "-management", ports.address(), "-defaultIPv6", _NONE),
            *("-http01", _NONE, "-https01", _NONE, "-tlsalpn01", _NONE, "-doh", _NONE),
        )
        self._run("pebble", "-config", config, "-dnsserver", names)
        try:
            processes.wait_until(self._answers, "pebble answers")
        except AssertionError:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def _end(self) -> None:
        for process in self._running:
            process.kill()
            process.wait()

    def stand_still(self) -> None:
        """From here on it answers nobody, until it is ended."""
        for process in self._running:
            processes.stop(process.pid)

    def root(self) -> bytes:
        """The certificate of the authority whose leaves it issues, in PEM."""
        return self._ask(f"https://{self._management}/roots/0")

    def suggest(self, pem: bytes, window: dict[str, str]) -> None:
        """Have it answer so when somebody asks when to renew this certificate."""
        info = json.dumps({"suggestedWindow": window})
        body = json.dumps({"certificate": pem.decode(), "ariResponse": info}).encode()
        self._ask(f"https://{self._management}/set-renewal-info/", body)

    def _answers(self) -> bool:
        try:
            self._ask(self.url)
        except OSError:
            return False
        return True

    def _ask(self, url: str, body: bytes | None = None) -> bytes:
        with urllib.request.urlopen(url, body, 10, context=self._context) as answer:
            return bytes(answer.read())

    def _run(self, name: str, *arguments: str) -> None:
        program = shutil.which(name, path=_PATH)
        assert program is not None
        # Waits of up to 15 s before each look, and refusals at random, are not what is tested.
        environment = {**os.environ, "PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0"}
        with (self._directory / f"{name}.log").open("ab") as output:
            self._running.append(
                subprocess.Popen(
                    [program, *arguments], stdout=output, stderr=output, env=environment
                )
            )
