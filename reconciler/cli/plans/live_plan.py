"""The plan of the daemon that runs: what is sent to it, and what is said beside its answer.

Called by `kakehi plan`; without a daemon `offline_plan` has its place.
"""

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reconciler.cli.asking import NoDaemonError, StartingDaemonError
from reconciler.cli.exits import STALE, CommandError, UsageError
from reconciler.cli.outlasting import ask_next
from reconciler.cli.plans import render
from reconciler.cli.trees.answering import answered, asked

if TYPE_CHECKING:
    from reconciler.cli.trees.working_tree import Differing

TIMEOUT_S = 120.0
TRIES = 10
"""So often it is planned anew when a commit goes through beside it."""

_BESIDE_BYTES = 1024 * 1024
"""What else may stand in the request: the names of files that are not sent."""

Asked = tuple[dict[str, Any] | None, list[dict[str, Any]], str | None]
"""A plan, None when the files are invalid; all diagnostics; a note on what it is not about."""


def with_daemon(
    runtime_dir: str | None, directory: str | None, ref: str | None
) -> tuple[Path, dict[str, Any], Asked]:
    """Return whose plan it is, what it is compared with, and what `_asked` returns."""
    tries = TRIES
    while True:
        running = _running(runtime_dir)
        followed = Path(running["source"]["directory"])
        place = followed
        if directory is not None:
            place = answered(Path(directory), partial(_place, directory, followed, ref))
        try:
            read = partial(_asked, runtime_dir, place, ref, running)
            return place, running, answered(place, read)
        except CommandError as error:
            tries -= 1
            if error.code != STALE or not tries:
                raise


def _place(directory: str, followed: Path, ref: str | None) -> Path:
    """Return the directory that was named; its files must be those that the proxy follows."""
    from reconciler.cli.trees import files

    place = Path(directory)
    files.expect_directory(place)
    if ref is None and place.resolve() != followed.resolve():
        try:
            prefix = files.open_repository(followed).prefix
        except CommandError:
            # It may be where this user, or this machine, cannot look.
            return place
        found = files.open_repository(place)
        if found.holds(place):
            raise UsageError(f"{directory} is git's own directory, and has no configuration")
        if found.prefix != prefix:
            raise UsageError(
                f"{directory} is not what the proxy follows: that is {followed}",
                "name that, or the same directory of another clone; or none at all",
            )
    return place


def _running(runtime_dir: str | None) -> dict[str, Any]:
    try:
        return ask_next(runtime_dir, "status")
    except StartingDaemonError:
        raise
    except NoDaemonError as error:
        hint = (
            "without a daemon there is nothing to compare with; check the files: kakehi validate; "
            "compare two commits: kakehi plan --from REF"
        )
        raise CommandError(error.message, hint, error.code) from None


def _asked(runtime_dir: str | None, place: Path, ref: str | None, running: dict[str, Any]) -> Asked:
    """Return the plan of the daemon, all diagnostics, and what it is not about."""
    left_out: dict[str, str] = {}
    differing: Differing | None
    if ref is None:
        result, differing = _of_working_tree(runtime_dir, place, running["commit"], left_out)
    else:
        result, differing = _of_commit(runtime_dir, place, ref)
        # Nothing was sent that would depend on it.
        running |= result["base"]
    if result["base"]["commit"] != running["commit"]:
        # The files that were sent are those that differ from what ran before.
        raise CommandError(
            f"{(result['base']['commit'] or '')[:12]} was applied while this was planned",
            "plan again",
            STALE,
        )
    known = result["diagnostics"]
    known += [each for each in _warnings(place, left_out) if each not in known]
    planned: dict[str, Any] | None = result["plan"]
    if differing is not None and ref is None:
        known += _of_filters(differing)
    if all(each["state"] == "starting" for each in running["workers"]):
        known.append(_nothing_is_served())
    if planned is not None:
        planned["warnings"] = [bare(each) for each in known]
    note = None
    if differing is not None:
        if planned is not None:
            planned["uncommitted"] = differing.to_json()
        note = _uncommitted(differing, ref)
    return planned, known, note


def _uncommitted(differing: "Differing", ref: str | None) -> str | None:
    if ref is not None:
        text = differing.sentence(ref)
        return f"{text}; this plan is not about that" if text else None
    if not differing.untracked:
        return None
    named = render.named(differing.untracked)
    verb = "is" if len(differing.untracked) == 1 else "are"
    return f"{named} {verb} untracked: `git commit -a` would leave that out; git add it first"


def _warnings(place: Path, left_out: dict[str, str]) -> list[dict[str, Any]]:
    """Return a warning for each edited file that looks like configuration and is none."""
    from reconciler.cli.trees import files
    from reconciler.source.left_out import confirmed, warnings

    found = confirmed(left_out, lambda path, most: files.read(place / path, most + 1))
    return [{**each.to_json(), "rendered": each.render()} for each in warnings(found)]


def _nothing_is_served() -> dict[str, Any]:
    from schemas.entities.diagnostic import Diagnostic

    said = "no worker is in service: nothing is served now"
    found = Diagnostic("warning", "", 0, 0, said, "why, tells: kakehi status")
    return {**found.to_json(), "rendered": found.render()}


def _of_filters(differing: "Differing") -> list[dict[str, Any]]:
    """Return a warning for each edited file of which a commit will have another content."""
    from schemas.entities.diagnostic import Diagnostic

    found = [
        Diagnostic(
            "warning",
            path,
            0,
            0,
            f'{path} is planned as it lies here: git changes it by the filter "{name}" when it is '
            "committed",
            "plan the commit: kakehi plan --ref",
        )
        for path, name in sorted(differing.filtered.items())
    ]
    return [{**each.to_json(), "rendered": each.render()} for each in found]


def _of_commit(
    runtime_dir: str | None, place: Path, ref: str
) -> "tuple[dict[str, Any], Differing | None]":
    """Return the daemon's answer, and how the working tree differs, as far as there is one."""
    from reconciler.cli.trees.working_tree import WorkingTree

    commit = _resolved(place, ref)
    try:
        tree = WorkingTree(place)
        differing = tree.differing(commit) if tree.has(commit) else None
    except (CommandError, ValueError):
        differing = None
    return _planned(runtime_dir, place, {"commit": commit, "files": {}}), differing


def _of_working_tree(
    runtime_dir: str | None, place: Path, applied: str | None, left_out: dict[str, str]
) -> "tuple[dict[str, Any], Differing]":
    """Return the daemon's answer, and how the working tree differs from the applied commit.

    The configuration files that differ are sent. Of other files, such as those with certificates
    and pages, the daemon hears that they differ, and asks for what entities name of them.
    """
    from reconciler.cli.trees import files
    from reconciler.cli.trees.working_tree import WorkingTree
    from reconciler.errors import UnreadableError

    tree, beside = WorkingTree(place), set[str]()
    if applied is None:
        sent: dict[str, bytes | None] = dict(tree.wanted(left_out, beside))
    elif tree.has(applied):
        sent = tree.edited_since(applied, left_out, beside)
    else:
        raise CommandError(
            f"the proxy runs {applied[:12]}, and {place} does not have that commit",
            "fetch it first: git fetch",
        )
    unreadable: dict[str, list[str]] = {}
    read = files.reader(place, None)
    while True:
        fields: dict[str, Any] = {
            "commit": applied,
            "files": _texts(sent),
            "beside": sorted(beside),
        }
        fields |= {"explains": True, "unreadable": unreadable}
        result = _planned(runtime_dir, place, fields)
        if not result["wants"]:
            break
        for path in result["wants"]:
            try:
                sent[path] = read(path)
            except UnreadableError as error:
                unreadable[path] = [str(error), *([error.hint] if error.hint else [])]
                if path in beside:
                    sent[path] = None
    edited = {
        path: content
        for path, content in sent.items()
        if path not in beside or applied is None or tree.differs(applied, path, content)
    }
    return result, tree.differing(applied or "", edited)


def _planned(runtime_dir: str | None, place: Path, fields: dict[str, Any]) -> dict[str, Any]:
    """Return the daemon's answer, which has a time limit of its own."""
    asked(None)
    result = ask_next(runtime_dir, "plan", fields, TIMEOUT_S)
    asked(place)
    return result


def _resolved(place: Path, ref: str) -> str:
    """Return the commit as this repository knows it; otherwise let the daemon's find it."""
    from reconciler.cli.trees import files
    from reconciler.source.git.repository_errors import RepositoryError

    try:
        return files.open_repository(place).refs.find_commit(ref)
    except (CommandError, RepositoryError):
        return ref


def _texts(contents: dict[str, Any]) -> dict[str, str | None]:
    """Return the files as they travel in JSON; refuses more than one message may hold."""
    from schemas.messages.control import MESSAGE_BYTES_MAX

    size = sum(len(content or b"") for content in contents.values())
    texts = {
        path: None if content is None else content.decode("utf-8", "surrogateescape")
        for path, content in contents.items()
    }
    # What is no text takes six times as much in JSON.
    is_small = size < MESSAGE_BYTES_MAX // 8
    if not is_small and len(json.dumps(texts)) > MESSAGE_BYTES_MAX - _BESIDE_BYTES:
        raise CommandError(
            f"too much was edited for one request ({size // 1024 // 1024} MiB of files)",
            "commit it to a branch of its own and plan that: kakehi plan --ref BRANCH",
        )
    return texts


def bare(diagnostic: dict[str, Any]) -> dict[str, Any]:
    """Return a diagnostic as it stands in JSON."""
    return {key: each for key, each in diagnostic.items() if key != "rendered"}
