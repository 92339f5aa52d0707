"""`kakehi show`: what the proxy runs right now, entity by entity, and where each was written."""

from typing import Annotated, Any

from reconciler.cli import output
from reconciler.cli.exits import DONE
from reconciler.cli.outlasting import ask_next
from reconciler.cli.parameters import SHOWN, Argument, AsJson, RuntimeDir
from reconciler.cli.unheard import unheard
from schemas.values.text import visible


def show(
    entity: Annotated[
        str | None,
        Argument(
            "[KIND[/NAME]]",
            help="One kind or one entity; a backend is CLUSTER/BACKEND. Or: limits, backends.",
            completes=SHOWN,
        ),
    ] = None,
    as_json: AsJson = False,
    runtime_dir: RuntimeDir = None,
) -> int:
    """Show running entities with the file and line they come from.

    Values of one entity are printed in full, as they run, all defaults included. `limits` shows
    whom rate limits refuse now, and who has how many requests in flight where `concurrency` bounds
    them: addresses as they are, values of headers and cookies as a hash. And how many requests the
    limits of each policy have refused, or would have (`dry_run`), since the workers began.
    `backends` shows all of them, or with `backends/CLUSTER` those of one: who is drained, and what
    health checks have found, since when, and why.

    Examples:
      kakehi show
      kakehi show frontend
      kakehi show backend/shop/shop-1 --json
      kakehi show limits
      kakehi show backends/shop
    """
    if entity == "limits":
        return _show_limits(runtime_dir, as_json=as_json)
    kind, _, name = (entity or "").partition("/")
    if kind == "backends":
        return _show_backends(runtime_dir, name or None, as_json=as_json)
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


def _show_backends(runtime_dir: str | None, cluster: str | None, *, as_json: bool) -> int:
    result = ask_next(runtime_dir, "backends", {"cluster": cluster})
    if as_json:
        output.print_json(result)
        return DONE
    rows = [
        [
            each["name"],
            each["address"],
            _state(each),
            _age(each["for_s"]),
            _age(each["took_s"]),
            visible(each["fault"] or ""),
        ]
        for each in result["backends"]
    ]
    _print_rows(("backend", "address", "state", "for", "took", "why"), rows, result["more"])
    if result["problem"]:
        output.note(f"backends are not checked: {visible(result['problem'])}")
    return DONE


def _state(found: dict[str, Any]) -> str:
    if found["drained"]:
        return "drained"
    if not found["weight"]:
        return "weight 0"
    return found["health"] or "not checked"


def _age(seconds: float | None) -> str:
    if seconds is None:
        return ""
    for unit, each in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        if seconds >= each:
            return f"{int(seconds // each)}{unit}"
    return f"{seconds * 1_000:.0f}ms"


def _show_limits(runtime_dir: str | None, *, as_json: bool) -> int:
    result = ask_next(runtime_dir, "limits", {})
    if as_json:
        output.print_json(result)
        return DONE
    limited = [
        [
            visible(row["limit"]),
            visible(row["who"]),
            str(row["refused"]),
            f"{-(-row['wait_ms'] // 1000)}s",
        ]
        for row in result["limited"]
    ]
    if limited:
        _print_rows(("limit", "who", "refused", "may ask in"), limited, result["more"])
    else:
        output.line("nobody is limited now.")
    in_flight = [
        [visible(row["limit"]), visible(row["who"]), str(row["requests"]), str(row["most"])]
        for row in result["in_flight"]
    ]
    if in_flight:
        output.line("")
        _print_rows(("limit", "who", "in flight", "of"), in_flight, result["more_in_flight"])
    counts = [
        [each["policy"], *(str(each[key]) for key in ("rate_limited", "crowded", "dry_run"))]
        for each in result["policies"]
    ]
    if counts:
        output.line("")
        _print_rows(("policy", "too often", "too many at once", "only tried"), counts, 0)
    if result["unheard"]:
        output.note(unheard(result, "is not in it") or "")
    return DONE


def _print_rows(head: tuple[str, ...], rows: list[list[str]], more: int) -> None:
    for text in output.table(head, rows, output.painter()):
        output.line(text)
    if more:
        output.line(f"and {more} more")


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
