"""`kakehi run`: the daemon, in the foreground."""

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, NoReturn

from reconciler.cli.exits import UsageError
from reconciler.cli.interrupts import raised
from reconciler.cli.parameters import (
    COMMITS,
    DIRECTORY,
    ConfigDirectory,
    Identity,
    Option,
    RuntimeDir,
    milliseconds,
)
from reconciler.cli.paths import identity_file, runtime_directory, state_directory

FollowedRef = Annotated[
    str | None,
    Option(
        "--ref",
        metavar="BRANCH",
        completes=COMMITS,
        help="The branch to follow [default: the one of the last start, at first HEAD's].",
    ),
]
Workers = Annotated[
    int | None,
    Option("--workers", metavar="N", help="Worker processes, whatever the settings say."),
]
Remote = Annotated[
    str | None,
    Option(
        "--remote",
        metavar="REMOTE",
        help="Fetch the branch from this remote or URL, and follow it there.",
    ),
]
FetchInterval = Annotated[
    str | None,
    Option(
        "--fetch-interval",
        metavar="TIME",
        help="How often to fetch, with --remote [default: 30s].",
    ),
]
StateDir = Annotated[
    str | None,
    Option(
        "--state-dir",
        metavar="DIR",
        completes=DIRECTORY,
        env="KAKEHI_STATE_DIR",
        help="Where the state is kept [default: $XDG_STATE_HOME/kakehi, as root /var/lib/kakehi].",
    ),
]


def run(
    directory: ConfigDirectory = ".",
    ref: FollowedRef = None,
    workers: Workers = None,
    remote: Remote = None,
    fetch_interval: FetchInterval = None,
    identity: Identity = None,
    runtime_dir: RuntimeDir = None,
    state_dir: StateDir = None,
) -> int:
    """Run the proxy in the foreground, following a branch of a git repository.

    DIR is a working tree, a directory in one, or a bare repository. Only what is committed counts.
    Ctrl-C (SIGINT) ends everything: requests in flight may finish, within `drain_timeout`. SIGTERM
    ends the daemon alone; the workers go on serving and the next `kakehi run` takes them over.

    Examples:
      kakehi run
      kakehi run shop --workers 2
      kakehi run /srv/shop.git --ref production
      kakehi run shop --remote origin --fetch-interval 1m
    """
    _check_workers(workers)
    interval_s = _interval_s(fetch_interval, remote)
    own_runtime, own_state = runtime_directory(runtime_dir), state_directory(state_dir)
    # What is imported stays: there is nothing to collect.
    gc.disable()
    with _zygote():
        from reconciler.daemon.options import DaemonOptions
        from reconciler.daemon.starting import run as run_daemon

        gc.freeze()
        gc.enable()
        options = DaemonOptions(
            directory=Path(directory),
            ref=ref,
            workers=workers,
            runtime_dir=Path(own_runtime),
            state_dir=Path(own_state),
            remote=remote,
            fetch_interval_s=interval_s,
            identity=identity_file(identity),
        )
        _check_apart(own_runtime, own_state)
        if options.remote is None:
            from reconciler.cli.trees.uncommitted import tell_uncommitted

            tell_uncommitted(options)
        with raised():
            code = run_daemon(options)
    _leave(code)


def _check_workers(wanted: int | None) -> None:
    from schemas.kinds.settings import WORKERS_MAX

    if wanted is not None and not 1 <= wanted <= WORKERS_MAX:
        raise UsageError(f"--workers must be from 1 to {WORKERS_MAX}")


def _interval_s(fetch_interval: str | None, remote: str | None) -> float | None:
    """Return how often to fetch, where somebody has said so."""
    if fetch_interval is None:
        return None
    if remote is None:
        raise UsageError("--fetch-interval needs a --remote")
    interval_s = milliseconds(fetch_interval, "--fetch-interval") / 1_000
    if interval_s < 1:
        raise UsageError("--fetch-interval must be 1s or more")
    return interval_s


@contextmanager
def _zygote() -> Iterator[None]:
    """Have what forks workers beside, which goes when we do.

    What daemon and workers both need is imported once; what is imported in here is the daemon's
    alone.
    """
    from proxy import zygote as workers_parent
    from reconciler.workers.processes.forking import zygote

    with suppress(OSError):
        zygote.start(workers_parent.run)
    try:
        yield
    finally:
        zygote.end()


def _check_apart(runtime: str, state: str) -> None:
    """Behind the fork, since it takes a thread: a state directory may not answer."""
    from reconciler.stalling import answer_of

    if answer_of(f"{state}/.", os.path.realpath, "") == os.path.realpath(runtime):
        raise UsageError(
            f"{runtime} cannot be both the runtime and the state directory",
            "give each its own: --runtime-dir, --state-dir",
        )


def _leave(code: int) -> NoReturn:
    """End without what Python does at an end: whatever holds more than memory is closed.

    It would take the rest apart, object by object, and under the feet of threads that a file
    system holds.
    """
    with suppress(OSError):
        sys.stderr.flush()
    sys.stdout.flush()
    os._exit(code)
