"""Who a client is by the word of whoever is asked or of a token, where that is not known yet.

What a client says in these headers is left out before anything looks at them but the match itself,
and who is asked has a word behind the limits, and for the backend alone. So whatever goes by one
of them goes by nothing, or by what anybody says of himself: warnings. Called by the catalog; of a
listener's policies it is looked at when the frontend changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from reconciler.catalog.policies import (
    Edit,
    Leaf,
    Word,
    asked_first,
    levels_of,
    merged,
)
from reconciler.catalog.relations import View, users
from reconciler.language.findings import Finding, place
from schemas.entities.entity import Entity, EntityKey
from schemas.kinds.frontend import Frontend
from schemas.policies.concurrency import Concurrency
from schemas.policies.jwt import Jwt
from schemas.policies.rate import RateLimit
from schemas.routes.places import QueryChange, Redirect, Rewrite
from schemas.routes.split import SplitBy
from schemas.values.templates import named

_BY_ASKING = ("whoever is asked by forward_auth", "copy_headers")
_BY_TOKEN = ("the token that is asked for by jwt", "jwt.headers")

Use = tuple[str, tuple[str, ...], str, str]
"""The header, in lower case; the path to it in the frontend; what comes of it; and a way out."""


def untimely(changed: Iterable[EntityKey], view: View) -> Iterator[Finding]:
    """Yield warnings about frontends that go by headers which somebody else is to say."""
    suspects: set[EntityKey] = set()
    for key in changed:
        suspects |= users(view, key) if key.kind == "policy" else {key}
    for key in sorted(key for key in suspects if key.kind == "frontend" and key in view):
        found: dict[str, Finding] = {}
        for listener in view[key].typed(Frontend).listeners:
            words = merged(levels_of(view[key], listener, view))
            copied = {name.lower(): (name, by, how) for name, by, how in _told(words)}
            for header, path, comes_of_it, way_out in _uses(view[key], words) if copied else ():
                if header in copied:
                    name, by, (who, where) = copied[header]
                    said = f"{who} of {by.key} ({place(by)}) says it"
                    hint = way_out.replace("copy_headers", where)
                    message = f"{key}: {comes_of_it.format(name=name, said=said)}"
                    finding = Finding("warning", key, path, message, hint.format(name=name))
                    found.setdefault(message, finding)
        yield from found.values()


def _told(words: Mapping[Leaf, Word]) -> Iterator[tuple[str, Entity, tuple[str, str]]]:
    """Yield the headers that somebody else than the client says, by whom, and how that is said."""
    for asked, by in asked_first(words):
        yield from ((name, by, _BY_ASKING) for name in asked.copy_headers)
    for said, by, _ in words.values():
        if isinstance(said, Jwt):
            yield from ((name, by, _BY_TOKEN) for name in said.headers)


def _uses(entity: Entity, words: Mapping[Leaf, Word]) -> Iterator[Use]:
    frontend = entity.typed(Frontend)
    for name in frontend.headers:
        told = "it is matched by {name} as the client says it, before {said}"
        hint = 'match by something else, or leave {name} out of "copy_headers"'
        yield name.lower(), ("headers", name), told, hint
    if isinstance(frontend.split_by, SplitBy) and frontend.split_by.header is not None:
        told = "split_by goes by {name}, which it has from nobody, since {said} to the backend "
        told += "alone: each request is drawn by itself"
        hint = "split by client_address, or by the cookie of a session"
        yield frontend.split_by.header.lower(), ("split_by",), told, hint
    yield from _counted(entity, words)
    for key, texts in _templates(frontend, words):
        values = {each.lower() for text in texts for each in named(text)}
        for value in sorted(each for each in values if each.startswith("header:")):
            told = f"{{{{header:{{name}}}}}} in {key} comes to nothing, since {{said}} to the "
            hint = "leave it out: the backend gets {name} as it is said"
            yield value.removeprefix("header:"), (), f"{told}backend alone", hint


def _counted(entity: Entity, words: Mapping[Leaf, Word]) -> Iterator[Use]:
    for leaf, word in words.items():
        limit = word.said
        if not isinstance(limit, (Concurrency, RateLimit)) or not isinstance(limit.by, SplitBy):
            continue
        if limit.by.header is not None:
            whose = "" if word.by is entity else f" of {word.by.key} ({place(word.by)})"
            told = f"{leaf.key}{whose} counts by {{name}}, before {{said}}: all clients are "
            hint = "count by client_address, or by the cookie of a session"
            path = (leaf.key,) if word.by is entity else ()
            yield limit.by.header.lower(), path, f"{told}counted as one", hint


def _templates(
    frontend: Frontend, words: Mapping[Leaf, Word]
) -> Iterator[tuple[str, Iterable[str]]]:
    for key in ("request_headers", "response_headers"):
        edits = (word.said for leaf, word in words.items() if leaf.key == key)
        yield key, [text for edit in edits if isinstance(edit, Edit) for text in edit.texts]
    for key, to in (("redirect", frontend.redirect), ("rewrite", frontend.rewrite)):
        if isinstance(to, (Redirect, Rewrite)):
            texts = [to.path.given()[1]] if to.path is not None else []
            texts += [to.query.full] if isinstance(to.query, QueryChange) else []
            yield key, texts
