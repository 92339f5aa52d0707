"""Backends that answer with their own name: one nginx, one port a name.

nginx, because what serves a storm of commits under load must not be what limits it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tests.harness import ports
from tests.harness.nginx import NginxProcess


class NamedBackends(NginxProcess):
    """Use as a context manager; `address[name]` is where that name is answered."""

    def __init__(self, prefix: Path, names: Iterable[str]) -> None:
        prefix.mkdir(parents=True)
        self.address = {name: ports.address() for name in names}
        servers = [
            f'    server {{ listen {address}; location / {{ return 200 "{name}"; }} }}'
            for name, address in self.address.items()
        ]
        http = "\n".join(["    access_log off;", "    keepalive_timeout 120s;", *servers])
        super().__init__(prefix, http, self.address.values())
