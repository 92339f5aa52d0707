"""The only module that imports the engine: its typed face for the shell.

Keeps what the extension module gives out (tuples, exceptions with positional arguments) from
spreading. The blocking calls are short, except `stage`, `prepare` of a large change and `shutdown`,
which the shell runs in a thread.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

from proxy import _engine
from schemas.entities.entity import Entity, Json, canonical
from schemas.messages.challenges import ChallengeAnswers
from schemas.record import record


class PrepareRefusedError(Exception):
    """The engine cannot take a generation, because of the entity named."""

    def __init__(self, kind: str, name: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind
        self.name = name
        self.reason = reason


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except _engine.Refused as refusal:
        raise PrepareRefusedError(*(str(each) for each in refusal.args)) from None


@record
class Held:
    """What the engine serves, and what is staged beside it."""

    generation: int
    commit: str
    digest: str
    staged: int | None


@record
class EngineAudit:
    """The digest computed anew from all entities; `differing` are those (`KIND/NAME`) that are not
    what was committed, as far as that can be told of each by itself."""

    generation: int
    digest: str
    differing: list[str]


@record
class Miss:
    """The first thing in which a frontend does not match a request.

    `what` is hostname, path, methods, headers, query, cookies or client_addresses; `field` names
    the header, parameter or cookie.
    """

    what: str
    field: str


def rank_frontends(
    frontends: Iterable[Entity],
    *,
    hostname: str,
    path: str,
    query: str,
    method: str,
    headers: Sequence[tuple[str, str]],
    client: str | None = None,
) -> tuple[list[str], dict[str, Miss]]:
    """Return the names of those that match, the winner first, and of the others why they do not.

    Needs no engine thread. Hostname, path and the names of headers are in the engine's normal form.
    Raises `PrepareRefusedError` when the engine does not know one of the frontends.
    """
    given = [(each.key.name, canonical(each.value).decode()) for each in frontends]
    try:
        matching, missed = _engine.rank_frontends(
            given,
            _bytes(hostname),
            _bytes(path),
            _bytes(query) if query else None,
            _bytes(method),
            [(name, _bytes(value)) for name, value in headers],
            client,
        )
    except _engine.Refused as refusal:
        raise PrepareRefusedError(*(str(each) for each in refusal.args)) from None
    return matching, {name: Miss(what, field) for name, what, field in missed}


class RoutedRequest(Protocol):
    """What of a request says who gets it."""

    @property
    def hostname(self) -> str:
        """In the engine's normal form."""

    @property
    def path(self) -> str:
        """In the engine's normal form."""

    @property
    def query(self) -> str:
        """As it came."""

    @property
    def method(self) -> str:
        """As it came."""

    @property
    def headers(self) -> Sequence[tuple[str, str]]:
        """Their names in small letters."""

    @property
    def client(self) -> str | None:
        """Who asks, where that is known."""


def rank_requests(
    frontends: Iterable[Entity], requests: Iterable[RoutedRequest]
) -> list[list[str]]:
    """Return the names of those that match each request, the winner first.

    Raises `PrepareRefusedError` when the engine does not know one of the frontends.
    """
    given = [(each.key.name, canonical(each.value).decode()) for each in frontends]
    asked = [
        (
            _bytes(each.hostname),
            _bytes(each.path),
            _bytes(each.query) if each.query else None,
            _bytes(each.method),
            [(name, _bytes(value)) for name, value in each.headers],
            each.client,
        )
        for each in requests
    ]
    with _refusals():
        return _engine.rank_requests(given, asked)


def witnesses(musts: Sequence[str], others: Sequence[str], states: int) -> tuple[list[str], bool]:
    """Return texts that tell expressions apart, and whether there are no more sets of them.

    All of `musts` match each text, and for each set of `others` that match such a text there is
    one. At most so many states of all of them are looked at. Raises `ValueError` for what is no
    expression.
    """
    return _engine.witnesses(list(musts), list(others), states)


def weigh_expression(pattern: str, *, ignore_case: bool) -> int:
    """Return how many bytes an expression takes when it is compiled, in each worker.

    Raises `ValueError` with the reason why it cannot be.
    """
    return _engine.weigh_expression(pattern, ignore_case)


def share_of(
    frontend: Entity, headers: Sequence[tuple[str, str]], client: str | None
) -> str | None:
    """Return the cluster to which a split has a request go again and again; None: it is drawn."""
    named = (frontend.key.name, canonical(frontend.value).decode())
    return _engine.share_of(named, [(name, _bytes(value)) for name, value in headers], client)


@record
class Preview:
    """What the stages of a frontend would make of a request, see `policy/preview` of the engine.

    `to_tls` and `end` have status and location; bytes that are no text are written as escapes.
    """

    to_tls: tuple[int, str | None] | None
    end: tuple[int, str | None] | None
    target: str | None
    host: str | None
    values: list[str]
    origin: str | None
    user: str | None


def preview_request(
    frontend: Entity,
    listeners: Sequence[Entity],
    head: str,
    client: str | None,
    *,
    texts: Sequence[str],
    cors: dict[str, Json] | None,
) -> Preview:
    """Have a request head looked at as the stages would see it.

    The first of the listeners is the one that it comes to. Raises `ValueError(reason, status)` if
    it would be refused; of what cannot be compiled the status is 0.
    """
    found = _engine.preview_request(
        (frontend.key.name, canonical(frontend.value).decode()),
        [(each.key.name, canonical(each.value).decode()) for each in listeners],
        _bytes(head),
        client,
        list(texts),
        None if cors is None else canonical(cors).decode(),
    )
    return Preview(
        found.to_tls,
        found.end,
        _shown(found.target),
        _shown(found.host),
        [each.decode(errors="backslashreplace") for each in found.values],
        _shown(found.origin),
        _shown(found.user),
    )


def _shown(content: bytes | None) -> str | None:
    return None if content is None else content.decode(errors="backslashreplace")


class RequestPlace(NamedTuple):
    """Where a request goes, in the normal form by which it is matched."""

    hostname: str
    path: str
    query: str


def place_of(method: str, target: str, host: str, *, merge_slashes: bool) -> RequestPlace:
    """Read a request as a listener would. Raises `ValueError(reason, status)` if it is refused."""
    head = f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"
    hostname, path, query = _engine.read_request(_bytes(head), merge_slashes)
    return RequestPlace(_text(hostname), _text(path), _text(query or b""))


def other_readings(path: str) -> list[str]:
    """Return the paths that servers may read in a normal one that the engine reads otherwise."""
    return [_text(each) for each in _engine.other_readings(_bytes(path))]


def _text(content: bytes) -> str:
    return content.decode("utf-8", "surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


@record
class Recital:
    """Some of the entities that the engine holds: a JSON array of `{kind, name, value}`.

    `next` is the position of the next part, None behind the last one."""

    generation: int
    digest: str
    entities: str
    next: int | None


class EngineLimited(NamedTuple):
    """One who is limited: by what, who it is as far as it may be told, and for how long yet."""

    limit: str
    who: str
    wait_ms: int
    refused: int


class EngineInFlight(NamedTuple):
    """One who has requests in flight that are counted: by what, who it is, and how many."""

    limit: str
    who: str
    requests: int


class EngineApi:
    """One engine; it starts with this object and serves nothing until a generation commits."""

    def __init__(self, worker: int, cpu: int | None) -> None:
        self._engine = _engine.Engine(worker, cpu)

    @property
    def metrics_fd(self) -> int:
        """The memfd of the counters; stays the engine's."""
        return self._engine.metrics_fd()

    def held(self) -> Held:
        """What it holds now."""
        generation, commit, digest, staged = self._engine.state()
        return Held(generation, commit, digest, staged)

    def stage(
        self, generation: int, number: int, ops: str, materials: dict[str, bytes | None]
    ) -> None:
        """Takes a chunk of a change; number 0 begins it, in place of what was on its way or staged.

        `materials` are contents of files by their SHA-256, None of a lost one. Raises
        `PrepareRefusedError`.
        """
        with _refusals():
            self._engine.stage(generation, number, ops.encode(), materials)

    def drop_incoming(self) -> None:
        """Drops the chunks of a change whose rest does not come."""
        self._engine.drop_incoming()

    def prepare(
        self,
        generation: int,
        base: tuple[int, str],
        commit: str,
        chunks: int,
        sockets: dict[str, int],
    ) -> str:
        """Checks a generation whose change came in so many chunks; returns the digest it will have.

        `base` is (generation, digest). The sockets stay the caller's. Raises `PrepareRefusedError`.
        """
        with _refusals():
            return self._engine.prepare(generation, *base, commit, chunks, sockets)

    def serve(self, sockets: dict[str, int]) -> None:
        """Accepts connections from now on, with these sockets where a listener has none yet.

        The sockets stay the caller's. Raises `PrepareRefusedError`.
        """
        with _refusals():
            self._engine.serve(sockets)

    def commit(self, generation: int) -> str:
        """Swaps the staged generation in; returns the digest served now."""
        return self._engine.commit(generation)

    def abort(self, generation: int) -> None:
        """Drops what is staged."""
        self._engine.abort(generation)

    def release(self, generation: int) -> None:
        """Begins the drain of what the generation removed."""
        self._engine.release(generation)

    def begin_audit(self) -> None:
        """Has the engine find out what it really holds, a little in each turn.

        It goes on where one that was ended has come to.
        """
        self._engine.begin_audit()

    def end_audit(self) -> None:
        """Ends it before its end."""
        self._engine.end_audit()

    def audited(self) -> EngineAudit | None:
        """Waits for what was found; None when it was ended before."""
        found = self._engine.audited()
        return None if found is None else EngineAudit(*found)

    def read(self, position: int) -> Recital:
        """A part of the entities that the engine holds; the first one is at position 0."""
        return Recital(*self._engine.read(position))

    def listener_fds(self) -> dict[str, int]:
        """Listener name → its socket; they stay the engine's."""
        return self._engine.listener_fds()

    def overlay(self, drained: list[str]) -> None:
        """The backends that get no new requests, replacing the former list."""
        self._engine.overlay(drained)

    def limits(
        self, limit: str | None, who: str | None, *, forgive: bool
    ) -> tuple[list[EngineLimited], list[EngineInFlight]]:
        """Who is limited, by one limit or as one of those; `forgive`: as if they had not asked.

        And who has requests in flight, whoever is meant.
        """
        refused, in_flight = self._engine.limits(limit, who, forgive)
        return (
            [EngineLimited(*each) for each in refused],
            [EngineInFlight(*each) for each in in_flight],
        )

    def take_ticket_keys(self, keys: bytes) -> None:
        """The keys of TLS session tickets, the newest first, in place of those held.

        Raises `ValueError`; those held are kept then.
        """
        self._engine.take_ticket_keys(keys)

    def share_rates(self, table: int) -> None:
        """Counts rates in the table of this file from now on; the descriptor stays the caller's.

        Raises `ValueError`; the one that is held is kept then.
        """
        self._engine.share_rates(table)

    def share_health(self, table: int) -> None:
        """Reads in this file who is healthy from now on; the descriptor stays the caller's.

        Raises `ValueError`; the one that is held is kept then.
        """
        self._engine.share_health(table)

    def take_challenges(self, answers: ChallengeAnswers) -> None:
        """The answers to ACME challenges, in place of those held.

        Raises `ValueError`; those held are kept then.
        """
        shown = {
            hostname: (chain.encode(), key.encode())
            for hostname, (chain, key) in answers.tls.items()
        }
        self._engine.take_challenges(answers.http, shown)

    def reopen_log(self) -> None:
        """Has the access log's file opened anew, after it was moved away."""
        self._engine.reopen_log()

    def shutdown(self, drain_ms: int) -> None:
        """Stops accepting, lets requests end, joins the engine's thread."""
        self._engine.shutdown(drain_ms)


class ProberApi:
    """The prober: a thread that asks backends whether they are well."""

    def __init__(self) -> None:
        """Starts the thread. Raises `OSError`."""
        self._prober = _engine.Prober()

    @property
    def bell(self) -> int:
        """Can be read when there are news; stays the prober's."""
        return self._prober.bell()

    def share(self, table: int) -> None:
        """Writes what it finds in this file; the descriptor stays the caller's.

        Raises `ValueError`.
        """
        self._prober.share(table)

    def tell(self, message: bytes, materials: dict[str, bytes | None]) -> list[tuple[str, str]]:
        """Takes who is checked, as JSON; returns who cannot be, and why. Raises `ValueError`."""
        return self._prober.tell(message, materials)

    def report(self, names: list[str] | None) -> str:
        """What is known of these, or of all who get no requests, as JSON. Raises `OSError`."""
        return self._prober.report(names)

    def take_news(self) -> str:
        """What has turned since it was asked last, as JSON."""
        return self._prober.take_news()

    def end(self) -> None:
        """Joins the thread."""
        self._prober.end()
