"""`kakehi history`: what each commit did to the live proxy, or why it was refused."""

from typing import Annotated, Any

from reconciler.cli import output
from reconciler.cli.exits import DONE, UsageError
from reconciler.cli.outlasting import ask_next
from reconciler.cli.parameters import AsJson, Option, RuntimeDir
from reconciler.cli.plans.grouping import groups
from reconciler.cli.plans.render import titled
from schemas.values.text import visible

CHANGES_SHOWN = 5
"""Changes of a commit that the text lists; `--json` has all that the daemon keeps."""

_OUTCOME_STYLES = {"applied": "add", "refused": "error", "not_renewed": "error"}
_WORDS = {"not_renewed": "files not taken over"}


def history(
    limit: Annotated[
        int, Option("--limit", "-n", metavar="N", help="How many commits [default: 20].")
    ] = 20,
    as_json: AsJson = False,
    runtime_dir: RuntimeDir = None,
) -> int:
    """List applied and refused commits, newest first, with their changes and the time they took.

    Drains stand among them, and files of the machine that could not be taken over.

    Examples:
      kakehi history
      kakehi history -n 1 --json
    """
    if limit < 1:
        raise UsageError("--limit must be 1 or more")
    result = ask_next(runtime_dir, "history", {"limit": limit})
    if as_json:
        output.print_json(result)
        return DONE
    paint = output.painter()
    told = [(entry["position"], _lines(entry, paint)) for entry in result["entries"]]
    told += [(event["position"], _drain(event, paint)) for event in result["drains"]]
    for _, lines in sorted(told, key=lambda each: each[0]):
        for text in lines:
            output.line(text)
    if not told and result["commit"] is not None:
        output.line(f"{result['commit'][:12]} runs, and its history was lost: see kakehi status.")
    elif not told:
        output.line("No commit has reached this proxy yet.")
    return DONE


def _drain(event: dict[str, Any], paint: output.Painter) -> list[str]:
    expires = event["expires_at"]
    until = ""
    if event["outcome"] == "drained":
        until = f", until {output.moment(expires) if expires else 'it is undrained'}"
    said = [visible(event["owner"])] if event["owner"] else []
    if of := event.get("drained_by"):
        said.append(f"of the drain of {visible(of)}")
    who = f" ({', '.join(said)})" if said else ""
    when, word = output.moment(event["at"]), paint("dim", f"{event['outcome']:<10}")
    return [f"{'':<12}  {when}  {word}".rstrip(), f"    {', '.join(event['backends'])}{until}{who}"]


def _lines(entry: dict[str, Any], paint: output.Painter) -> list[str]:
    outcome = entry["outcome"]
    when = output.moment(entry["at"])
    word = paint(_OUTCOME_STYLES.get(outcome, "dim"), f"{_WORDS.get(outcome, outcome):<10}")
    head = f"{entry['commit'][:12]}  {when}  {word}"
    if outcome == "applied":
        head += f"  generation {entry['generation']} in {output.duration(entry['duration_ms'])}"
    name = entry["author"].partition(" <")[0]
    author = f" ({name})" if name else ""
    text = [head.rstrip(), f"    {visible(entry['subject'] + author)}"]
    if entry.get("message"):
        text.extend(f"    {paint('error', part)}" for part in entry["message"].splitlines())
    # As a plan tells it: a rename is one.
    told = groups(entry["changes"], full=True)
    for group in told[:CHANGES_SHOWN]:
        action, sign, name = titled(group.first, renamed=group.renamed)
        text.append(f"    {paint(action, sign)} {name}")
    unread = entry["change_count"] - len(entry["changes"])
    hidden = unread + len(told[CHANGES_SHOWN:])
    if hidden > 0:
        text.append(f"    … and {hidden} more")
    return text
