"""Plans the way from one commit to another without a daemon: for CI, where no proxy runs.

What only a daemon knows is not tried: ports, capacity, connections. Called by `commands.plan`.
"""

from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reconciler.cli.exits import CommandError, UsageError
from reconciler.cli.trees import files

if TYPE_CHECKING:
    from reconciler.source.git.repository import Repository
    from schemas.changes.state import State
    from schemas.entities.diagnostic import Diagnostic
    from schemas.entities.entity import EntityKey

UNTRIED = ["ports", "capacity", "connections"]
# Each is read whole.
_EARLIER_MAX = 8


def between(
    place: Path, base: str, ref: str | None, only: str | None = None
) -> tuple[dict[str, Any] | None, list[Any]]:
    """Return the plan in the form of `plan --json`, None if it is invalid, and all diagnostics.

    Without a `ref` the working tree is where it leads. An entity that is asked for (`only`) must be
    on one side at least.
    """
    from reconciler.catalog.views import MemoryView
    from reconciler.planning import guards
    from reconciler.planning.consequences import consequences
    from reconciler.planning.differ import diff_entities
    from reconciler.planning.planner import NOTHING_KNOWN, make_plan
    from reconciler.reporting.explaining.ranking import EngineRouter
    from schemas.changes.plan import Verdict

    before, unlike = _served_at(place, base)
    left_out: dict[str, str] = {}
    after, found = _loaded(place, ref, left_out)
    found = (*found, *unlike)
    if after is None:
        return None, [_told(each) for each in found]
    _expect(only, [*before, *after])
    desired = {key: after.get(key) for key in {*before, *after}}
    changes = diff_entities(desired, before)
    repository = files.open_repository(place)
    commit = repository.refs.find_commit(ref) if ref is not None else None
    was, will_be = (MemoryView(state[key] for key in state) for state in (before, after))
    meant = consequences(changes, was, will_be, EngineRouter(), is_here=False)
    made = make_plan(changes, commit, found, NOTHING_KNOWN, meant)
    blocked = guards.refusal(made, before, repository.commits.message(commit) if commit else "")
    made = replace(made, verdict=Verdict("guard", blocked) if blocked else None)
    return {**made.to_json(), "untried": UNTRIED}, [_told(each) for each in found]


def _served_at(place: Path, base: str) -> "tuple[State, tuple[Diagnostic, ...]]":
    """Return what a proxy serves that has followed to this commit, and a warning if that is less.

    Where the commit is invalid, the last good one before it is what runs.
    """
    from schemas.changes.state import State
    from schemas.entities.diagnostic import Diagnostic

    repository = files.open_repository(place)
    commits, found = (base, *_before(repository, base)), []
    for commit in commits:
        if not files.has_configuration_directory(place, commit):
            found.append(f"{commit} has no configuration")
            continue
        state, told = _loaded(place, commit, {})
        if state is not None:
            break
        wrong = next(each for each in told if each.severity == "error")
        found.append(f"{commit} is invalid itself: {wrong.render().splitlines()[0]}")
    else:
        commit, state = "", State()
    if not found:
        return state, ()
    instead = f"commit {commit[:12]}, the last good one before it" if commit else "nothing"
    message = f"the commit {found[0]}; this is compared with {instead}"
    return state, (Diagnostic("warning", "", 0, 0, message),)


def _before(repository: "Repository", base: str) -> "list[str]":
    from reconciler.source.git.repository_errors import UnknownCommitError

    try:
        commit = repository.refs.find_commit(base)
    except UnknownCommitError as error:
        raise UsageError(str(error)) from None
    return list(islice(repository.commits.first_parents(commit), _EARLIER_MAX))


def _expect(only: str | None, known: "list[EntityKey]") -> None:
    from reconciler.language.suggest import did_you_mean

    kind, _, name = (only or "").partition("/")
    names = [each.name for each in known if each.kind == kind]
    if name and name not in names:
        near = did_you_mean(name, names)
        raise CommandError(f'there is no {kind} "{name}"' + (f"; {near}" if near else ""))


def _loaded(
    place: Path, ref: str | None, left_out: dict[str, str]
) -> "tuple[State | None, tuple[Diagnostic, ...]]":
    from reconciler.catalog.catalog import load_directory
    from reconciler.cli.trees.working_tree import warn_of_untracked
    from reconciler.source.left_out import warnings
    from schemas.entities.diagnostic import Diagnostic

    read = (
        files.of_working_tree(place, left_out)
        if ref is None
        else files.of_commit(place, ref, left_out)
    )
    configuration = list(read)
    state, found = load_directory(configuration, files.reader(place, ref))
    if not configuration:
        where = str(place) if ref is None else f"{place} at {ref}"
        message = f"there is no configuration: no *.yaml file in {where}"
        state, found = None, (Diagnostic("error", "", 0, 0, message),)
    untracked = warn_of_untracked(place) if ref is None else ()
    return state, (*found, *warnings(left_out), *untracked)


def _told(found: "Diagnostic") -> dict[str, Any]:
    return {**found.to_json(), "rendered": found.render()}
