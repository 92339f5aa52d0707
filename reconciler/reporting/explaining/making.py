"""What the engine makes of the request: where it is sent, what templates come to, who is named.

Nothing is expanded here: the engine's own stages are asked (`routing`), once for a frontend. What
only a connection knows stays in its braces. Called by `reconciler.reporting.explaining.explain`;
the words are those of `stages` and `admission` beside.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import field

from reconciler.catalog.policies import Edit, Leaf, Word, identified
from reconciler.catalog.relations import View, listeners_of
from reconciler.reporting.explaining.question import Asked, UnexplainableError
from schemas.entities.entity import Entity, EntityKey
from schemas.policies.cors import Cors
from schemas.record import record
from schemas.routes.places import QueryChange, Redirect, Rewrite
from schemas.values.templates import keeping, named
from schemas.values.text import visible

_SHOWN_CHARS_MAX = 200

Sent = tuple[int, str | None]
"""A status, and the location that is said with it."""


@record
class Made:
    """What becomes of one request at one frontend."""

    to_tls: Sent | None = None
    end: Sent | None = None
    """What a redirect or a rewrite of the frontend answers."""
    target: str | None = None
    host: str | None = None
    origin: str | None = None
    """Pages of which origin may read the answer; "*": all may."""
    user: str | None = None
    """Who is named in the request, with a password."""
    values: Mapping[str, str] = field(default_factory=dict)
    """By the text in which templates stand."""
    unknown: frozenset[str] = frozenset()
    """What may stand in braces and is not known here."""

    def value(self, text: str) -> str:
        """Return what a text comes to."""
        return short(self.values.get(text, text))

    def knows(self, place: Redirect | Rewrite) -> bool:
        """Whether all is known of which a place is made."""
        texts = [place.hostname or ""]
        texts += [place.path.given()[1]] if place.path else []
        texts += [place.query.full] if isinstance(place.query, QueryChange) else []
        return not any(name.lower() in self.unknown for text in texts for name in named(text))


def short(text: str) -> str:
    """Return a text as a line of words has room for it."""
    text = visible(text)
    return text if len(text) <= _SHOWN_CHARS_MAX else f"{text[:_SHOWN_CHARS_MAX]}…"


def arriving(won: Entity, names: Collection[str], state: View) -> list[Entity]:
    """Return a frontend's listeners, that which the request comes to (one of `names`) first."""
    on = listeners_of(won)
    came_to = min(set(names) & set(on))
    order = [came_to, *(name for name in on if name != came_to)]
    found = (state.get(EntityKey("listener", name)) for name in order)
    return [each for each in found if each is not None]


def made_of(
    won: Entity,
    words: Mapping[Leaf, Word],
    listeners: Sequence[Entity],
    asked: Asked,
    *,
    secure: bool,
) -> Made:
    """Return what becomes of a request that comes to the first of a frontend's listeners.

    `asked` is the request as it is written. Raises `UnexplainableError` when it would be refused.
    """
    from routing import preview_request  # noqa: PLC0415  # loads the engine, only for who asks

    told = {f"header:{name.lower()}" for name, _, _ in identified(words)}
    unknown = frozenset([*_unknown(asked, secure=secure), *told])
    edits = [word.said for word in words.values() if isinstance(word.said, Edit)]
    texts = sorted({text for edit in edits for text in edit.texts})
    cors = words.get(Leaf("cors"))
    said = cors.said if cors is not None else None
    try:
        found = preview_request(
            won,
            listeners,
            _head(asked, words),
            asked.client,
            texts=[keeping(text, unknown) for text in texts],
            cors=said.value() if isinstance(said, Cors) else None,
        )
    except ValueError as error:
        reason, status = error.args
        answered = f"the proxy answers {status} to that: {reason}" if status else str(reason)
        raise UnexplainableError(answered) from None
    return Made(
        to_tls=found.to_tls,
        end=found.end,
        target=found.target,
        host=found.host,
        origin=found.origin,
        user=found.user,
        values=dict(zip(texts, found.values, strict=True)),
        unknown=unknown,
    )


def _unknown(asked: Asked, *, secure: bool) -> list[str]:
    """Return what may stand in braces that nobody knows before the request is there."""
    found = ["request_id"]
    found += ["client_address"] if asked.client is None else []
    return found + (["tls_version", "client_certificate_subject"] if secure else [])


def _head(asked: Asked, words: Mapping[Leaf, Word]) -> str:
    target = f"{asked.path}?{asked.query}" if asked.query else asked.path
    # What others are asked for is left out, however it is spelled.
    dropped = {name.lower().replace("_", "-") for name, _, _ in identified(words)}
    fields = [
        (name, value)
        for name, value in asked.headers
        if name != "host" and name.replace("_", "-") not in dropped
    ]
    lines = [f"{asked.method} {target} HTTP/1.1", f"host: {asked.hostname}"]
    lines += [f"{name}: {value}" for name, value in fields]
    return "\r\n".join([*lines, "", ""])
