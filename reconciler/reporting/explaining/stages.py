"""What a frontend has done with a request and with its answer, in words and in the engine's order.

The order is that of `proxy/engine/src/policy`. What depends on the client (its certificate, early
data) is told as a condition. Pure; called by `reconciler.reporting.explaining.explain`.
"""

from __future__ import annotations

from collections.abc import Iterator

from schemas.kinds.edits import HeaderEdits
from schemas.kinds.frontend import Frontend
from schemas.kinds.places import Redirect, Rewrite
from schemas.kinds.respond import Respond
from schemas.kinds.split import goes_by, shares_of
from schemas.values.units import format_share

Stages = list[dict[str, str]]
"""Each with `key`, as in the configuration, and `words`."""
Ending = tuple[int, str]
"""The status that a request is answered with (0: none), and how to say it."""


def stages_of(frontend: Frontend, *, secure: bool) -> tuple[Stages, Ending | None]:
    """Return the stages that a request comes to, and its end if it gets to no cluster."""
    stages: Stages = []
    ending: Ending | None = None
    for key, words, end in _before(frontend, secure=secure):
        stages.append({"key": key, "words": words})
        ending = end
        if end is not None:
            break
    else:
        stages += [{"key": key, "words": words} for key, words in _on_the_way(frontend)]
    stages += [{"key": key, "words": words} for key, words in _of_answers(frontend, secure=secure)]
    return stages, ending


def _before(frontend: Frontend, *, secure: bool) -> Iterator[tuple[str, str, Ending | None]]:
    to = frontend.redirect
    if to == "https" and not secure:
        words = "it is sent to the same place over TLS: 308"
        yield "redirect", words, (308, words)
    if frontend.client_certificate is not None:
        yield "client_certificate", "a client that has shown none gets 403", None
    if isinstance(to, Redirect):
        words = f"it is sent to {_place(to)}: {to.status}"
        yield "redirect", words, (to.status, words)
    if frontend.respond is not None:
        words = _answer(frontend.respond)
        yield "respond", words, (0 if frontend.respond.close else frontend.respond.status, words)


def _on_the_way(frontend: Frontend) -> Iterator[tuple[str, str]]:
    if frontend.split:
        shares = shares_of(frontend.split)
        to = ", ".join(f"{share} to {name}" for name, share in shares.items())
        yield "split", f"{to}; {goes_by(frontend.split_by)}"
    if frontend.rewrite is not None:
        yield "rewrite", f"the backend gets it {_rewritten(frontend.rewrite)}"
    if frontend.request_headers != HeaderEdits():
        yield "request_headers", _edits(frontend.request_headers)
    if frontend.mirror is not None:
        mirror = frontend.mirror
        what = "it goes" if mirror.share == 100 else f"{format_share(mirror.share)} of them go"
        yield "mirror", f"{what} to cluster {mirror.cluster} as well, whose answer is thrown away"


def _of_answers(frontend: Frontend, *, secure: bool) -> Iterator[tuple[str, str]]:
    if frontend.response_headers != HeaderEdits():
        yield "response_headers", _edits(frontend.response_headers)
    if frontend.hsts is not None and secure:
        yield "hsts", f"browsers stay at TLS for {frontend.hsts.max_age_days} days"


def _place(to: Redirect) -> str:
    parts = [
        f"scheme {to.scheme}" if to.scheme else "",
        f"host {to.hostname}" if to.hostname else "",
        f"port {to.port}" if to.port else "",
        _path(to.path.given()) if to.path else "",
        "no query" if to.query == "drop" else "",
    ]
    return ", ".join(filter(None, parts))


def _rewritten(rewrite: Rewrite) -> str:
    parts = [
        f"for host {rewrite.hostname}" if rewrite.hostname else "",
        f"at {_path(rewrite.path.given())}" if rewrite.path else "",
    ]
    return " ".join(filter(None, parts))


def _path(given: tuple[str, str]) -> str:
    kind, text = given
    return f"path {text}" if kind == "full" else f"prefix {text}"


def _answer(respond: Respond) -> str:
    if respond.close:
        return "the connection is closed without an answer"
    what = f" with {len(respond.body.encode())} bytes" if respond.body else ""
    what = f" with {respond.file.path}" if respond.file is not None else what
    return f"it is answered here{what}: {respond.status}"


def _edits(edits: HeaderEdits) -> str:
    parts = [
        f"{verb} {', '.join(sorted(names))}"
        for verb, names in (("set", edits.set), ("add", edits.add), ("remove", edits.remove))
        if names
    ]
    return "; ".join(parts)
