"""`kakehi explain`: which entities would serve a request, and why the other frontends would not."""

from typing import Annotated, Any

from reconciler.cli import output
from reconciler.cli.exits import DONE, UsageError
from reconciler.cli.outlasting import ask_next
from reconciler.cli.parameters import URLS, Argument, AsJson, Option, RuntimeDir
from schemas.values.text import visible

LOST_SHOWN = 10
"""The nearest of the frontends that did not win; `--json` has all."""


def explain(
    url: Annotated[str, Argument("URL", help="As a client would ask for it.", completes=URLS)],
    method: Annotated[
        str, Option("--method", "-X", metavar="METHOD", help="The method [default: GET].")
    ] = "GET",
    header: Annotated[
        tuple[str, ...],
        Option("--header", "-H", metavar="'NAME: VALUE'", help="A header; may be repeated."),
    ] = (),
    client_address: Annotated[
        str | None,
        Option(
            "--client-address",
            metavar="IP",
            help="Who asks, where frontends are for some networks alone.",
        ),
    ] = None,
    as_json: AsJson = False,
    runtime_dir: RuntimeDir = None,
) -> int:
    """Tell which listener, frontend, cluster and backend would serve a request, and why.

    Nothing is sent: the daemon goes through the entities that run.

    Examples:
      kakehi explain http://127.0.0.1:8080/api/catalog/7
      kakehi explain http://127.0.0.1:8080/ -H 'X-Canary: always'
      kakehi explain http://shop.example.com/checkout -X POST --json
      kakehi explain https://shop.example.com:8443/ --client-address 10.1.2.3
    """
    headers = [_header(text) for text in header]
    asked: dict[str, Any] = {"url": url, "method": method, "headers": headers}
    if client_address is not None:
        asked["client_address"] = client_address
    result = ask_next(runtime_dir, "explain", asked)
    if as_json:
        output.print_json(result)
        return DONE
    for text in _lines(result, output.painter()):
        output.line(text)
    return DONE


def _header(text: str) -> list[str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise UsageError(f"{text!r} is not a header", "write it as -H 'Name: value'")
    # A line break at the end is one that no client can send: the daemon says so.
    return [name.strip(" \t"), value.strip(" \t")]


def _lines(result: dict[str, Any], paint: output.Painter) -> list[str]:
    rows = []
    for found in result["listeners"]:
        detail = found["address"] + (", https" if found["protocol"] == "https" else "")
        rows.append(("listener", found["name"], detail, output.place(found["source"])))
        rows.extend(
            ("certificate", each["name"], found["handshake"], output.place(each["source"]))
            for each in found["certificates"]
        )
    for kind in ("frontend", "cluster"):
        if result[kind] is not None:
            rows.append((kind, result[kind]["name"], "", output.place(result[kind]["source"])))
        if kind == "frontend":
            rows.extend(
                ("", each["key"], each["words"], _said_by(each)) for each in result["stages"]
            )
    for found in result["backends"]:
        share = "drained" if found["drained"] else f"weight {found['weight']}"
        share += ", backup" if found["backup"] else ""
        fault = f", TLS fails: {found['tls_fault']}" if found["tls_fault"] else ""
        fault += f", cannot be connected to: {found['unreached']}" if found["unreached"] else ""
        fault += f", {visible(found['health'])}" if found["health"] else ""
        detail = f"{found['address']}, {share}{fault}"
        rows.append(("backend", found["name"], detail, output.place(found["source"])))
    widths = [max((len(row[i]) for row in rows), default=0) for i in range(3)]
    text = []
    for kind, name, detail, where in rows:
        cells = f"{kind:<{widths[0]}}  {name:<{widths[1]}}  {detail:<{widths[2]}}"
        text.append(f"{cells}  {paint('dim', where)}".rstrip())
    if result["message"]:
        style = "bold" if result["status"] is None else "warning"
        text.extend(["", paint(style, visible(result["message"]))])
    return text + _lost(result["lost"], paint)


def _lost(lost: list[dict[str, Any]], paint: output.Painter) -> list[str]:
    if not lost:
        return []
    rows = [
        (found["name"], visible(found["reason"]), output.place(found["source"]))
        for found in lost[:LOST_SHOWN]
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(2)]
    text = ["", "Others, and why not:"]
    for name, reason, where in rows:
        text.append(f"  {name:<{widths[0]}}  {reason:<{widths[1]}}  {paint('dim', where)}")
    if len(lost) > LOST_SHOWN:
        text.append(f"  … and {len(lost) - LOST_SHOWN} more")
    return text


def _said_by(stage: dict[str, Any]) -> str:
    policy = stage["by"]
    # A daemon of before says it of policies alone.
    where = output.place(policy["source"] if policy else stage.get("source"))
    return f'policy "{policy["name"]}" {where}' if policy else where
