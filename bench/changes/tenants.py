"""A configuration of any size: as many tenants, each a hostname with a cluster and a backend.

About fifty tenants share a file and twenty files a directory, as in a repository that several
teams own. Used by `bench.changes.reconfigure`, `bench.changes.reload` and tests/scale.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

_FILES_PER_DIRECTORY = 20


@dataclass(slots=True)
class Tenants:
    """`backend_port` is where all backends are, but for those that were moved."""

    count: int
    listener_port: int
    backend_port: int
    per_file: int = 50
    access_log: str = "off"
    metrics_port: int | None = None
    _moved: dict[int, int] = field(default_factory=dict)

    def files(self) -> dict[str, str]:
        """The whole configuration: path → text."""
        found = {self.path(number): self.text(number) for number in range(self._file_count)}
        admin = f"  admin: 127.0.0.1:{self.metrics_port}\n" if self.metrics_port else ""
        found["listeners.yaml"] = (
            f"settings:\n  access_log: {self.access_log}\n{admin}"
            f'listeners:\n  public: {{address: "127.0.0.1:{self.listener_port}"}}\n'
        )
        return found

    def move(self, tenant: int, port: int) -> tuple[str, str]:
        """Move one backend to another port; the file that this changes and its new text."""
        self._moved[tenant] = port
        number = tenant // self.per_file
        return self.path(number), self.text(number)

    @staticmethod
    def hostname(tenant: int) -> str:
        """What a request for a tenant names."""
        return f"tenant-{tenant:05}.example.com"

    def port(self, tenant: int) -> int:
        """Where a tenant's backend is now."""
        return self._moved.get(tenant, self.backend_port)

    @staticmethod
    def path(number: int) -> str:
        """The path of a file of tenants."""
        return f"tenants/{number // _FILES_PER_DIRECTORY:03}/{number:05}.yaml"

    def text(self, number: int) -> str:
        """The text of a file of tenants."""
        first = number * self.per_file
        tenants = range(first, min(first + self.per_file, self.count))
        return "\n".join([*self._clusters(tenants), *self._frontends(tenants), ""])

    @property
    def _file_count(self) -> int:
        return -(-self.count // self.per_file)

    def _clusters(self, tenants: range) -> Iterator[str]:
        yield "clusters:"
        for tenant in tenants:
            yield f"  tenant-{tenant:05}:"
            yield "    backends:"
            yield f'      backend-1: {{address: "127.0.0.1:{self.port(tenant)}"}}'

    def _frontends(self, tenants: range) -> Iterator[str]:
        yield "frontends:"
        for tenant in tenants:
            yield f"  tenant-{tenant:05}:"
            yield "    listeners: [public]"
            yield f"    hostname: {self.hostname(tenant)}"
            yield f"    cluster: tenant-{tenant:05}"
