"""`kakehi status`: which commit runs where, and what went wrong last."""

import sys
import time
from typing import Annotated, Any

from reconciler.cli import output
from reconciler.cli.asking import ask
from reconciler.cli.exits import DONE, DRIFT, UsageError
from reconciler.cli.interrupts import raised
from reconciler.cli.parameters import AsJson, Option, RuntimeDir
from schemas.values.text import visible

REFRESH_S = 0.5


# What takes its time uses processors; see `reconciler.loop.large.loading`.
_TELL_IDLE_S = 10


def status(
    as_json: AsJson = False,
    watch: Annotated[bool, Option("--watch", "-w", help="Refresh until Ctrl-C.")] = False,
    detailed_exitcode: Annotated[
        bool,
        Option(
            "--detailed-exitcode", help="Exit with 9 when a worker runs another state than that."
        ),
    ] = False,
    runtime_dir: RuntimeDir = None,
) -> int:
    """Show which commit every worker runs, and the last commit that was refused.

    Examples:
      kakehi status
      kakehi status --watch
      kakehi status --json | jq -r .commit
      kakehi status --detailed-exitcode || page somebody
    """
    if watch and (as_json or detailed_exitcode):
        other = "--json" if as_json else "--detailed-exitcode"
        raise UsageError(f"--watch and {other} contradict each other")
    if watch:
        if not sys.stdout.isatty():
            raise UsageError(
                "--watch redraws a terminal, and stdout is none",
                "leave it out; or see it change by: watch kakehi status",
            )
        return _watch(runtime_dir)
    result = ask(runtime_dir, "status")
    if as_json:
        output.print_json(result)
    else:
        for text in lines(result, output.painter()):
            output.line(text)
    return DRIFT if detailed_exitcode and drifted(result) else DONE


def drifted(result: dict[str, Any]) -> list[int]:
    """Return the workers that run another state than what was committed."""
    return [
        worker["id"]
        for worker in result["workers"]
        if (worker["generation"], worker["digest"]) != (result["generation"], result["digest"])
    ]


def lines(result: dict[str, Any], paint: output.Painter) -> list[str]:
    """Return a status as text."""
    text = [*_heading(result, paint), ""]
    text.extend(output.table(_HEADER, [_row(worker) for worker in result["workers"]], paint))
    text.extend(_remarks(result, paint))
    return text


def _heading(result: dict[str, Any], paint: output.Painter) -> list[str]:
    entities = result.get("entities", {})
    counted = ", ".join(
        output.count(count, kind)
        for kind, count in entities.items()
        if kind != "settings" and (count or kind not in ("certificate", "policy"))
    )
    source = result["source"]
    facts = [
        ("commit", paint("bold", (result["commit"] or "none yet")[:12])),
        ("generation", f"{result['generation']}, digest {result['digest'][:12]}"),
        ("following", visible(f"{source['ref']} of {source['directory']}")),
        *([("remote", _remote(source))] if source["remote"] else []),
        ("entities", counted or "none"),
        *([("expiry", _expiry(result["certificates"]))] if result["certificates"] else []),
        ("up", output.duration(max(result["uptime_s"], 1) * 1_000)),
    ]
    return [f"{paint('dim', f'{name:<11}')}{value}" for name, value in facts]


def _remote(source: dict[str, Any]) -> str:
    """Return the remote and how old what was fetched from it is."""
    name = visible(source["remote"])
    fetched_at = source["fetched_at"]
    if fetched_at is None:
        return f"{name}, not fetched since the start"
    from datetime import UTC, datetime

    age = (datetime.now(UTC) - datetime.fromisoformat(fetched_at)).total_seconds()
    return f"{name}, fetched {output.duration(max(0.0, age) * 1_000)} ago"


_HEADER = ("worker", "pid", "cpu", "state", "generation", "digest", "connections", "requests")


def _row(worker: dict[str, Any]) -> list[str]:
    return [
        str(worker["id"]),
        str(worker["pid"]),
        str(worker["cpu"]),
        worker["state"],
        str(worker["generation"]),
        worker["digest"][:12],
        str(worker["connections"]),
        str(worker["requests"]),
    ]


def _remarks(result: dict[str, Any], paint: output.Painter) -> list[str]:
    """Return what an operator should know beyond the table; empty when all is well."""
    remarks = []
    for drain in result["drains"]:
        expires = drain["expires_at"]
        until = f"until {output.moment(expires)}" if expires else "until it is undrained"
        owner = f" by {visible(drain['owner'])}" if drain["owner"] else ""
        remarks.append(
            f"{paint('update', 'drained')}  {drain['backend']}{owner} {until}, "
            f"{output.count(drain['active'], 'request')} in flight"
        )
    # A daemon of before says nothing of it.
    loading = result.get("loading")
    if loading is not None:
        since = loading.get("since")
        remarks.append(
            f"{paint('update', 'loading')}  {loading['commit'][:12]}: {_progress(loading)}"
            + (f", since {output.moment(since)}" if since else "")
        )
    transaction = result["transaction"]
    if transaction is not None:
        waiting = ", ".join(str(worker) for worker in transaction["waiting_for"])
        remarks.append(
            f"{paint('update', 'changing')}  to {transaction['commit'][:12]}, phase "
            f"{transaction['phase']}" + (f", waiting for worker {waiting}" if waiting else "")
        )
    retry = result["retry"]
    if retry is not None:
        remarks.append(
            f"{paint('warning', 'trying again')}  {retry['commit'][:12]} in "
            f"{retry['next_s']:g} s, after {output.count(retry['attempts'], 'attempt')}: "
            f"{visible(retry['reason'])} (now: kakehi retry)"
        )
    fetch_problem = result["source"]["fetch_problem"]
    if fetch_problem:
        remarks.append(f"{paint('warning', 'fetching fails')}  {visible(fetch_problem)}")
    # Before anything was fetched this is the reason why the state is held, too.
    problem = result["source"]["problem"]
    if problem not in (None, fetch_problem):
        remarks.append(f"{paint('warning', 'holding')}  {visible(problem)}")
    drift = result["drift"]
    if drift is not None:
        what = ", ".join(drift["differing"]) or "entities that nobody committed"
        when = output.moment(drift["found_at"])
        remarks.append(
            f"{paint('error', 'drift')}  worker {drift['worker']} did not hold generation "
            f"{drift['generation']} as committed ({what}); replaced {when}"
        )
    remarks.extend(f"{paint('warning', 'warning')}  {visible(text)}" for text in result["warnings"])
    error = result["last_error"]
    if error is not None:
        what = "refused" if error["stage"] != "files" else "files do not fit"
        remarks.append(f"{paint('error', what)}  {error['commit'][:12]}  {error['message']}")
    return ["", *remarks] if remarks else []


def _progress(loading: dict[str, Any]) -> str:
    idle_s = loading["idle_s"]
    if idle_s >= _TELL_IDLE_S:
        return f"nothing has happened for {idle_s} s, {loading['phase']}"
    if loading["phase"] != "reading":
        return f"{loading['phase']} {output.count(loading['files'], 'file')}"
    known = loading["read"] - loading["parsed"]
    remembered = f", {known:,} of them known from before" if known else ""
    return f"reading {loading['read']:,} of {loading['files']:,} files{remembered}"


def _watch(runtime_dir: str | None) -> int:
    """Redraw the status in place; Rich keeps the screen whole while numbers change."""
    from rich.live import Live
    from rich.text import Text

    paint = output.painter()
    with raised(), Live(auto_refresh=False) as screen:
        while True:
            result = ask(runtime_dir, "status")
            # Rich takes all that looks like a terminal's own for that: ours is all there is.
            shown = (output.harmless(text, sys.stdout) for text in lines(result, paint))
            screen.update(Text.from_ansi("\n".join(shown)), refresh=True)
            time.sleep(REFRESH_S)


def _expiry(certificates: list[dict[str, Any]]) -> str:
    """Return the certificate that is the first to expire."""
    first = certificates[0]
    days = first["days_left"]
    when = f"in {output.count(days, 'day')}" if days >= 0 else "it has expired"
    return f"{first['not_after'][:10]}, {when} ({first['kind']} {first['name']})"
