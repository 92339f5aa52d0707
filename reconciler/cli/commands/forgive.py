"""`kakehi forgive`: those whom a rate limit refuses may ask again, as if they had not yet."""

from typing import Annotated, Any

from reconciler.cli.asking import ask
from reconciler.cli.exits import DONE, TIMEOUT, CommandError, UsageError
from reconciler.cli.output import count, line, print_json
from reconciler.cli.parameters import LIMITS, Argument, AsJson, Option, RuntimeDir
from reconciler.cli.unheard import unheard
from schemas.values.text import visible


def forgive(
    limit: Annotated[
        str | None,
        Argument(
            "LIMIT",
            help="One of `kakehi show limits`: policy/POLICY/NAME, frontend/NAME/NAME.",
            completes=LIMITS,
        ),
    ] = None,
    who: Annotated[
        str | None,
        Option("--who", metavar="WHO", help="One of those who are limited, as it is shown."),
    ] = None,
    everybody: Annotated[
        bool, Option("--all", help="All limits, those included that have refused nobody yet.")
    ] = False,
    as_json: AsJson = False,
    runtime_dir: RuntimeDir = None,
) -> int:
    """Let those who are refused by a rate limit ask again, at once.

    What they have used is forgotten, in every worker; the limit itself stays as it is.

    Examples:
      kakehi forgive policy/api-limit/hourly --who 203.0.113.7
      kakehi forgive --who 203.0.113.7
      kakehi forgive --all
    """
    if everybody == (limit is not None or who is not None):
        raise UsageError(
            "who is meant: say a limit, --who, or --all alone", "kakehi show limits lists them"
        )
    result = ask(runtime_dir, "limits", {"limit": limit, "who": who, "forgive": True})
    if as_json and not result["unheard"]:
        print_json(result)
        return DONE
    if not as_json:
        _tell(result)
    if result["unheard"]:
        message = f"it is not forgiven everywhere: {unheard(result)}"
        raise CommandError(message, code=TIMEOUT).with_report(result)
    return DONE


def _tell(result: dict[str, Any]) -> None:
    found = {(row["limit"], row["who"]) for row in result["limited"]}
    for name, client in sorted(found):
        line(f"{visible(name)}: {visible(client)} may ask again")
    if result["more"]:
        line(f"and {count(result['more'], 'other')}")
    if not found:
        line("nobody of those is limited now.")
