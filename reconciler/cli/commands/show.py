"""`kakehi show`: what the proxy runs right now, entity by entity, and where each was written."""

from typing import Annotated, Any

from reconciler.cli import output
from reconciler.cli.exits import DONE
from reconciler.cli.outlasting import ask_next
from reconciler.cli.parameters import ENTITIES, Argument, AsJson, RuntimeDir


def show(
    entity: Annotated[
        str | None,
        Argument(
            "[KIND[/NAME]]",
            help="One kind or one entity; a backend is CLUSTER/BACKEND.",
            completes=ENTITIES,
        ),
    ] = None,
    as_json: AsJson = False,
    runtime_dir: RuntimeDir = None,
) -> int:
    """Show running entities with the file and line they come from.

    Values of one entity are printed in full, as they run, all defaults included.

    Examples:
      kakehi show
      kakehi show frontend
      kakehi show backend/shop/shop-1 --json
    """
    kind, _, name = (entity or "").partition("/")
    result = ask_next(runtime_dir, "show", {"kind": kind or None, "entity": name or None})
    if as_json:
        output.print_json(result)
        return DONE
    paint = output.painter()
    if name:
        for found in result["entities"]:
            _print_entity(found, paint)
        return DONE
    rows = [
        [found["kind"], found["name"], output.place(found["source"])]
        for found in result["entities"]
    ]
    for text in output.table(("kind", "name", "source"), rows, paint):
        output.line(text)
    return DONE


def _print_entity(found: dict[str, Any], paint: output.Painter) -> None:
    from schemas.kinds.registry import written

    output.line(
        f"{paint('bold', found['kind'] + ' ' + found['name'])}  {output.place(found['source'])}"
    )
    for path, value in fields(written(found["kind"], (), found["value"])):
        output.line(f"  {path}: {output.value(value)}")


def fields(value: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """Return a canonical value as (dotted path, plain value) pairs, in order."""
    if not isinstance(value, dict) or not value:
        return [(prefix, value)]
    return [
        pair
        for key, inner in sorted(value.items())
        for pair in fields(inner, f"{prefix}.{key}" if prefix else key)
    ]
