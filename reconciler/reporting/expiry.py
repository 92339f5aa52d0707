"""When certificates in service expire, and what else of files that run is overdue or taken back.

Looks into the material store, which has exactly what is served; a content is parsed once, when
somebody first asks. For status and metrics; called by `reconciler.reporting.control.status` and
`reconciler.reporting.monitoring.measuring`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from reconciler.storage.reading.state import StoredState
from reconciler.storage.store import Store
from schemas.entities.entity import Entity, EntityKey
from schemas.entities.material import materials_of
from schemas.kinds.certificate import Certificate
from schemas.kinds.frontend import Frontend
from schemas.kinds.policy import Policy
from schemas.messages.files import read_regular


class Expiring(NamedTuple):
    """An entity with a certificate: one that is served, or a cluster that shows one to backends."""

    key: EntityKey
    not_after: datetime

    def left(self, now: datetime) -> timedelta:
        """How long it is still valid."""
        return self.not_after - now

    def days_left(self, now: datetime) -> int:
        """Whole days; below zero when it has expired."""
        return math.floor(self.left(now) / timedelta(days=1))

    def warning(self, now: datetime) -> str | None:
        """A sentence when it is time to do something."""
        from reconciler.materials import pem  # noqa: PLC0415  # 50 ms, and most have no certificates

        if self.left(now) >= pem.EXPIRES_SOON:
            return None
        if self.left(now) <= timedelta():
            return f"{self.key}: the certificate expired on {self.not_after:%Y-%m-%d %H:%M} UTC"
        days = self.days_left(now)
        when = f"in {days} day{'s' * (days != 1)}" if days else "today"
        return f"{self.key}: the certificate expires {when}, on {self.not_after:%Y-%m-%d %H:%M} UTC"


class Expiry:
    """Remembers the dates of the contents that run."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._dates: dict[str, datetime | None] = {}
        self._lists: dict[str, datetime | None] = {}
        self._empty: dict[str, bool] = {}

    def all(self, state: StoredState | None = None) -> list[Expiring]:
        """All certificates in service, the first to expire first.

        Another thread than the loop's gives a snapshot of its own.
        """
        dates: dict[str, datetime | None] = {}
        found: list[Expiring] = []
        for key, digest in self._chains(state or self._store.running.state):
            known = digest in self._dates
            date = dates[digest] = self._dates[digest] if known else self._read(digest)
            if date is not None:
                found.append(Expiring(key, date))
        self._dates = dates
        return sorted(found, key=lambda each: (each.not_after, each.key))

    def overdue(self, now: datetime) -> Iterator[str]:
        """Yield a sentence for each OCSP response and list of revoked certificates of yesterday."""
        lists: dict[str, datetime | None] = {}
        for entity in self._store.running.state.with_files():
            for material in materials_of(entity):
                match material.field[-1]:
                    case "ocsp":
                        until, what = _staple_until(entity), "the OCSP response is outdated"
                        then = "it is not stapled"
                    case "client_crl":
                        digest = material.sha256
                        known = digest in self._lists
                        until = lists[digest] = self._lists[digest] if known else self._due(digest)
                        what, then = (
                            "a newer list of revoked certificates is due",
                            "this one counts",
                        )
                    case _:
                        continue
                if until is not None and until <= now:
                    yield f"{entity.key}: {what} since {until:%Y-%m-%d %H:%M} UTC: {then}"
        self._lists = lists

    def withdrawn(self) -> Iterator[str]:
        """Yield a sentence for each set of keys of which an issuer has taken all back."""
        empty: dict[str, bool] = {}
        for entity in self._store.running.state.with_files():
            for material in materials_of(entity):
                if material.field[-1] != "keys":
                    continue
                digest = material.sha256
                known = digest in self._empty
                empty[digest] = self._empty[digest] if known else self._has_none(digest)
                if empty[digest]:
                    yield f"{entity.key}: {_issuer(entity)} has no key in it: all tokens get 401"
        self._empty = empty

    def _has_none(self, digest: str) -> bool:
        from reconciler.materials import jwks  # noqa: PLC0415  # a start without tokens spares it

        try:
            return jwks.is_empty(read_regular(self._store.materials.directory / digest))
        except OSError:
            return False

    def _due(self, digest: str) -> datetime | None:
        from reconciler.materials import pem  # noqa: PLC0415  # 50 ms, and most have no certificates

        try:
            return pem.next_update(read_regular(self._store.materials.directory / digest))
        except (OSError, ValueError):
            return None

    def _chains(self, state: StoredState) -> Iterator[tuple[EntityKey, str]]:
        for entity in state.with_files():
            for material in materials_of(entity):
                if material.field[-1] == "certificate":
                    yield entity.key, material.sha256

    def _read(self, digest: str) -> datetime | None:
        from reconciler.materials import pem  # noqa: PLC0415  # 50 ms, and most have no certificates

        try:
            content = read_regular(self._store.materials.directory / digest)
            return pem.not_after(pem.read_chain(content))
        except (OSError, ValueError):
            return None


def _staple_until(certificate: Entity) -> datetime | None:
    staple = certificate.typed(Certificate).ocsp
    until = staple.until if staple is not None else None
    return datetime.fromtimestamp(until, UTC) if until else None


def _issuer(entity: Entity) -> str:
    """Say whose set of keys an entity names, and where it is."""
    is_policy = entity.key.kind == "policy"
    jwt = (entity.typed(Policy) if is_policy else entity.typed(Frontend)).jwt
    return f"the set of {jwt.issuer} ({jwt.keys.url or jwt.keys.path})" if jwt is not None else ""
