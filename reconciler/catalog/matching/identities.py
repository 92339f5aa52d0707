"""Who a client is by the word of whoever is asked, of a token or of a password.

What a client says in these headers is left out before anything looks at them but the match itself,
which is made before anybody is asked; and a claim is nobody's where no token is asked for. So
whatever goes by one of these there goes by nothing, or by what anybody says of himself: warnings.
Called by the catalog; of a listener's policies it is looked at when the frontend changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from reconciler.catalog.policies import Leaf, Word, identified, levels_of, merged
from reconciler.catalog.relations import View, users
from reconciler.language.findings import Finding, place
from schemas.entities.entity import Entity, EntityKey
from schemas.kinds.frontend import Frontend
from schemas.kinds.listener import Listener
from schemas.policies.concurrency import Concurrency
from schemas.policies.jwt import Jwt
from schemas.policies.rate import RateLimit, each_by

_WHO = {
    "forward_auth.copy_headers": "whoever is asked by forward_auth",
    "jwt.headers": "the token that is asked for by jwt",
    "basic_auth.header": "the password that is asked for by basic_auth",
}

Words = Mapping[Leaf, Word]


def untimely(changed: Iterable[EntityKey], view: View) -> Iterator[Finding]:
    """Yield warnings about frontends that go by what nobody has said there."""
    suspects: set[EntityKey] = set()
    for key in changed:
        suspects |= users(view, key) if key.kind == "policy" else {key}
    for key in sorted(key for key in suspects if key.kind == "frontend" and key in view):
        found: dict[str, Finding] = {}
        for listener in view[key].typed(Frontend).listeners:
            if not _is_whole(view[key], listener, view):
                continue
            words = merged(levels_of(view[key], listener, view))
            for finding in (*_matched(view[key], words), *_counted(view[key], words)):
                found.setdefault(finding.message, finding)
        yield from found.values()


def _is_whole(frontend: Entity, listener: str, view: View) -> bool:
    """Tell whether all are there who have a word; one with an error may be who asks for it."""
    names = list(frontend.typed(Frontend).policies)
    there = view.get(EntityKey("listener", listener))
    names += there.typed(Listener).policies if there is not None else []
    return there is not None and all(EntityKey("policy", name) in view for name in names)


def _matched(entity: Entity, words: Words) -> Iterator[Finding]:
    conditions = {name.lower(): name for name in entity.typed(Frontend).headers}
    for name, by, key in identified(words) if conditions else ():
        if name.lower() in conditions:
            message = (
                f"{entity.key}: it is matched by {name} as the client says it, before "
                f"{_WHO[key]} of {by.key} ({place(by)}) says it"
            )
            hint = f'match by something else, or leave {name} out of "{key}"'
            path = ("headers", conditions[name.lower()])
            yield Finding("warning", entity.key, path, message, hint)


def _counted(entity: Entity, words: Words) -> Iterator[Finding]:
    if any(isinstance(word.said, Jwt) for word in words.values()):
        return
    for leaf, word in words.items():
        limit = word.said
        if not isinstance(limit, (Concurrency, RateLimit)):
            continue
        claims = [by.claim for by in each_by(limit.by) if not isinstance(by, str) and by.claim]
        if claims:
            whose = "" if word.by is entity else f" of {word.by.key} ({place(word.by)})"
            message = (
                f"{entity.key}: {leaf.key}{whose} counts by the claim {claims[0]}, and no "
                "token is asked for here: all clients are counted as one"
            )
            hint = "ask for a token by jwt, or count by client_address"
            path = (leaf.key,) if word.by is entity else ()
            yield Finding("warning", entity.key, path, message, hint)
