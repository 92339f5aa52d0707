"""What a frontend has done with a request and with its answer, in words and in the engine's order.

The order is that of `proxy/engine/src/policy`, and what is made of the request the engine's own
(`making`). Who may ask is told by `admission`; what depends on more than the request is a
condition. Pure; called by `reconciler.reporting.explaining.explain`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from reconciler.catalog.policies import Edit, Leaf, Pause, Statuses, Word
from reconciler.reporting.explaining.admission import (
    Ending,
    Seen,
    Stages,
    Step,
    asked_for,
    listed,
    sizes,
    stage,
)
from reconciler.reporting.explaining.making import Made, short
from schemas.clusters.retry import Retry
from schemas.entities.entity import Entity
from schemas.entities.secrecy import HIDDEN, names_credential
from schemas.kinds.frontend import Frontend
from schemas.policies.bandwidth import Bandwidth
from schemas.policies.compression import Compression
from schemas.policies.error_page import ErrorPage
from schemas.policies.hsts import Hsts
from schemas.policies.set_cookie import ANY, DROP, CookieChange
from schemas.record import record
from schemas.routes.mirror import Mirror, mirrors_of
from schemas.routes.places import QueryChange, Redirect, Rewrite
from schemas.routes.respond import Respond
from schemas.routes.split import goes_by, shares_of
from schemas.values.units import format_duration, format_share, format_size

Words = Mapping[Leaf, Word]


@record
class Course:
    """What a request comes to."""

    stages: Stages
    ending: Ending | None
    """Where it gets to no cluster."""
    conditions: list[str]
    """What else has to be so that it gets so far."""


def stages_of(won: Entity, words: Words, seen: Seen) -> Course:
    """Return the stages that a request comes to at a frontend, and its end if that is no cluster.

    `words` are those that count for the frontend, its policies' included.
    """
    stages: Stages = []
    ending: Ending | None = None
    conditions: list[str] = []
    for told, end, condition in _before(won, words, seen):
        stages.append(told)
        ending = end
        if end is not None:
            break
        if condition and condition not in conditions:
            conditions.append(condition)
    else:
        stages += _onward(won, words, seen)
    theirs = ending is None
    stages += _of_responses(words, seen.made, secure=seen.secure, theirs=theirs)
    if theirs:
        stages += [
            stage("bandwidth", _bandwidth(word.said), word.by)
            for word in words.values()
            if isinstance(word.said, Bandwidth)
        ]
    return Course(stages, ending, conditions)


def _onward(won: Entity, words: Words, seen: Seen) -> Stages:
    """Return what is done with a request that goes to a cluster."""
    frontend = won.typed(Frontend)
    stages = []
    if frontend.split:
        stages.append(stage("split", _split(frontend), won))
    if frontend.rewrite is not None:
        told = f"the backend gets it {_rewritten(frontend.rewrite, seen.made)}"
        stages.append(stage("rewrite", told, won))
    stages += _edits(words, "request_headers", seen.made)
    stages += [
        stage("mirror", _mirrored(mirror, seen), won) for mirror in mirrors_of(frontend.mirror)
    ]
    stages += _timeouts(words)
    stages += [
        stage("intercept", _intercepted(word.said), word.by)
        for word in words.values()
        if isinstance(word.said, Statuses)
    ]
    return stages


def stages_of_nobody(words: Words, *, secure: bool, status: int) -> Stages:
    """Return what holds for a request that no frontend takes: what is done with the answer.

    `words` are those of the listener and its policies.
    """
    mine = {
        leaf: word
        for leaf, word in words.items()
        if leaf.key != "error_pages" or leaf.name == str(status)
    }
    # Templates stay as they are written: they are expanded where a frontend is.
    return _of_responses(mine, Made(), secure=secure, theirs=False)


def _of_responses(words: Words, made: Made, *, secure: bool, theirs: bool) -> Stages:
    """Tell what is done with an answer, of a backend's or our own."""
    stages = _edits(words, "response_headers", made)
    for leaf, word in words.items():
        if isinstance(word.said, Compression):
            stages.append(stage("compression", _compressed(word.said), word.by))
        elif isinstance(word.said, CookieChange) and theirs:
            stages.append(stage("set_cookie", _cookie(leaf.name, word.said), word.by))
        elif isinstance(word.said, Hsts) and secure:
            told = f"browsers stay at TLS for {word.said.max_age_days} days"
            stages.append(stage("hsts", told, word.by))
        elif isinstance(word.said, ErrorPage) and word.by.key.kind != "listener":
            told = f"the page of {leaf.name}, where the proxy answers by itself"
            stages.append(stage("error_pages", told, word.by))
    return stages


def _edits(words: Words, key: str, made: Made) -> Stages:
    """Tell what is done with header fields, for each of those who say so."""
    found: dict[str, tuple[Entity, dict[str, list[str]]]] = {}
    for leaf, word in words.items():
        if leaf.key == key and isinstance(word.said, Edit):
            _, verbs = found.setdefault(str(word.by.key), (word.by, {}))
            lines = verbs.setdefault(word.said.verb, [])
            lines.extend(_lines(word.written, word.said, made))
    return [
        stage(
            key,
            "; ".join(
                f"{verb} {', '.join(sorted(verbs[verb]))}"
                for verb in ("set", "add", "remove")
                if verb in verbs
            ),
            by,
        )
        for by, verbs in found.values()
    ]


def _lines(name: str, edit: Edit, made: Made) -> Iterator[str]:
    """Yield a field with each value that it gets, unless that is a secret."""
    if edit.verb == "remove":
        yield name
    for text in edit.texts:
        value = HIDDEN if names_credential(name) else made.value(text)
        line = f"{name}: {value}" if value else f"{name} (left out, since it comes to nothing)"
        yield f"{line} (answers: {edit.answers})" if edit.answers else line


def _before(won: Entity, words: Words, seen: Seen) -> Iterator[Step]:
    """Yield the stages that may answer, each with the end that a request has there."""
    frontend = won.typed(Frontend)
    if seen.method == "TRACE" and not frontend.methods and seen.listener is not None:
        told = "TRACE is answered here, since the frontend does not name it: 405"
        yield Step(stage("methods", told, won), (405, told))
    yield from sizes(words, seen)
    to = frontend.redirect
    if to == "https" and seen.made.to_tls is not None:
        yield _sent(won, *seen.made.to_tls)
    yield from asked_for(words, seen, unread=seen.listener is None)
    if isinstance(to, Redirect):
        status, place = seen.made.end or (to.status, None)
        place = place if seen.made.knows(to) else _place(to)
        yield _sent(won, status, place)
    if frontend.respond is not None:
        told = answered(frontend.respond)
        status = 0 if frontend.respond.close else frontend.respond.status
        yield Step(stage("respond", told, won), (status, told))
    if frontend.rewrite is not None and seen.made.end is not None:
        told = f"what it would be rewritten to is no normal path: {seen.made.end[0]}"
        yield Step(stage("rewrite", told, won), (seen.made.end[0], told))


def _sent(won: Entity, status: int, place: str | None) -> Step:
    told = f"where it would be sent is no normal path: {status}"
    if place is not None:
        told = f"it is sent to {short(place)}: {status}"
    return Step(stage("redirect", told, won), (status, told))


def _timeouts(words: Words) -> Stages:
    """Tell how long each step may take, where that is not left to listener and cluster."""
    return [
        stage("timeouts", f"{leaf.name} within {format_duration(word.said.longest_ms)}", word.by)
        for leaf, word in words.items()
        if isinstance(word.said, Pause)
    ]


def _bandwidth(said: Bandwidth) -> str:
    each, total = said.per_connection, said.total
    told = [
        f"{format_size(each)} a second for each connection" if each is not None else "",
        f"{format_size(total)} a second for all together, in each worker" if total else "",
    ]
    return f"the answer leaves by at most {' and '.join(filter(None, told))}"


def _intercepted(said: Statuses) -> str:
    statuses = listed([str(each) for each in said.statuses])
    return f"a page of ours stands in place of the backend's {statuses}"


def _compressed(said: Compression) -> str:
    what = f"answers of {listed(said.types)} from {format_size(said.min_bytes)} on"
    private = "" if said.private else ", none with cookies or private ones"
    levels = said.levels.value()
    by = [f"{name} at level {levels[name]}" if name in levels else name for name in said.encodings]
    return f"{what} are compressed by {' or '.join(by)}{private}"


def _cookie(name: str, said: CookieChange) -> str:
    which = "other cookies" if name == ANY else f"cookie {name}"
    moved = ", ".join(f"{begin} to {to}" for begin, to in said.path.items())
    parts = [
        "Secure" if said.secure else "",
        "HttpOnly" if said.http_only else "",
        f"SameSite={said.same_site.capitalize()}" if said.same_site else "",
        "no Domain" if said.domain == DROP else f"Domain={said.domain}" if said.domain else "",
        f"Path from {moved}" if moved else "",
    ]
    return f"{which} of backends: {', '.join(filter(None, parts))}"


def _split(frontend: Frontend) -> str:
    shares = shares_of(frontend.split)
    to = ", ".join(f"{share} to {name}" for name, share in shares.items())
    return f"{to}; {goes_by(frontend.split_by)}"


def _mirrored(mirror: Mirror, seen: Seen) -> str:
    if not seen.takes(mirror.cluster):
        return f"cluster {mirror.cluster} gets none: it has no backend that takes requests"
    what = "it goes" if mirror.share == 100 else f"{format_share(mirror.share)} of them go"
    return f"{what} to cluster {mirror.cluster} as well, whose answer is thrown away"


def _place(to: Redirect) -> str:
    parts = [
        f"scheme {to.scheme}" if to.scheme else "",
        f"host {to.hostname}" if to.hostname else "",
        f"port {to.port}" if to.port else "",
        _path(to.path.given()) if to.path else "",
        _query(to.query),
    ]
    return ", ".join(filter(None, parts))


def _rewritten(rewrite: Rewrite, made: Made) -> str:
    if made.knows(rewrite):
        host = f"for host {short(made.host)}" if made.host is not None else ""
        target = f"at {short(made.target)}" if made.target is not None else ""
        return " ".join(filter(None, (host, target))) or "as it is"
    parts = [
        f"for host {rewrite.hostname}" if rewrite.hostname else "",
        f"at {_path(rewrite.path.given())}" if rewrite.path else "",
        f"with {query}" if (query := _query(rewrite.query)) else "",
    ]
    return " ".join(filter(None, parts))


def _query(use: QueryChange | str) -> str:
    if isinstance(use, QueryChange):
        return f"query {use.full}"
    return "no query" if use == "drop" else ""


def _path(given: tuple[str, str]) -> str:
    kind, text = given
    return f"path {text}" if kind == "full" else f"prefix {text}"


def further(retry: Retry) -> str:
    """Return when a request is sent again."""
    after = [each.replace("_", " ") for each in retry.when.errors]
    after += [str(each) for each in retry.when.statuses]
    after += [f"gRPC {each.replace('_', ' ')}" for each in retry.when.grpc]
    if not retry.attempts or not after:
        return "it is not sent again"
    times = "one further attempt" if retry.attempts == 1 else f"{retry.attempts} further attempts"
    told = f"up to {times}, after {listed(after)}"
    if retry.per_try is not None:
        told += f"; each within {format_duration(retry.per_try)}"
    if retry.budget is not None:
        told += f"; not over {format_share(retry.budget)} of the requests"
    return told


def answered(respond: Respond) -> str:
    """Return how a request is answered here."""
    if respond.close:
        return "the connection is closed without an answer"
    what = f" with {len(respond.body.encode())} bytes" if respond.body else ""
    what = f" with {respond.file.path}" if respond.file is not None else what
    return f"it is answered here{what}: {respond.status}"
