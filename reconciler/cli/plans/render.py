"""Draws a plan: one block per entity with its place, its fields and its effect, and a summary.

Pure: a plan in its JSON form goes in, lines come out. What comes from the repository is escaped.
"""

from collections.abc import Iterator
from typing import Any

from reconciler.cli.output import Painter, count, plural
from reconciler.cli.plans.differences import alone, both, by_lines
from reconciler.cli.plans.grouping import SUMMED_MIN, Group, groups, move, sums, totals
from schemas.values.text import visible

SIGNS = {"add": "+", "update": "~", "remove": "-"}
NO_CHANGES = "No changes. The live proxy runs exactly this configuration."
ALIKE = "No changes. Both have the same configuration."
NAMED_MAX = 5
"""So many names of a group, or of what a change concerns, are said."""

_TITLE_COLUMNS = 44
_LINE_ACTIONS = {"-": "remove", "+": "add", "@": "dim"}
_VERBS = {
    (True, False): ("serves", "serve"),
    (True, True): ("served", "served"),
    (False, False): ("counts for", "count for"),
    (False, True): ("counted for", "counted for"),
}
"""Of a cluster or of policies, which are there afterwards or gone."""
_WORDS = {"add": "to add", "update": "to change", "remove": "to remove", "rename": "to rename"}


def plan(
    planned: dict[str, Any],
    running: dict[str, Any],
    subject: str,
    paint: Painter,
    *,
    full: bool = False,
) -> Iterator[str]:
    """Return the lines of a plan: from what runs (a status, or `beginning`) to the subject."""
    yield paint("dim", f"from  {start(running)}")
    yield paint("dim", f"to    {subject}")
    yield ""
    changes = planned["changes"]
    if not changes:
        yield unchanged(running)
        return
    for group in groups(changes, full=full):
        yield from _group(group, paint)
        yield ""
    if len(changes) >= SUMMED_MIN:
        yield from _sums(changes)
    if told := untold(changes):
        yield f"  {paint('dim', told)}"
        yield ""
    yield paint("bold", f"{headline(running)}: {summary(changes)}.") + others(running)


def start(running: dict[str, Any]) -> str:
    """Return what a plan is compared with."""
    if "beginning" in running:
        return str(running["beginning"])
    commit = (running["commit"] or "nothing")[:12]
    workers = count(len(running["workers"]), "worker")
    return f"generation {running['generation']}, {commit}, on {workers}"


def unchanged(running: dict[str, Any]) -> str:
    """Return what a plan without changes means: of all, or of what was asked for (`only`)."""
    if "only" in running:
        return f"No changes of {running['only']}.{others(running)}"
    return ALIKE if "beginning" in running else NO_CHANGES


def headline(running: dict[str, Any]) -> str:
    """Return what the sums are those of: the plan, or what was asked for of it (`only`)."""
    return f"Plan of {running['only']}" if "only" in running else "Plan"


def others(running: dict[str, Any]) -> str:
    """Return the sentence that says what of the plan was not asked for; empty when all was."""
    number = running.get("others", 0)
    return f" The plan has {count(number, 'change')} of others." if number else ""


def summary(changes: list[dict[str, Any]]) -> str:
    """Return how many changes there are, in words."""
    found = totals(changes)
    return ", ".join(
        f"{number} {_WORDS[action]}"
        for action, number in found.items()
        if number or action != "rename"
    )


def meaning(changes: list[dict[str, Any]]) -> Iterator[str]:
    """Return what changes that are alike mean for others, a sentence each."""
    change = changes[0]
    yield from _taken(change)
    if any(each.get("frontends") for each in changes):
        yield _concerned(changes)
    if change.get("ends_drain"):
        yield f'takes requests again: it was drained as "{change["renamed"]}"'
    if lost := [name for each in changes for name in each.get("without_certificate") or ()]:
        yield f"leaves {named(lost)} without a certificate until it is issued: no handshakes"
    if urls := change.get("without_keys"):
        yield f"requests get 503 until the keys of {named(urls)} have been fetched"
    if fault := change.get("unreached"):
        yield f"cannot be connected to as things are: {fault}"
    if change.get("leaves_no_backend"):
        left = sorted({each["name"].partition("/")[0] for each in changes})
        then = change.get("then") or "503"
        yield f"leaves {_clusters(left)} without a backend that takes requests: {then}"
    if clusters := change.get("leads_to_no_backend"):
        yield f"brings requests to {_clusters(clusters)}, without a backend that takes any: 503"


def _clusters(names: list[str]) -> str:
    if len(names) == 1:
        return f'cluster "{names[0]}"'
    return f"{count(len(names), 'cluster')} ({named(names)})"


def _concerned(changes: list[dict[str, Any]]) -> str:
    """Return the sentence about the frontends that changes of one action concern."""
    names = sorted({name for each in changes for name in each.get("frontends") or ()})
    more = max(each.get("more_frontends", 0) for each in changes)
    number = count(len(names) + more, "frontend")
    if more and len(changes) > 1:
        # Of those that are not named some may be the same.
        number = f"{number} or more"
    first = changes[0]
    one, several = _VERBS[first["kind"] == "cluster", first["action"] == "remove"]
    return f"{several if len(changes) > 1 else one} {number}: {named(names, more)}"


def effect(changes: list[dict[str, Any]]) -> str:
    """Return the effect that changes have in common; empty where they have none."""
    found = {each.get("effect") or "" for each in changes}
    return found.pop() if len(found) == 1 else ""


def untold(changes: list[dict[str, Any]]) -> str:
    """Return what is not told of the changes, as a sentence; empty where all is."""
    # With it comes what --help does without.
    from schemas.messages.control import HEIRS_OF_MAX

    number = sum(each["kind"] == "frontend" for each in changes)
    if number <= HEIRS_OF_MAX:
        return ""
    return f"Who takes requests over is told of the first {HEIRS_OF_MAX} frontends only."


def named(names: list[str], beside: int = 0) -> str:
    """Return the first of some names; `beside`: so many more there are."""
    more = max(0, len(names) - NAMED_MAX) + beside
    return visible(", ".join(names[:NAMED_MAX])) + (f" and {more} more" if more else "")


def _taken(change: dict[str, Any]) -> Iterator[str]:
    """Return who takes a frontend's requests over, and from whom it takes some."""
    untried = change.get("untried") or ()
    heirs, takes_from = change.get("heirs") or [], change.get("takes_from") or []
    # One that is changed keeps the rest.
    some = change["action"] == "update"
    lost = "others" if any(heirs) else f"{'some of ' if some else ''}its requests"
    parts = _named("gives requests to" if some else "its requests go to", heirs)
    parts += [f"{lost} get 404"] if None in heirs else []
    parts += [f"not tried: who takes {'others' if heirs else lost}"] if "heirs" in untried else []
    if parts:
        yield "; ".join(parts)
    parts = _named("takes requests of", takes_from)
    parts += ["takes requests that get 404 now"] if None in takes_from else []
    if "takes_from" in untried:
        parts.append(f"not tried: {'of whom else' if takes_from else 'whose requests it takes'}")
    if parts:
        yield "; ".join(parts)


def _named(by: str, names: list[str | None]) -> list[str]:
    told = [f'frontend "{name}"' for name in names if name is not None]
    return [f"{by} {named(told)}"] if told else []


def _group(group: Group, paint: Painter) -> Iterator[str]:
    if len(group.changes) == 1:
        yield from _change(group.first, paint, renamed=group.renamed)
        return
    first, number = group.first, len(group.changes)
    action = first["action"]
    kinds = plural(first["kind"])
    files = {each["source"]["file"] for each in group.changes}
    title = f"{SIGNS[action]} {number} {kinds}"
    place = visible(min(files)) if len(files) == 1 else f"in {len(files)} files"
    yield f"  {paint(action, f'{title:<{_TITLE_COLUMNS}}')}  {paint('dim', place)}"
    moved = move(first)
    if moved is not None:
        yield f"      address  {paint('remove', moved[0])} → {paint('add', moved[1])}"
    elif action != "remove":
        yield from _fields(first, paint)
    yield f"      {paint('dim', named([each['name'] for each in group.changes]))}"
    used = {
        key: sum(each.get("in_use", {}).get(key) or 0 for each in group.changes)
        for key in ("connections", "requests")
    }
    if any(used.values()):
        told = ", ".join(count(used[key], key[:-1]) for key in used)
        yield f"      {paint('dim', f'→ {told} in use now')}"
    if not any(used.values()) and effect(group.changes):
        yield f"      {paint('dim', '→ ' + visible(effect(group.changes)))}"
    for text in meaning(group.changes):
        yield _marked(first, text, paint)


def titled(change: dict[str, Any], *, renamed: bool) -> tuple[str, str, str]:
    """Return what is done to an entity, the sign of that, and which entity it is."""
    action = "update" if renamed else change["action"]
    name = "" if change["kind"] == "settings" else f" {change['name']}"
    if renamed:
        name = f" {change['renamed']} → {change['name']}"
    return action, SIGNS[action], f"{change['kind']}{visible(name)}"


def _change(change: dict[str, Any], paint: Painter, *, renamed: bool = False) -> Iterator[str]:
    action, sign, entity = titled(change, renamed=renamed)
    title = f"{sign} {entity}"
    yield f"  {paint(action, f'{title:<{_TITLE_COLUMNS}}')}  {paint('dim', _where(change))}"
    if action != "remove" and not renamed:
        yield from _fields(change, paint)
    if change.get("effect"):
        yield f"      {paint('dim', '→ ' + visible(change['effect']))}"
    for text in meaning([change]):
        yield _marked(change, text, paint)


def _marked(change: dict[str, Any], text: str, paint: Painter) -> str:
    if (
        change.get("leaves_no_backend")
        or change.get("leads_to_no_backend")
        or change.get("without_certificate")
        or change.get("without_keys")
        or change.get("unreached")
        or change.get("ends_drain")
        or None in (change.get("heirs") or ())
    ):
        return f"      {paint('warning', '! ' + visible(text))}"
    return f"      {paint('dim', '→ ' + visible(text))}"


def _sums(changes: list[dict[str, Any]]) -> Iterator[str]:
    rows = sums(changes)
    width = max(len(folder) for folder, _, _ in rows)
    for folder, kind, found in rows:
        told = ", ".join(f"{number} {_WORDS[action]}" for action, number in found.items() if number)
        yield f"  {visible(folder):<{width}}  {kind:<11}  {told}"
    yield ""


def _fields(change: dict[str, Any], paint: Painter) -> Iterator[str]:
    fields = change["fields"]
    width = max((len(visible(path)) for path in fields), default=0)
    for path, sides in fields.items():
        label = f"      {visible(path):<{width}}  "
        lines = by_lines(sides["from"], sides["to"]) if change["action"] == "update" else None
        if change["action"] == "add":
            yield f"{label}{alone(sides['to'])}"
        elif lines is not None:
            yield label.rstrip()
            for line in lines:
                yield f"        {paint(_LINE_ACTIONS.get(line[:1], 'dim'), line)}"
        else:
            before, after = both(sides)
            yield f"{label}{paint('remove', before)} → {paint('add', after)}"


def _where(change: dict[str, Any]) -> str:
    source = change["source"]
    if not source["file"]:
        return "(defaults)"
    return f"{visible(source['file'])}:{source['line']}" + (
        " (deleted)" if change["action"] == "remove" else ""
    )
