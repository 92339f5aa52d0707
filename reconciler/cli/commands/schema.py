"""`kakehi schema`: the JSON Schemas of the language, and of what the commands print as JSON."""

import sys
from typing import Annotated

from reconciler.cli.exits import DONE, UsageError
from reconciler.cli.parameters import Argument
from reconciler.cli.paths import stored_schema
from reconciler.cli.streams import is_unicode


def _subjects() -> list[str]:
    from reconciler.cli.reports import SUBJECTS
    from schemas.entities.entity import KINDS

    return [*KINDS, *SUBJECTS]


def schema(
    subject: Annotated[
        str | None,
        Argument(
            "[SUBJECT]",
            help="One kind of entity (listener, cluster, …), or a command, for its --json output; "
            "error, for what it prints when it fails. "
            "Without it: configuration files.",
            completes=_subjects,
        ),
    ] = None,
) -> int:
    """Print a JSON Schema: of configuration files, of one kind, or of a command's JSON.

    Examples:
      kakehi schema > kakehi.schema.json
      kakehi schema frontend
      kakehi schema status
    """
    if subject is None:
        _print(stored_schema().rstrip())
        return DONE
    import json

    from reconciler.cli.reports import SUBJECTS, report_schema
    from schemas.describing.jsonschema import json_schema
    from schemas.entities.entity import KINDS

    if subject in SUBJECTS:
        found = report_schema(subject)
    elif subject in KINDS:
        found = json_schema(subject)
    else:
        raise UsageError(
            f"there is no schema of {subject}", f"there are {', '.join((*KINDS, *SUBJECTS))}"
        )
    _print(json.dumps(found, indent=2, ensure_ascii=False))
    return DONE


def _print(text: str) -> None:
    if not is_unicode(sys.stdout):
        import json

        text = json.dumps(json.loads(text), indent=2)
    sys.stdout.write(text + "\n")
