"""`kakehi history`: what each commit did to the live proxy, or why it was refused."""

from typing import Annotated, Any

from reconciler.cli import output
from reconciler.cli.asking import ask
from reconciler.cli.exits import DONE, UsageError
from reconciler.cli.options import AsJson, Option, RuntimeDir

CHANGES_SHOWN = 5
"""Changes of a commit that the text lists; `--json` has all that the daemon keeps."""

_SIGNS = {"add": "+", "update": "~", "remove": "-"}
_OUTCOME_STYLES = {"applied": "add", "refused": "error", "superseded": "dim", "unchanged": "dim"}


def history(
    limit: Annotated[
        int, Option("--limit", "-n", metavar="N", help="How many commits [default: 20].")
    ] = 20,
    as_json: AsJson = False,
    runtime_dir: RuntimeDir = None,
) -> int:
    """List applied and refused commits, newest first, with their changes and the time they took.

    Examples:
      kakehi history
      kakehi history -n 1 --json
    """
    if limit < 1:
        raise UsageError("--limit must be 1 or more")
    result = ask(runtime_dir, "history", {"limit": limit})
    if as_json:
        output.print_json(result)
        return DONE
    paint = output.painter()
    for entry in result["entries"]:
        for text in _lines(entry, paint):
            output.line(text)
    if not result["entries"]:
        output.line("No commit has reached this proxy yet.")
    return DONE


def _lines(entry: dict[str, Any], paint: output.Painter) -> list[str]:
    outcome = entry["outcome"]
    when = output.moment(entry["at"])
    head = f"{entry['commit'][:12]}  {when}  {paint(_OUTCOME_STYLES[outcome], f'{outcome:<10}')}"
    if outcome == "applied":
        head += f"  generation {entry['generation']} in {output.duration(entry['duration_ms'])}"
    name = entry["author"].partition(" <")[0]
    author = f" ({name})" if name else ""
    text = [head.rstrip(), f"    {output.visible(entry['subject'] + author)}"]
    if entry.get("message"):
        text.extend(f"    {paint('error', part)}" for part in entry["message"].splitlines())
    for change in entry["changes"][:CHANGES_SHOWN]:
        sign = paint(change["action"], _SIGNS[change["action"]])
        text.append(f"    {sign} {change['kind']} {change['name']}")
    hidden = entry["change_count"] - min(len(entry["changes"]), CHANGES_SHOWN)
    if hidden > 0:
        text.append(f"    … and {hidden} more")
    return text
