"""What each message has the engine do, and the reply to it.

Knows no connection and no order: one message after another is up to `proxy.shell`, which calls this
on its loop or, for what takes its time, in a thread.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from pydantic import ValidationError

from proxy.drained import Drained
from proxy.engine_api import EngineApi, PrepareRefusedError
from schemas.messages import wire
from schemas.messages.challenges import ChallengeAnswers
from schemas.messages.files import identity, read_regular


class Replies:
    """Has one engine do what messages ask for."""

    def __init__(self, engine: EngineApi) -> None:
        self._engine = engine
        self.drained = Drained(engine)
        """Which backends get no new requests."""
        # What the reconciler keeps of the overlay, for the next one if that has lost it.
        self._kept = ""
        self.serving = False
        """Whether it takes connections."""
        self.rate_table: str | None = None
        """The `identity` of the file in which it counts rates, if others do too."""
        self.health_table: str | None = None
        """The same of the file in which it reads who is healthy."""
        self.without: set[str] = set()
        """Contents that were lost when what names them came."""

    def stage(self, message: wire.Stage) -> wire.FromWorker:
        """Take in a chunk of a change."""
        materials = _read_materials(message)
        self.without.update(digest for digest, content in materials.items() if content is None)
        try:
            self._engine.stage(message.generation, message.number, message.ops, materials)
        except PrepareRefusedError as refusal:
            return _refused(message, refusal)
        return wire.Staged(
            transaction=message.transaction, generation=message.generation, number=message.number
        )

    def prepare(self, message: wire.Prepare, descriptors: list[int]) -> wire.FromWorker:
        """Check the change whose chunks have come, and open its sockets."""
        try:
            digest = self._engine.prepare(
                message.generation,
                (message.base_generation, message.base_digest),
                message.commit,
                message.chunks,
                dict(zip(message.sockets, descriptors, strict=True)),
            )
        except PrepareRefusedError as refusal:
            return _refused(message, refusal)
        return wire.Prepared(
            transaction=message.transaction, generation=message.generation, digest=digest
        )

    def take(
        self, message: wire.Serve | wire.RateTable | wire.HealthTable, descriptors: list[int]
    ) -> wire.FromWorker:
        """Use the files that come with a message."""
        if isinstance(message, wire.Serve):
            return self._serve(message, descriptors)
        if isinstance(message, wire.HealthTable):
            return self._share_health(*descriptors)
        return self._share_rates(*descriptors)

    def _share_rates(self, descriptor: int) -> wire.RateTableTaken:
        """Count rates where all workers do."""
        try:
            self._engine.share_rates(descriptor)
            self.rate_table = identity(descriptor)
        except (OSError, ValueError) as error:
            return wire.RateTableTaken(problem=str(error))
        return wire.RateTableTaken()

    def _share_health(self, descriptor: int) -> wire.HealthTableTaken:
        """Read there who is healthy."""
        try:
            self._engine.share_health(descriptor)
            self.health_table = identity(descriptor)
        except (OSError, ValueError) as error:
            return wire.HealthTableTaken(problem=str(error))
        return wire.HealthTableTaken()

    def _serve(self, message: wire.Serve, descriptors: list[int]) -> wire.FromWorker:
        """Take connections from now on."""
        try:
            self._engine.serve(dict(zip(message.sockets, descriptors, strict=True)))
        except PrepareRefusedError as refusal:
            return _refused(None, refusal)
        self.serving = True
        return wire.Served()

    def quick(self, message: wire.ToWorker) -> wire.FromWorker:
        """Do what takes no time: a swap, or a word about one."""
        match message:
            case wire.Commit(transaction=transaction, generation=generation):
                digest = self._engine.commit(generation)
                return wire.Committed(transaction=transaction, generation=generation, digest=digest)
            case wire.Abort(transaction=transaction, generation=generation):
                self._engine.abort(generation)
                return wire.Aborted(transaction=transaction, generation=generation)
            case wire.Release(transaction=transaction, generation=generation):
                self._engine.release(generation)
                return wire.Released(transaction=transaction, generation=generation)
            case wire.Overlay(drained=drained, kept=kept):
                self.drained.take(message)
                if kept is not None:
                    self._kept = kept
                return wire.Overlaid(drained=drained)
            case wire.Recall():
                return wire.Recalled(kept=self._kept)
            case wire.Limits(limit=limit, who=who, forgive=forgive):
                refused, in_flight = self._engine.limits(limit, who, forgive=forgive)
                return wire.Limited(
                    limited=[wire.LimitedRow(**each._asdict()) for each in refused],
                    in_flight=[wire.InFlightRow(**each._asdict()) for each in in_flight],
                )
            case wire.TicketKeys(path=path):
                return wire.TicketKeysTaken(problem=self._take_ticket_keys(Path(path)))
            case wire.Challenges(path=path):
                return wire.ChallengesTaken(problem=self._take_challenges(Path(path)))
        raise AssertionError(f"unhandled message {message.type}")

    def _take_challenges(self, path: Path) -> str | None:
        try:
            answers = ChallengeAnswers.model_validate_json(read_regular(path))
            self._engine.take_challenges(answers)
        except ValidationError:
            return f"{path} is damaged"
        except (OSError, ValueError) as error:
            return str(error)
        return None

    def _take_ticket_keys(self, path: Path) -> str | None:
        try:
            self._engine.take_ticket_keys(read_regular(path))
        except (OSError, ValueError) as error:
            return str(error)
        return None

    def recite(self, message: wire.Recite) -> wire.Recited:
        """Read a part of what is held, for a daemon that has lost it."""
        part = self._engine.read(message.position)
        return wire.Recited(
            generation=part.generation,
            digest=part.digest,
            entities=part.entities,
            next=part.next or 0,
            last=part.next is None,
        )


def _refused(
    message: wire.Stage | wire.Prepare | None, refusal: PrepareRefusedError
) -> wire.Refused:
    return wire.Refused(
        transaction=message.transaction if message else 0,
        generation=message.generation if message else 0,
        kind=refusal.kind,
        name=refusal.name,
        reason=refusal.reason,
    )


def _read_materials(message: wire.Stage) -> dict[str, bytes | None]:
    """What is missing or altered is left out; the engine names the entity that misses it.

    None of what is known to be lost.
    """
    found: dict[str, bytes | None] = dict.fromkeys(message.lost)
    for digest in message.materials:
        try:
            content = read_regular(Path(message.material_dir, digest))
        except OSError:
            continue
        if hashlib.sha256(content).hexdigest() == digest:
            found[digest] = content
    return found
