"""`kakehi plan`: what a working tree or a commit would change on the proxy that runs.

The daemon plans: it alone knows what runs, and it starts no interpreter for it. This side finds the
files that were edited since the commit that runs, and sends those. With `--from` there is no
daemon: two commits are compared here.
"""

import os
from pathlib import Path
from typing import Annotated, Any

from reconciler.cli import output
from reconciler.cli.exits import (
    BLOCKED,
    CHANGES,
    DONE,
    INVALID,
    REFUSED,
    UsageError,
)
from reconciler.cli.outlasting import ask_next
from reconciler.cli.parameters import (
    COMMITS,
    ENTITIES,
    PLANNED,
    Argument,
    AsJson,
    Option,
    RuntimeDir,
)
from reconciler.cli.parsers import text_of
from reconciler.cli.plans import grouping, render
from reconciler.cli.plans.live_plan import bare, with_daemon
from schemas.values.text import visible

FORMATS = ("text", "json", "markdown")


def plan(
    directory: Annotated[
        str | None,
        Argument(
            "[DIR]",
            help="The config directory [default: the one that the proxy follows].",
            completes=PLANNED,
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
        only, directory = text_of(directory), None
    if only is not None and not _is_filter(only):
        raise UsageError(f"{only!r} is not KIND or KIND/NAME", "kinds are those of: kakehi show")
    note: str | None
    if base is not None:
        place = Path(directory or ".")
        running: dict[str, Any] = {"beginning": f"commit {base}"}
        planned, diagnostics = _without_daemon(place, base, ref, only)
        note = "Without a daemon: ports, capacity and open connections were not tried."
    else:
        place, running, (planned, diagnostics, note) = with_daemon(runtime_dir, directory, ref)
    if planned is None:
        return _invalid(diagnostics, form)
    if only is not None:
        every = planned["changes"]
        planned["changes"] = grouping.filtered(every, only)
        if base is None and not planned["changes"]:
            _expect_running(runtime_dir, only)
        filtered = {"only": only, "others": len(every) - len(planned["changes"])}
        running |= filtered
        planned |= filtered
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


def _expect_running(runtime_dir: str | None, only: str) -> None:
    """Raise the daemon's sentence, as for `show`, when an entity without changes is nowhere."""
    kind, _, name = only.partition("/")
    if name:
        ask_next(runtime_dir, "show", {"kind": kind, "entity": name})


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
    from reconciler.cli.trees.answering import answered

    return answered(place, lambda: between(place, base, ref, only))


def _invalid(diagnostics: list[dict[str, Any]], form: str) -> int:
    errors = [each for each in diagnostics if each["severity"] == "error"]
    if form == "markdown":
        from reconciler.cli.plans import markdown

        for text in markdown.invalid(diagnostics):
            output.line(text)
        return INVALID
    if form == "json":
        warnings = [bare(each) for each in diagnostics if each not in errors]
        output.print_json({"commit": None, "changes": [], "warnings": warnings, "errors": errors})
    for diagnostic in diagnostics:
        output.note(diagnostic["rendered"])
    output.note(f"\n{output.count(len(errors), 'error')}: the configuration is invalid.")
    return INVALID
