"""The way out of a value in another form than ours: what to write, by the key that it is for.

One table, which the validator asks wherever a sentence brings no hint of its own; behind it stand
the example of the key, or that of the map that it is in, so that no error is without one. Pure.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable
from typing import Any

from pydantic_core import ErrorDetails

from schemas.base import FAULT, KEY, shown, usual_of
from schemas.kinds.registry import field_at, inner_model, measure

Loc = tuple[int | str, ...]
Says = str | Callable[[str], str | None]
"""What to write, or what makes it out of what was written."""

_NETWORKS = "allow|deny|client_addresses"
_ALL_NETWORKS = 'write ["0.0.0.0/0", "::/0"] for all of both versions'
_MERGED = "(frontend|policy)"
_ONE_BY_ONE = (
    "what is merged piece by piece is switched off piece by piece: write null at each that is "
    "meant, as in "
)
_UNITS = {"s": "1s", "sec": "1s", "second": "1s", "m": "1m", "min": "1m", "minute": "1m", "h": "1h"}


def _rate(text: str) -> str | None:
    found = re.match(r"(\d+) ?(?:r|req|requests)? ?(?:/|per) ?([a-z]+?)s?\Z", text)
    per = _UNITS.get(found[2]) if found else None
    return f"write {{requests: {found[1]}, per: {per}}}" if found and per else None


def _span(text: str) -> str | None:
    first, _, last = (part.strip() for part in text.partition("-"))
    try:
        networks = ipaddress.summarize_address_range(
            ipaddress.ip_address(first), ipaddress.ip_address(last)
        )
        named = [str(each) for _, each in zip(range(5), networks, strict=False)]
    except (TypeError, ValueError):
        return None
    more = ", …" if len(named) > 4 else ""
    return f"networks stand in place of what lies between: {', '.join(named[:4])}{more}"


def _pairs(text: str) -> str | None:
    key, equals, value = text.partition("=")
    return f"write a map: {{{key}: {value or '…'}}}" if equals else None


_NULL, _LISTED, _MAPPED = "null", "a list", "a map"
_FORMS: tuple[tuple[str, str, Says], ...] = (
    (
        rf"{_MERGED} (request|response)_headers",
        _NULL,
        _ONE_BY_ONE + "{set: {X-Frame-Options: null}}",
    ),
    (
        rf"{_MERGED} (request|response)_headers\.(set|add|remove)",
        _NULL,
        _ONE_BY_ONE + "set: {X-Frame-Options: null}",
    ),
    (rf"{_MERGED} set_cookie", _NULL, _ONE_BY_ONE + "{session: null}"),
    (r"(frontend|listener|policy) error_pages", _NULL, _ONE_BY_ONE + "{503: null}"),
    (rf"{_MERGED} timeouts", _NULL, _ONE_BY_ONE + "{request: null}"),
    (rf"{_MERGED} limits", _NULL, "leave it out: limits add up, and the smallest counts"),
    (
        r"(frontend|policy) timeouts\.\w+",
        r"0\w*|off|none|never|infinite",
        "write null for none of its own",
    ),
    (
        r"(frontend|policy) timeouts",
        r"\d\w*",
        lambda text: f"write {{request: {text}}} for all of it, or one of its steps",
    ),
    (r"rate_limit", r".*", _rate),
    (r"rate_limit", r"\d+", lambda text: f"write {{requests: {text}, per: 1s}}"),
    (r"concurrency", r"\d+", lambda text: f"write {{requests: {text}}}"),
    (r"bandwidth", r"\d.*", lambda text: f"write {{per_connection: {_sized(text)}}}"),
    (
        r"(frontend|policy|listener) limits",
        r"\d.*",
        lambda text: f"write {{body_bytes: {_sized(text)}}}",
    ),
    (r"mirror", r"[\w.-]+", lambda text: f"write {{cluster: {text}, share: 100%}}"),
    (r"split", _LISTED, "write each with its share: {app: 95, app-next: 5}"),
    (r"rewrite", r"/.*", "write {path: {prefix: /}} in place of the prefix that is matched"),
    (r"respond", r"\d{3}", lambda text: f"write {{status: {text}}}"),
    (r"basic_auth", r".*", lambda text: f"write {{realm: admin, users: {text}}}"),
    (
        r"forward_auth",
        r".*",
        "write {cluster: NAME, path: /verify}: that cluster has the address of who is asked",
    ),
    (r"(query|cookies|headers)", r".*=.*", _pairs),
    (r"(query|cookies|headers)", _LISTED, "write a map: {NAME: VALUE}"),
    (rf"({_NETWORKS})", r"(?i)all|any|\*|world|everybody", _ALL_NETWORKS),
    (rf"({_NETWORKS})(\.\d+)?", r".+-.+", _span),
    (rf"({_NETWORKS})\.\d+", r"(?i)all|any|\*|world|everybody", _ALL_NETWORKS),
    (
        rf"({_NETWORKS})\.\d+",
        r"[a-z][\w-]*",
        lambda text: f"networks alone stand here; a policy is named by policies: [{text}]",
    ),
    (
        r"(allow|deny|client_addresses)",
        r"\[\]",
        'leave it out for everybody; nobody is deny: ["0.0.0.0/0", "::/0"]',
    ),
    (r"set_cookie\.[^.]+\.path", r".*", lambda text: f"write {{/: {text}}}: each in place of /"),
    (
        rf"set_cookie\..*\.{re.escape(KEY)}",
        r".*",
        'the name of a cookie has neither spaces nor one of ()<>@,;:\\"/[]?={}; "*" is for all',
    ),
    (
        r"response_headers\.(set|add)\.[^.]+",
        _MAPPED,
        "write {text: …, answers: success}, or a text",
    ),
    (
        r"request_headers\.(set|add)\.[^.]+",
        _MAPPED,
        'write the text alone, as in {X-Real-IP: "{client_address}"}: answers: is of answers',
    ),
    (
        rf"error_pages\.\d+\.{re.escape(KEY)}",
        r".*",
        "other answers are given by respond: and redirect: of a frontend",
    ),
    (r"path", _MAPPED, "leave all of them out but one: another path is another frontend"),
)
_KEYS: tuple[tuple[str, str], ...] = (
    (
        r"(rate_limit|concurrency)(\.\d+)?\.by\.(jwt|token|user|sub)",
        (
            "write {claim: sub} for a claim of the token that jwt asks for, or {header: X-User} "
            "for who authentication says that it is"
        ),
    ),
    (r"rate_limit(\.\d+)?\.(rate|limit|average)", "write requests: 5, per: 1s"),
    (
        r"jwt\.from\.(query|param|params|parameter)",
        (
            "a token in a URL is told in logs: it stands in a header or a cookie, as in from: "
            "{cookie: session}"
        ),
    ),
    (
        r"error_pages\.\d+\.(file|path|page|location|root)",
        (
            "the text of the page stands here, as in body: |; respond: {file: …} of a frontend "
            "answers by a committed file"
        ),
    ),
)
_OF_TWO = re.compile(r"\bare the same\b|\btwice\b|\btwo of\b|\bas well, and nobody says\b")
_BY_KEY = [(re.compile(path), says) for path, says in _KEYS]
_COMPILED = [
    (re.compile(path if " " in path else rf"\w+ (?:{path})"), value, says)
    for path, value, says in _FORMS
]


def key_way_out(loc: Loc) -> str | None:
    """Return what to write in place of a key that is known nowhere near, by where it stands."""
    path = ".".join(map(str, loc))
    return next((says for known, says in _BY_KEY if known.fullmatch(path)), None)


def instead(kind: str, loc: Loc, error: ErrorDetails) -> str | None:
    """Return what to write in place of a value, where that is known better than by its type."""
    is_better = error["type"] in ("list_type", "too_short") or loc[-1:] == ("by",)
    return _by_form(kind, loc, error["input"]) if is_better else None


def way_out(kind: str, loc: Loc, error: ErrorDetails) -> str | None:
    """Return what to write in place of a value that is wrong, for whose key nobody has a hint."""
    value = error["input"]
    if error["type"] == "missing":
        return _choices(kind, loc)
    if error["type"] == "literal_error":
        given = str(error.get("ctx", {}).get("expected", ""))
        if isinstance(value, str) and f"'{value.lower()}'" in given:
            return f"write it in small letters: {value.lower()}"
    if error["type"] == FAULT and _OF_TWO.search(error["ctx"]["message"]):
        return "leave one of the two out"
    return _by_form(kind, loc, value) or _left_out(kind, loc, value) or _by_example(kind, loc)


def _left_out(kind: str, loc: Loc, value: Any) -> str | None:
    """Return the way out of a null at a key that has a default, which could be taken for none."""
    field = field_at(kind, loc)
    if value is not None or field is None or field.is_required():
        return None
    usual, measured = usual_of(field), measure(field)
    if measured is not None and isinstance(usual, int):
        return f"leave it out for its default, {measured.format(usual)}"
    if isinstance(usual, (bool, int, str)) and usual != "":
        return f"leave it out for its default, {_flow(usual)}"
    return "leave it out"


def _by_form(kind: str, loc: Loc, value: Any) -> str | None:
    path = f"{kind} {'.'.join(map(str, loc))}"
    for known, form, says in _COMPILED:
        if not known.fullmatch(path) or not _has(form, value):
            continue
        hint = says if isinstance(says, str) else says(str(value))
        if hint is not None:
            return hint
    return None


def _has(form: str, value: Any) -> bool:
    match form:
        case "null":
            return value is None
        case "a list":
            return isinstance(value, list)
        case "a map":
            return isinstance(value, dict)
    if isinstance(value, (dict, type(None))) or (isinstance(value, list) and value):
        return False
    return re.fullmatch(form, str(value)) is not None


def _by_example(kind: str, loc: Loc) -> str | None:
    """Return how a key is written, or else the map that it is in."""
    for end in range(len(loc), 0, -1):
        field = field_at(kind, loc[:end])
        if field is not None and field.examples:
            return f"for example: {loc[end - 1]}: {_flow(field.examples[0])}"
    return None


def _choices(kind: str, loc: Loc) -> str | None:
    """Return the words of which one is missing, or the example of what it is missing in."""
    field = field_at(kind, loc)
    if field is None or inner_model(field) is not None:
        return _by_example(kind, loc)
    words = re.findall(r"'([a-z_]+)'", str(field.annotation))
    if not words:
        return _by_example(kind, loc)
    return f"write {' or '.join(f'{loc[-1]}: {word}' for word in words)}"


def _sized(text: str) -> str:
    if not text.isdecimal():
        return text
    return f"{text}B" if int(text) >= 1024 else f"{text}KiB"


def _flow(value: object) -> str:
    """Write a value as YAML has it on one line."""
    match value:
        case dict():
            return f"{{{', '.join(f'{_key(key)}: {_flow(each)}' for key, each in value.items())}}}"
        case None:
            return "null"
        case list():
            return f"[{', '.join(map(_flow, value))}]"
        case bool():
            return str(value).lower()
        case str():
            is_plain = re.fullmatch(r"[A-Za-z/][\w./-]*|\d+[A-Za-z%]+", value)
            return value if is_plain else json.dumps(value, ensure_ascii=False)
        case _:
            return shown(value)


def _key(key: object) -> str:
    return str(key) if re.fullmatch(r"[\w./-]+", str(key)) else json.dumps(str(key))
