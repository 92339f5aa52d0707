"""`kakehi plan`: what a working tree or a commit would change on the proxy that runs.

The daemon plans: it alone knows what runs, and it starts no interpreter for it. This side finds the
files that were edited since the commit that runs, and sends those.
"""

from pathlib import Path
from typing import Annotated, Any

from reconciler.cli import files, output, render
from reconciler.cli.asking import ask
from reconciler.cli.exits import BLOCKED, CHANGES, DONE, INVALID, REFUSED, CommandError
from reconciler.cli.options import Argument, AsJson, Option, RuntimeDir

TIMEOUT_S = 120.0


def plan(
    directory: Annotated[
        str | None,
        Argument("[DIR]", help="The config directory [default: the one that the proxy follows]."),
    ] = None,
    ref: Annotated[
        str | None,
        Option("--ref", metavar="REF", help="Plan this commit instead of the working tree."),
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
    this machine stands in its way, such as a port that somebody else has.

    Examples:
      kakehi plan
      kakehi plan shop --ref feature/canary
      kakehi plan --json | jq '.changes[] | .action + " " + .kind + " " + .name'
      kakehi plan --detailed-exitcode; test $? -eq 2 && echo "something to commit"
    """
    running = _running(runtime_dir)
    place = Path(directory or running["source"]["directory"])
    left_out: dict[str, str] = {}
    fields = _request(place, ref, running["commit"], left_out)
    result = ask(runtime_dir, "plan", fields, TIMEOUT_S)
    result["diagnostics"] += _warnings(place, left_out)
    planned: dict[str, Any] | None = result["plan"]
    if planned is None:
        return _invalid(result["diagnostics"], as_json)
    if as_json:
        output.print_json(planned)
    else:
        subject = f"commit {ref}" if ref else f"the working tree of {place}"
        for text in render.plan(planned, running, subject, output.painter()):
            output.line(text)
        for warning in result["diagnostics"]:
            output.note(warning["rendered"])
    refusal = planned["refusal"]
    if refusal is not None:
        output.note(f"The daemon would refuse this now: {output.visible(refusal['reason'])}")
        return BLOCKED if refusal["stage"] == "guard" else REFUSED
    return CHANGES if detailed_exitcode and planned["changes"] else DONE


def _warnings(place: Path, left_out: dict[str, str]) -> list[dict[str, Any]]:
    """Return a warning for each edited file that looks like configuration and is none."""
    from reconciler.source.left_out import confirmed, warnings

    found = confirmed(left_out, lambda path: files.read(place / path))
    return [{**each.to_json(), "rendered": each.render()} for each in warnings(found)]


def _running(runtime_dir: str | None) -> dict[str, Any]:
    try:
        return ask(runtime_dir, "status")
    except CommandError as error:
        hint = "without a daemon there is nothing to compare with; check the files: kakehi validate"
        raise CommandError(error.message, hint, error.code) from None


def _request(
    place: Path, ref: str | None, applied: str | None, left_out: dict[str, str]
) -> dict[str, Any]:
    """Return the fields of the request: a commit, and the files that are laid over it."""
    if ref is not None:
        return {"commit": _resolved(place, ref), "files": {}}
    from reconciler.cli.working_tree import WorkingTree

    tree = WorkingTree(place)
    if applied is None:
        return {"commit": None, "files": _texts(dict(tree.wanted(left_out)))}
    if not tree.has(applied):
        raise CommandError(
            f"the proxy runs {applied[:12]}, and {place} does not have that commit",
            "fetch it first: git fetch",
        )
    return {"commit": applied, "files": _texts(tree.edited_since(applied, left_out))}


def _resolved(place: Path, ref: str) -> str:
    """Return the commit as this repository knows it; otherwise let the daemon's find it."""
    from reconciler.source.repository import RepositoryError

    try:
        return files.open_repository(place).find_commit(ref)
    except (CommandError, RepositoryError):
        return ref


def _texts(contents: dict[str, Any]) -> dict[str, str | None]:
    """Return the files as they travel in JSON; refuses more than one message may hold."""
    from schemas.control import MESSAGE_BYTES_MAX

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


def _invalid(diagnostics: list[dict[str, Any]], as_json: bool) -> int:
    if as_json:
        output.print_json({"commit": None, "changes": [], "warnings": [], "errors": diagnostics})
    for diagnostic in diagnostics:
        output.note(diagnostic["rendered"])
    errors = sum(diagnostic["severity"] == "error" for diagnostic in diagnostics)
    output.note(f"\n{output.count(errors, 'error')}: the configuration is invalid.")
    return INVALID
