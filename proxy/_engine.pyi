# The engine's Python face, written by hand and checked by stubtest. Every call frees the GIL.

from typing import Self, final

__all__ = [
    "Engine",
    "Preview",
    "Refused",
    "other_readings",
    "preview_request",
    "rank_frontends",
    "rank_requests",
    "read_request",
    "share_of",
    "weigh_expression",
    "witnesses",
]

# A generation cannot be prepared. `args` is (kind, name, reason).
class Refused(Exception): ...  # noqa: N818

# One engine thread with its listeners, frontends, clusters and counters.
@final
class Engine:
    def __new__(cls, worker: int, cpu: int | None) -> Self: ...
    def metrics_fd(self) -> int: ...
    def stage(
        self, generation: int, number: int, ops: bytes, materials: dict[str, bytes | None]
    ) -> None: ...
    def drop_incoming(self) -> None: ...
    def serve(self, sockets: dict[str, int]) -> None: ...
    def prepare(
        self,
        generation: int,
        base_generation: int,
        base_digest: str,
        commit: str,
        chunks: int,
        sockets: dict[str, int],
    ) -> str: ...
    def commit(self, generation: int) -> str: ...
    def abort(self, generation: int) -> None: ...
    def release(self, generation: int) -> None: ...
    def state(self) -> tuple[int, str, str, int | None]: ...
    def begin_audit(self) -> None: ...
    def end_audit(self) -> None: ...
    def audited(self) -> tuple[int, str, list[str]] | None: ...
    def read(self, position: int) -> tuple[int, str, str, int | None]: ...
    def listener_fds(self) -> dict[str, int]: ...
    def limits(
        self, limit: str | None, who: str | None, begin_anew: bool
    ) -> tuple[list[tuple[str, str, int, int]], list[tuple[str, str, int]]]: ...
    def overlay(self, drained: list[str]) -> None: ...
    def take_ticket_keys(self, keys: bytes) -> None: ...
    def share_rates(self, file: int) -> None: ...
    def take_challenges(
        self, http: dict[str, str], tls: dict[str, tuple[bytes, bytes]]
    ) -> None: ...
    def reopen_log(self) -> None: ...
    def shutdown(self, drain_ms: int) -> None: ...

# What stages would make of a request: status and location by which it is sent to TLS, or ended by
# its frontend; path with query, and host, that a backend gets; what templates come to; the origin
# whose pages may read the answer; the user whom it names with a password.
@final
class Preview:
    @property
    def to_tls(self) -> tuple[int, str | None] | None: ...
    @property
    def end(self) -> tuple[int, str | None] | None: ...
    @property
    def target(self) -> bytes | None: ...
    @property
    def host(self) -> bytes | None: ...
    @property
    def values(self) -> list[bytes]: ...
    @property
    def origin(self) -> bytes | None: ...
    @property
    def user(self) -> bytes | None: ...

# The same of a request head at a frontend (name, canonical value), whose listeners begin with the
# one that it comes to. `ValueError(reason, status)` when it would be refused; of what cannot be
# compiled the status is 0.
def preview_request(
    frontend: tuple[str, str],
    listeners: list[tuple[str, str]],
    head: bytes,
    client: str | None,
    texts: list[str],
    cors: str | None,
) -> Preview: ...

# Which of some frontends (name, canonical value) match a request, the winner first; of the others
# (name, "hostname" | "path" | "methods" | "headers" | "query", name of the field or "").
def rank_frontends(
    frontends: list[tuple[str, str]],
    host: bytes,
    path: bytes,
    query: bytes | None,
    method: bytes,
    headers: list[tuple[str, bytes]],
    client: str | None,
) -> tuple[list[str], list[tuple[str, str, str]]]: ...

# The same of several requests (host, path, query, method, headers, client): which match each.
def rank_requests(
    frontends: list[tuple[str, str]],
    requests: list[tuple[bytes, bytes, bytes | None, bytes, list[tuple[str, bytes]], str | None]],
) -> list[list[str]]: ...

# The cluster to which a frontend (name, value) that splits its requests has one go again and again.
def share_of(
    frontend: tuple[str, str], headers: list[tuple[str, bytes]], client: str | None
) -> str | None: ...

# The paths that servers may read in a normal one, unlike the engine (`/a%2Fb`, `/a;b`).
def other_readings(path: bytes) -> list[bytes]: ...

# Host, normal path and query of a request head, read as a listener reads it; `ValueError(reason,
# status)` when it would be refused.
def read_request(head: bytes, merge_slashes: bool) -> tuple[bytes, bytes, bytes | None]: ...

# How many bytes an expression takes when it is compiled; `ValueError(reason)` if it cannot be.
def weigh_expression(pattern: str, ignore_case: bool) -> int: ...

# Texts that all expressions of `musts` match, for each set of `others` that match one of these; and
# whether that is all, so many states having been looked at. `ValueError` for what is no expression.
def witnesses(musts: list[str], others: list[str], states: int) -> tuple[list[str], bool]: ...
