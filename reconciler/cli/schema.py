"""`kakehi schema`: the JSON Schema of the language, for editors and checkers."""

from typing import Annotated

from reconciler.cli.exits import DONE, UsageError
from reconciler.cli.options import Argument
from reconciler.cli.output import line


def schema(
    kind: Annotated[
        str | None, Argument("[KIND]", help="Only this kind: listener, cluster, backend, …")
    ] = None,
) -> int:
    """Print the JSON Schema of configuration files, or of one kind of entity.

    Examples:
      kakehi schema > kakehi.schema.json
      kakehi schema frontend
    """
    import json

    from schemas.entity import KINDS
    from schemas.jsonschema import json_schema

    if kind is not None and kind not in KINDS:
        raise UsageError(f"there is no kind {kind}", f"the kinds are {', '.join(KINDS)}")
    line(json.dumps(json_schema(kind), indent=2, ensure_ascii=False))
    return DONE
