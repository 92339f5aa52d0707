"""What policies come to, worked out without any of our code: of raw values, as they are written.

Used by the tests of the reconciler's merging, and of what workers really do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import ip_address, ip_network
from typing import Any

Raw = dict[str, Any]
# A verb and its text; None switches off.
Edit = tuple[str, str] | None


class ContradictionError(Exception):
    """Two policies of one list say different things about one header."""


def edits_of(raw: Raw, key: str) -> Iterator[tuple[str, Edit]]:
    """What a policy says about each header, by its name in lower case."""
    edits = raw.get(key, {})
    for verb in ("set", "add"):
        for name, text in edits.get(verb, {}).items():
            yield name.lower(), None if text is None else (verb, text)
    for name in edits.get("remove", []):
        yield name.lower(), ("remove", "")


def edits(key: str, own: Raw, *levels: Sequence[Raw]) -> dict[str, tuple[str, str]]:
    """What is done with each header: the nearest level that says anything says it."""
    found: dict[str, Edit] = dict(edits_of(own, key))
    for level in levels:
        here: dict[str, Edit] = {}
        for policy in level:
            for name, edit in edits_of(policy, key):
                if here.setdefault(name, edit) != edit and name not in found:
                    raise ContradictionError(name)
        found = {**here, **found}
    return {name: edit for name, edit in found.items() if edit is not None}


def hsts(own: Raw, *levels: Sequence[Raw]) -> int | None:
    """For how many days browsers stay at TLS."""
    for level in ([own], *levels):
        said = [each["hsts"] for each in level if each.get("hsts", "inherit") != "inherit"]
        if said:
            if any(each != said[0] for each in said):
                raise ContradictionError("hsts")
            return said[0]["max_age_days"] if said[0] is not None else None
    return None


def identities_of(raw: Raw) -> Iterator[tuple[str, tuple[str, ...]]]:
    """By whom a policy has each header said in which a backend is told who asks."""
    for name, claim in (raw.get("jwt") or {}).get("headers", {}).items():
        yield name.lower(), ("jwt", claim)
    if (raw.get("basic_auth") or {}).get("header"):
        yield raw["basic_auth"]["header"].lower(), ("basic_auth", "user")
    asked = raw.get("forward_auth") or {}
    for name in asked.get("copy_headers", []):
        yield name.lower(), ("forward_auth", asked["cluster"])


def identities(own: Raw, *levels: Sequence[Raw]) -> dict[str, tuple[str, ...]]:
    """Who says each of these headers: of the nearest level that says any."""
    found = dict(identities_of(own))
    edited = {name for name, edit in edits_of(own, "request_headers") if edit is not None}
    for level in levels:
        here: dict[str, tuple[str, ...]] = {}
        for policy in level:
            for name, author in identities_of(policy):
                if here.setdefault(name, author) != author and name not in {*found, *edited}:
                    raise ContradictionError(name)
        found = {**here, **found}
    return found


def is_contradictory(policies: Sequence[Raw]) -> bool:
    """Whether a list of policies is an error by itself."""
    try:
        for key in ("request_headers", "response_headers"):
            edits(key, {}, policies)
        hsts({}, policies)
    except ContradictionError:
        return True
    return False


def left(beyond: Sequence[Raw], nearer: Sequence[Raw]) -> list[Raw]:
    """What of the listener's policies counts, where those let nearer ones say it in their place."""
    said = {key for each in nearer for key in ("allow", "deny") if each.get(key)}
    return [
        {key: word for key, word in each.items() if key not in said}
        if each.get("overridable")
        else each
        for each in beyond
    ]


def admits(client: str, policies: Sequence[Raw]) -> bool:
    """Whether a client may ask, where all of these have a word."""
    address = ip_address(client)

    def is_in(networks: Sequence[str]) -> bool:
        return any(address in ip_network(each) for each in networks)

    denied = any(is_in(each.get("deny") or []) for each in policies)
    return not denied and all(is_in(each["allow"]) for each in policies if each.get("allow"))


def can_let_in(policy: Raw) -> bool:
    """Whether nothing that one policy allows is denied by itself as a whole."""
    inner, outer = ([ip_network(each) for each in policy.get(key, [])] for key in ("allow", "deny"))
    return not any(
        one.version == other.version
        and one.network_address in other
        and one.prefixlen >= other.prefixlen
        for one in inner
        for other in outer
    )
