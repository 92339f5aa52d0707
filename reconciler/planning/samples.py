"""Requests by which frontends can be told apart, put together from what each of them asks for.

What is asked for falls into dimensions that do not touch each other: the path, the method, each
header, query parameter and cookie, and who asks. In each of them some values are found, one at
least for every set of frontends that some value suits; which it suits, the engine's own routing
says. Each field is there once or not at all, and texts that are made up are of printable ASCII.
Pure; called by `heirs`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_network
from itertools import chain
from typing import NamedTuple, Protocol
from urllib.parse import urlencode

from schemas.entities.entity import NOWHERE, Entity, EntityKey, Json
from schemas.kinds.frontend import Frontend
from schemas.record import record
from schemas.routes.match import PathMatch, ValueMatch

VALUES_MAX = 600
"""So many values of one dimension are tried."""
STATES_MAX = 3000
"""So many states of all expressions of one dimension are looked at, and of two a tenth of them."""
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "PURGE", "REPORT")
_FIELDS = ("headers", "query", "cookies")

_CHAR = (
    r"(?:[A-Za-z0-9\-_~!$&'()*+,;=:@]"
    "|%(?:2[0-9A-CF]|3[A-F]|40|5[B-E]|60|7[B-D]|[89A-F][0-9A-F]))"
)
# No element is "." or "..", and none is empty.
_ELEMENT = rf"(?:{_CHAR}(?:{_CHAR}|\.)*|\.(?:{_CHAR}(?:{_CHAR}|\.)*|\.(?:{_CHAR}|\.)+))"
_POSSIBLE = {
    "path": f"/(?:{_ELEMENT}(?:/{_ELEMENT})*/?)?",
    "headers": "(?:[!-~](?:[ -~]*[!-~])?)?",
    "query": "[ -~]*",
    "cookies": r"[!#-+\--:<-\[\]-~]*",
}
"""What a request can have there, in its normal form."""


@record
class Sample:
    """One request."""

    hostname: str
    path: str
    query: str
    method: str
    headers: tuple[tuple[str, str], ...] = ()
    client: str | None = None
    """The address of who asks; None where that is not known."""


class Router(Protocol):
    """The engine's own routing."""

    def matching(
        self, frontends: Sequence[Entity], samples: Sequence[Sample]
    ) -> Sequence[Sequence[str]]:
        """Return the names of those that match each request, the winner first.

        Raises `UntriedError` where the engine does not take one of them.
        """

    def witnesses(
        self, musts: Sequence[str], others: Sequence[str], states: int
    ) -> tuple[Sequence[str], bool]:
        """Return texts that all of `musts` match, for each set of `others` one at least.

        And whether these are all, so many states of them having been looked at.
        """


class UntriedError(Exception):
    """The engine's routing cannot be asked."""


class Dimension(NamedTuple):
    """One thing that frontends ask for: a key of theirs, and the name of the field or ""."""

    key: str
    field: str = ""


class Value(NamedTuple):
    """A value in one dimension (None: it is not there), and which frontends it suits, as bits."""

    suits: int
    value: str | None


def dimensions(frontends: Iterable[Entity]) -> list[Dimension]:
    """Return in what frontends differ: the path always, and whatever any of them asks for."""
    found = {Dimension("path"): None, Dimension("methods"): None}
    for each in frontends:
        for key in _FIELDS:
            asked = each.value.get(key)
            if isinstance(asked, dict):
                found |= dict.fromkeys(Dimension(key, name) for name in asked)
        if each.value.get("client_addresses"):
            found[Dimension("client_addresses")] = None
    return list(found)


def values(of: Dimension, frontends: Sequence[Entity], router: Router) -> tuple[list[Value], bool]:
    """Return values of a dimension that suit the first of some frontends, and whether it is all.

    Two at most of those that suit the same frontends.
    """
    asked = [each.typed(Frontend) for each in frontends]
    match of.key:
        case "path":
            texts, whole = _paths([each.path for each in asked], router)
            found: Iterable[str | None] = texts
        case "methods":
            found, whole = _methods(asked), True
        case "client_addresses":
            found, whole = _clients(asked), True
        case _:
            found, whole = _field(of, asked, router)
    tried = list(dict.fromkeys(found))
    whole = whole and len(tried) <= VALUES_MAX
    suiting = _suited(of, frontends, tried[:VALUES_MAX], router)
    kept: dict[int, list[Value]] = {}
    for each in suiting:
        alike = kept.setdefault(each.suits, [])
        if each.suits & 1 and len(alike) < 2:
            alike.append(each)
    return [each for alike in kept.values() for each in alike], whole


def composed(hostname: str, given: Mapping[Dimension, str | None]) -> Sample:
    """Return the request that has these values."""
    there = {of: value for of, value in given.items() if value is not None}
    fields = {
        key: [(of.field, value) for of, value in there.items() if of.key == key] for key in _FIELDS
    }
    cookies = "; ".join(f"{name}={text}" for name, text in fields["cookies"])
    return Sample(
        hostname=hostname,
        path=there.get(Dimension("path"), "/"),
        query=urlencode(fields["query"]),
        method=there.get(Dimension("methods"), "GET"),
        headers=(*fields["headers"], *([("cookie", cookies)] if cookies else [])),
        client=there.get(Dimension("client_addresses")),
    )


def _suited(
    of: Dimension, frontends: Sequence[Entity], tried: Sequence[str | None], router: Router
) -> Iterator[Value]:
    """Yield values with the frontends that they suit: those that ask for nothing, by any."""
    alone = {str(number): _alone(of, each) for number, each in enumerate(frontends)}
    asking = [
        Entity(EntityKey("frontend", name), {"cluster": "c", "listeners": ["l"], **value}, NOWHERE)
        for name, value in alone.items()
        if value
    ]
    free = sum(1 << int(name) for name, value in alone.items() if not value)
    samples = [composed("host.invalid", {of: value}) for value in tried]
    for value, names in zip(tried, router.matching(asking, samples), strict=True):
        yield Value(free | sum(1 << int(name) for name in names), value)


def _alone(of: Dimension, frontend: Entity) -> dict[str, Json]:
    asked = frontend.value.get(of.key)
    if of.field:
        asked = {of.field: asked[of.field]} if isinstance(asked, dict) and of.field in asked else {}
    return {of.key: asked} if asked else {}


def _paths(matches: Sequence[PathMatch], router: Router) -> tuple[Iterable[str], bool]:
    patterns = [_path_pattern(each) for each in matches]
    found, whole = _told_apart("path", patterns[:1], patterns[1:], router)
    given = [each.given() for each in matches]
    return [*found, *(text for kind, text in given if kind in ("exact", "prefix"))], whole


def _path_pattern(match: PathMatch) -> str:
    kind, text = match.given()
    match kind:
        case "exact":
            return _literally(text)
        case "prefix":
            return _literally(text.rstrip("/")) + "(?:/.*)?"
        case "suffix":
            text = ".*" + _literally(text)
    return f"(?i:{text})" if match.ignore_case else str(text)


def _field(
    of: Dimension, asked: Sequence[Frontend], router: Router
) -> tuple[Iterable[str | None], bool]:
    conditions: list[ValueMatch | None] = [getattr(each, of.key).get(of.field) for each in asked]
    own, *others = conditions
    musts = [] if own is None or own.negated else list(_patterns([own]))
    rest = _patterns(others if musts else conditions)
    found, whole = _told_apart(of.key, musts, list(rest), router)
    regexes = dict.fromkeys(each.regex for each in others if each is not None and each.regex)
    exact = [each.exact for each in conditions if each is not None and each.exact is not None]
    return [None, *found, *exact], whole and all(_has_text(of, each, router) for each in regexes)


def _has_text(of: Dimension, regex: str, router: Router) -> bool:
    """Tell whether an expression suits any text of the letters that are tried."""
    return bool(router.witnesses([_POSSIBLE[of.key], regex], [], STATES_MAX // 10)[0])


def _patterns(conditions: Iterable[ValueMatch | None]) -> Iterator[str]:
    for each in conditions:
        if each is not None and each.exact is not None:
            yield _literally(each.exact)
        elif each is not None and each.regex is not None:
            yield each.regex


def _told_apart(
    key: str, musts: Sequence[str], others: Sequence[str], router: Router
) -> tuple[Sequence[str], bool]:
    """Return texts that tell expressions apart; where these are too large, each by itself."""
    musts, others = [_POSSIBLE[key], *musts], list(dict.fromkeys(others))
    found, whole = router.witnesses(musts, others, STATES_MAX)
    if whole:
        # An expression that none of these texts suits may be of other letters.
        return found, bool(found)
    alone = [[], *([each] for each in others)]
    some = (router.witnesses(musts, each, STATES_MAX // 10)[0] for each in alone)
    return [*(text for texts in some for text in texts), *found], False


def _literally(text: str) -> str:
    return "".join(f"\\x{{{ord(char):x}}}" for char in text)


def _methods(asked: Sequence[Frontend]) -> list[str]:
    named = dict.fromkeys(method for each in asked for method in each.methods)
    # One that nobody asks for tells who takes all.
    free = [method for method in _METHODS if method not in named][:1]
    return [*asked[0].methods] if asked[0].methods else [*free, *named]


def _clients(asked: Sequence[Frontend]) -> Iterator[str | None]:
    """Yield where networks begin, and what lies behind them: there it changes whom a client suits.

    And one client of whom nothing is known.
    """
    own, *others = (each.client_addresses or () for each in asked)
    yield from (None, "0.0.0.0", "::")  # noqa: S104  # the first of all addresses
    yield from (str(ip_network(each)[0]) for each in own)
    for network in map(ip_network, dict.fromkeys(chain.from_iterable(others))):
        yield str(network[0])
        if int(last := network[-1]) < 2**last.max_prefixlen - 1:
            yield str(last + 1)
