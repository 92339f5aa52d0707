"""`kakehi drain` and `kakehi undrain`: an overlay that takes a backend out of service for a time.

It is no configuration: git is not touched, `status` shows who drained what and until when, and it
ends by itself. What should last belongs into a commit (`weight: 0`).
"""

import os
import re
from typing import Annotated, Any

from reconciler.cli import output
from reconciler.cli.asking import ask
from reconciler.cli.exits import DONE, TIMEOUT, CommandError, UsageError
from reconciler.cli.outlasting import ask_within
from reconciler.cli.parameters import (
    BACKENDS,
    DRAINED,
    Argument,
    AsJson,
    Option,
    RuntimeDir,
    milliseconds,
)
from reconciler.cli.unheard import unheard
from schemas.values.text import visible

GRACE_S = 5.0
WAIT = "30s"
_HEARD_AGAIN = "its successor hears of it; kakehi status says when that serves"
_ADDRESS = re.compile(r"[0-9.]+(:[0-9]+)?|\[[0-9A-Fa-f:.]+\](:[0-9]+)?|[0-9A-Fa-f]*:[0-9A-Fa-f:.]+")

_BACKEND = (
    "The backend; or an address (10.0.0.7, 10.0.0.7:8080): all backends of that machine, in every "
    "cluster."
)


Owner = Annotated[
    str | None, Option("--owner", metavar="NAME", help="Who does it [default: your login].")
]


def drain(
    backend: Annotated[str, Argument("CLUSTER/BACKEND", help=_BACKEND, completes=BACKENDS)],
    wait: Annotated[
        bool, Option("--wait", help="Return when the last request there has ended.")
    ] = False,
    timeout: Annotated[
        str | None,
        Option("--timeout", metavar="TIME", help="How long to wait, with --wait [default: 30s]."),
    ] = None,
    expires: Annotated[
        str,
        Option("--for", metavar="TIME", help="When it ends by itself [default: 1h]; or `forever`."),
    ] = "1h",
    owner: Owner = None,
    as_json: AsJson = False,
    runtime_dir: RuntimeDir = None,
) -> int:
    """Send no new requests to a backend, and let those in flight end.

    Examples:
      kakehi drain shop/shop-1 --wait && ssh shop-1 reboot
      kakehi drain shop/shop-1 --for 15m --owner deploy-bot
      kakehi drain 10.0.0.7 --wait
      kakehi undrain shop/shop-1
    """
    _check(backend)
    who = _who(owner)
    if timeout is not None and not wait:
        raise UsageError(
            "--timeout bounds --wait, and that is missing",
            "add --wait; how long the drain lasts is said by --for",
        )
    timeout = timeout or WAIT
    limit_s = milliseconds(timeout, "--timeout") / 1_000
    ttl_s = None if expires == "forever" else milliseconds(expires, "--for") / 1_000
    if wait and ttl_s is not None and ttl_s < limit_s and not as_json:
        output.note(f"note: the drain ends by itself after {expires}, before --timeout ({timeout})")
    fields = {"backend": backend, "owner": who, "ttl_s": ttl_s, "wait": wait}

    def asked(left_s: float) -> dict[str, Any]:
        return ask(runtime_dir, "drain", {**fields, "timeout_s": left_s}, left_s + GRACE_S)

    result = ask_within(runtime_dir, asked, limit_s) if wait else asked(limit_s)
    if not as_json:
        _tell_others(result, who)
        _tell_not_kept(result)
    _check_done(result, timeout)
    if as_json:
        output.print_json(result)
    else:
        requests = output.count(result["active"], "request")
        output.line(f"{_named(result)} drained {_until(result)}; {requests} in flight")
        for cluster in result["without_backend"]:
            means = result.get("served_by", {}).get(cluster, "its frontends get 503")
            if cluster in result["unnoticed"]:
                means = "no client notices"
            output.line(f"no backend of cluster {cluster} takes requests now: {means}")
        for cluster in result["left_unhealthy"]:
            output.line(f"no backend that is left of cluster {cluster} is healthy")
    return DONE


def undrain(
    backend: Annotated[str, Argument("CLUSTER/BACKEND", help=_BACKEND, completes=DRAINED)],
    owner: Owner = None,
    as_json: AsJson = False,
    runtime_dir: RuntimeDir = None,
) -> int:
    """Put a drained backend back into service.

    Examples:
      kakehi undrain shop/shop-1
    """
    _check(backend)
    result = ask(runtime_dir, "undrain", {"backend": backend, "owner": _who(owner)})
    if not as_json:
        _tell_not_kept(result)
    takes = "takes" if len(result["backends"]) == 1 else "take"
    done = f"{', '.join(result['backends'])} {takes} requests again"
    if result["unheard"]:
        message = f"{done}, but not everywhere: {unheard(result)}"
        raise CommandError(message, _HEARD_AGAIN, TIMEOUT).with_report(result)
    if as_json:
        output.print_json(result)
    else:
        output.line(done)
    return DONE


def _check(backend: str) -> None:
    is_name = backend.count("/") == 1 and not backend.startswith("/") and not backend.endswith("/")
    if not is_name and not _ADDRESS.fullmatch(backend):
        raise UsageError(
            f"{backend!r} is not CLUSTER/BACKEND, and no IP address",
            "list them: kakehi show backend",
        )


def _check_done(result: dict[str, Any], timeout: str) -> None:
    """Raises `CommandError` where the backend may have requests, or get new ones."""
    if result["ended"]:
        hint = "who did: kakehi history"
        if _are_expired(result):
            hint = "drain again, for longer: --for"
        raise CommandError(_again(result), hint, TIMEOUT).with_report(result)
    if result["timed_out"]:
        message = f"{_named(result)} drained, but after {timeout} {_in_flight(result['active'])}"
        raise CommandError(message, unheard(result), TIMEOUT).with_report(result)
    if result["unheard"]:
        message = f"{_named(result)} drained, but not everywhere: {unheard(result)}"
        raise CommandError(message, _HEARD_AGAIN, TIMEOUT).with_report(result)


def _are_expired(result: dict[str, Any]) -> bool:
    return all(each["how"] == "expired" for each in result["ended"])


def _again(result: dict[str, Any]) -> str:
    """Who takes requests although it was to be drained, and why."""
    names = [each["backend"] for each in result["ended"]]
    why = "its time is over" if _are_expired(result) else "undrained meanwhile"
    return f"{', '.join(names)} {'takes' if len(names) == 1 else 'take'} requests again: {why}"


def _named(result: dict[str, Any]) -> str:
    backends = result["backends"]
    return f"{', '.join(backends)} {'is' if len(backends) == 1 else 'are'}"


def _tell_not_kept(result: dict[str, Any]) -> None:
    if result["not_kept"]:
        output.note(f"note: the next start of the daemon will not know of it: {result['not_kept']}")


def _tell_others(result: dict[str, Any], who: str) -> None:
    """Say whose drain it was before."""
    for each in result["others"]:
        until = output.moment(each["expires_at"]) if each["expires_at"] else "it is undrained"
        since = output.moment(each["since"])
        output.note(
            f"note: {each['backend']} was drained by "
            f"{visible(each['owner']) or 'somebody'} since {since}, "
            f"until {until}; now it is {visible(who)}'s"
        )


def _who(owner: str | None) -> str:
    if owner is not None and not owner.strip():
        raise UsageError("--owner needs a name", "without --owner it is your login")
    return _login() if owner is None else owner


def _login() -> str:
    import pwd

    try:
        return os.environ.get("SUDO_USER") or pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"


def _in_flight(active: int) -> str:
    if active == 0:
        return "a worker that leaves, or has just been found, may still have requests"
    return f"there {'is' if active == 1 else 'are'} {output.count(active, 'request')} in flight"


def _until(result: dict[str, Any]) -> str:
    expires = result["expires_at"]
    return f"until {output.moment(expires)}" if expires else "until it is undrained"
