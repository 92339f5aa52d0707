"""`kakehi drain` and `kakehi undrain`: an overlay that takes a backend out of service for a time.

It is no configuration: git is not touched, `status` shows who drained what and until when, and it
ends by itself. What should last belongs into a commit (`weight: 0`).
"""

import os
from typing import Annotated, Any

from reconciler.cli import output
from reconciler.cli.arguments import milliseconds
from reconciler.cli.asking import ask
from reconciler.cli.exits import DONE, TIMEOUT, CommandError, UsageError
from reconciler.cli.options import Argument, AsJson, Option, RuntimeDir

GRACE_S = 5.0

Backend = Annotated[str, Argument("CLUSTER/BACKEND", help="The backend.")]


def drain(
    backend: Backend,
    wait: Annotated[
        bool, Option("--wait", help="Return when the last request there has ended.")
    ] = False,
    timeout: Annotated[
        str, Option("--timeout", metavar="TIME", help="How long to wait [default: 30s].")
    ] = "30s",
    expires: Annotated[
        str,
        Option("--for", metavar="TIME", help="When it ends by itself [default: 1h]; or `forever`."),
    ] = "1h",
    owner: Annotated[
        str | None, Option("--owner", metavar="NAME", help="Who does it [default: your login].")
    ] = None,
    as_json: AsJson = False,
    runtime_dir: RuntimeDir = None,
) -> int:
    """Send no new requests to a backend, and let those in flight end.

    Examples:
      kakehi drain shop/shop-1 --wait && ssh shop-1 reboot
      kakehi drain shop/shop-1 --for 15m --owner deploy-bot
      kakehi undrain shop/shop-1
    """
    _check(backend)
    limit_s = milliseconds(timeout, "--timeout") / 1_000
    ttl_s = None if expires == "forever" else milliseconds(expires, "--for") / 1_000
    result = ask(
        runtime_dir,
        "drain",
        {
            "backend": backend,
            "owner": _login() if owner is None else owner,
            "ttl_s": ttl_s,
            "wait": wait,
            "timeout_s": limit_s,
        },
        limit_s + GRACE_S,
    )
    if result["timed_out"]:
        raise CommandError(
            f"{backend} is drained, but after {timeout} there {_in_flight(result['active'])}",
            code=TIMEOUT,
        ).with_report(result)
    if as_json:
        output.print_json(result)
    else:
        requests = output.count(result["active"], "request")
        output.line(f"{backend} is drained {_until(result)}; {requests} in flight")
    return DONE


def undrain(backend: Backend, as_json: AsJson = False, runtime_dir: RuntimeDir = None) -> int:
    """Put a drained backend back into service.

    Examples:
      kakehi undrain shop/shop-1
    """
    _check(backend)
    result = ask(runtime_dir, "undrain", {"backend": backend})
    if as_json:
        output.print_json(result)
    else:
        output.line(f"{backend} takes requests again")
    return DONE


def _check(backend: str) -> None:
    if backend.count("/") != 1 or backend.startswith("/") or backend.endswith("/"):
        raise UsageError(f"{backend!r} is not CLUSTER/BACKEND", "list them: kakehi show backend")


def _login() -> str:
    import pwd

    try:
        return os.environ.get("SUDO_USER") or pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"


def _in_flight(active: int) -> str:
    return f"{'is' if active == 1 else 'are'} {output.count(active, 'request')} in flight"


def _until(result: dict[str, Any]) -> str:
    expires = result["expires_at"]
    return f"until {output.moment(expires)}" if expires else "until it is undrained"
