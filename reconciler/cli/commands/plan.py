"""`kakehi plan`: what a working tree or a commit would change on the proxy that runs.

The daemon plans: it alone knows what runs, and it starts no interpreter for it. This side finds the
files that were edited since the commit that runs, and sends those. With `--from` there is no
daemon: two commits are compared here.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from reconciler.cli import output
from reconciler.cli.asking import NoDaemonError, ask
from reconciler.cli.exits import (
    BLOCKED,
    CHANGES,
    DONE,
    INVALID,
    REFUSED,
    STALE,
    CommandError,
    UsageError,
)
from reconciler.cli.parameters import (
    COMMITS,
    DIRECTORY,
    ENTITIES,
    Argument,
    AsJson,
    Option,
    RuntimeDir,
)
from reconciler.cli.plans import grouping, render
from schemas.values.text import visible

if TYPE_CHECKING:
    from reconciler.cli.trees.working_tree import Differing

TIMEOUT_S = 120.0
FORMATS = ("text", "json", "markdown")


def plan(
    directory: Annotated[
        str | None,
        Argument(
            "[DIR]",
            help="The config directory [default: the one that the proxy follows].",
            completes=DIRECTORY,
        ),
    ] = None,
    only: Annotated[
        str | None,
        Argument(
            "[KIND[/NAME]]",
            help="Show the changes of one kind or of one entity alone.",
            completes=ENTITIES,
        ),
    ] = None,
    ref: Annotated[
        str | None,
        Option(
            "--ref",
            metavar="REF",
            completes=COMMITS,
            help="Plan this commit instead of the working tree.",
        ),
    ] = None,
    base: Annotated[
        str | None,
        Option(
            "--from",
            metavar="REF",
            completes=COMMITS,
            help="Compare with this commit instead of with what runs; needs no daemon.",
        ),
    ] = None,
    full: Annotated[
        bool, Option("--full", help="Show each change, also those that are alike.")
    ] = False,
    form: Annotated[
        str | None,
        Option(
            "--format",
            metavar="FORMAT",
            help="text, json or markdown [default: text].",
            completes=lambda: FORMATS,
        ),
    ] = None,
    as_json: AsJson = False,
    detailed_exitcode: Annotated[
        bool, Option("--detailed-exitcode", help="Exit with 2 when there are changes.")
    ] = False,
    runtime_dir: RuntimeDir = None,
) -> int:
    """Show what would change on the live proxy, field by field. Nothing is applied.

    The working tree is compared with what runs, edits that nobody committed included. The end is
    what the daemon would say to it now: 3 when it is invalid, 4 when a guard refuses it, 6 when
    this machine stands in its way, such as a port that somebody else has. Without a daemon (--from)
    ports and capacity are not tried.

    Examples:
      kakehi plan
      kakehi plan frontend/shop
      kakehi plan shop --ref feature/canary
      kakehi plan --from origin/main --ref HEAD --format markdown
      kakehi plan --json | jq '.changes[] | .action + " " + .kind + " " + .name'
      kakehi plan --detailed-exitcode; test $? -eq 2 && echo "something to commit"
    """
    form = _form(form, as_json=as_json)
    _expect_sense(form, base, runtime_dir, full=full)
    if only is None and directory is not None and _is_filter(directory):
        directory, only = None, directory
    if only is not None and not _is_filter(only):
        raise UsageError(f"{only!r} is not KIND or KIND/NAME", "kinds are those of: kakehi show")
    note: str | None
    if base is not None:
        place = Path(directory or ".")
        running: dict[str, Any] = {"beginning": f"commit {base}"}
        planned, diagnostics = _without_daemon(place, base, ref, only)
        note = "Without a daemon: ports, capacity and open connections were not tried."
    else:
        running = _running(runtime_dir)
        followed = Path(running["source"]["directory"])
        place = followed if directory is None else _place(directory, followed, ref)
        planned, diagnostics, note = _asked(runtime_dir, place, ref, running)
    if planned is None:
        return _invalid(diagnostics, form)
    if only is not None:
        every = planned["changes"]
        planned["changes"] = grouping.filtered(every, only)
        if base is None and not planned["changes"]:
            _expect_running(runtime_dir, only)
        running |= {"only": only, "others": len(every) - len(planned["changes"])}
    subject = f"commit {ref}" if ref else f"the working tree of {place}"
    _print(planned, running, subject, form, full=full)
    if form == "text":
        for warning in diagnostics:
            output.note(warning["rendered"])
    if note is not None:
        output.note(f"note: {note}")
    refusal = planned["refusal"]
    if refusal is not None:
        output.note(f"The daemon would refuse this now: {visible(refusal['reason'])}")
        return BLOCKED if refusal["stage"] == "guard" else REFUSED
    return CHANGES if detailed_exitcode and planned["changes"] else DONE


def _form(form: str | None, *, as_json: bool) -> str:
    """Return the format that is asked for, by `--format` or as `--json`."""
    if form is not None and form not in FORMATS:
        raise UsageError(f"there is no format {form}", f"known are {', '.join(FORMATS)}")
    if as_json and form not in (None, "json"):
        raise UsageError(f"--json and --format {form} contradict each other")
    return "json" if as_json else form or "text"


def _expect_sense(form: str, base: str | None, runtime_dir: str | None, *, full: bool) -> None:
    """Refuse options that would do nothing."""
    if full and form == "json":
        raise UsageError("--full changes nothing of JSON", "leave it out: JSON has each change")
    if base is not None and runtime_dir not in (None, os.environ.get("KAKEHI_RUNTIME_DIR")):
        raise UsageError(
            "--from asks no daemon, so that --runtime-dir names one in vain",
            "leave one of them out",
        )


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


def _expect_running(runtime_dir: str | None, only: str) -> None:
    """Raise the daemon's sentence, as for `show`, when an entity without changes is nowhere."""
    kind, _, name = only.partition("/")
    if name:
        ask(runtime_dir, "show", {"kind": kind, "entity": name})


def _is_filter(text: str) -> bool:
    from schemas.entities.entity import KINDS

    return text.partition("/")[0] in KINDS and not Path(text).is_dir()


def _print(
    planned: dict[str, Any], running: dict[str, Any], subject: str, form: str, *, full: bool
) -> None:
    if form == "json":
        output.print_json(planned)
        return
    if form == "markdown":
        from reconciler.cli.plans import markdown

        lines = markdown.plan(planned, running, subject, full=full)
    else:
        lines = render.plan(planned, running, subject, output.painter(), full=full)
    for text in lines:
        output.line(text)


def _without_daemon(
    place: Path, base: str, ref: str | None, only: str | None
) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    from reconciler.cli.plans.offline_plan import between

    return between(place, base, ref, only)


def _asked(
    runtime_dir: str | None, place: Path, ref: str | None, running: dict[str, Any]
) -> tuple[dict[str, Any] | None, list[dict[str, Any]], str | None]:
    """Return the plan of the daemon, all diagnostics, and what it is not about."""
    left_out: dict[str, str] = {}
    fields, differing = _request(place, ref, running["commit"], left_out)
    result = ask(runtime_dir, "plan", fields, TIMEOUT_S)
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
    if planned is not None:
        planned["warnings"] = [_bare(each) for each in known]
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

    found = confirmed(left_out, lambda path: files.read(place / path))
    return [{**each.to_json(), "rendered": each.render()} for each in warnings(found)]


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


def _running(runtime_dir: str | None) -> dict[str, Any]:
    try:
        return ask(runtime_dir, "status")
    except NoDaemonError as error:
        hint = (
            "without a daemon there is nothing to compare with; check the files: kakehi validate; "
            "compare two commits: kakehi plan --from REF"
        )
        raise CommandError(error.message, hint, error.code) from None


def _request(
    place: Path, ref: str | None, applied: str | None, left_out: dict[str, str]
) -> "tuple[dict[str, Any], Differing | None]":
    """Return the fields of the request (a commit, and the files that are laid over it).

    And how the working tree differs from the commit that is planned, as far as there is one.
    """
    from reconciler.cli.trees.working_tree import WorkingTree

    if ref is not None:
        commit = _resolved(place, ref)
        try:
            tree = WorkingTree(place)
            differing = tree.differing(commit) if tree.has(commit) else None
        except (CommandError, ValueError):
            differing = None
        return {"commit": commit, "files": {}}, differing
    tree = WorkingTree(place)
    if applied is None:
        wanted: dict[str, bytes | None] = dict(tree.wanted(left_out))
        return {"commit": None, "files": _texts(wanted)}, tree.differing("", wanted)
    if not tree.has(applied):
        raise CommandError(
            f"the proxy runs {applied[:12]}, and {place} does not have that commit",
            "fetch it first: git fetch",
        )
    edited = tree.edited_since(applied, left_out)
    return {"commit": applied, "files": _texts(edited)}, tree.differing(applied, edited)


def _resolved(place: Path, ref: str) -> str:
    """Return the commit as this repository knows it; otherwise let the daemon's find it."""
    from reconciler.cli.trees import files
    from reconciler.source.git.errors import RepositoryError

    try:
        return files.open_repository(place).refs.find_commit(ref)
    except (CommandError, RepositoryError):
        return ref


def _texts(contents: dict[str, Any]) -> dict[str, str | None]:
    """Return the files as they travel in JSON; refuses more than one message may hold."""
    from schemas.messages.control import MESSAGE_BYTES_MAX

    size = sum(len(content or b"") for content in contents.values())
    if size > MESSAGE_BYTES_MAX // 2:
        raise CommandError(
            f"too much was edited for one request ({size // 1024 // 1024} MiB of files)",
            "commit it to a branch of its own and plan that: kakehi plan --ref BRANCH",
        )
    return {
        path: None if content is None else content.decode("utf-8", "surrogateescape")
        for path, content in contents.items()
    }


def _invalid(diagnostics: list[dict[str, Any]], form: str) -> int:
    errors = [each for each in diagnostics if each["severity"] == "error"]
    if form == "markdown":
        from reconciler.cli.plans import markdown

        for text in markdown.invalid(diagnostics):
            output.line(text)
        return INVALID
    if form == "json":
        warnings = [_bare(each) for each in diagnostics if each not in errors]
        output.print_json({"commit": None, "changes": [], "warnings": warnings, "errors": errors})
    for diagnostic in diagnostics:
        output.note(diagnostic["rendered"])
    output.note(f"\n{output.count(len(errors), 'error')}: the configuration is invalid.")
    return INVALID


def _bare(diagnostic: dict[str, Any]) -> dict[str, Any]:
    return {key: each for key, each in diagnostic.items() if key != "rendered"}
