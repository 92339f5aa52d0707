"""`kakehi run`: the daemon, in the foreground."""

import gc
import os
import signal
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from reconciler.cli import output
from reconciler.cli.exits import UsageError
from reconciler.cli.parameters import (
    COMMITS,
    DIRECTORY,
    Argument,
    Identity,
    Option,
    RuntimeDir,
    milliseconds,
)
from reconciler.cli.paths import identity_file, runtime_directory, state_directory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from reconciler.daemon.options import DaemonOptions

FILES_MAX = 20_000
"""In a larger working tree nobody waits for what is not committed to be found."""
TELLING_S = 3.0
"""Nor for longer."""
ANSWERS_S = 1.0
"""A repository that does not answer for so long is not asked."""
_AGAIN_S = 0.1


def run(
    directory: Annotated[
        str,
        Argument(
            "[DIR]", help="The config directory [default: the current one].", completes=DIRECTORY
        ),
    ] = ".",
    ref: Annotated[
        str | None,
        Option(
            "--ref",
            metavar="BRANCH",
            completes=COMMITS,
            help="The branch to follow [default: the one of the last start, at first HEAD's].",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        Option("--workers", metavar="N", help="Worker processes, whatever the settings say."),
    ] = None,
    remote: Annotated[
        str | None,
        Option(
            "--remote",
            metavar="REMOTE",
            help="Fetch the branch from this remote or URL, and follow it there.",
        ),
    ] = None,
    fetch_interval: Annotated[
        str | None,
        Option(
            "--fetch-interval",
            metavar="TIME",
            help="How often to fetch, with --remote [default: 30s].",
        ),
    ] = None,
    identity: Identity = None,
    runtime_dir: RuntimeDir = None,
    state_dir: Annotated[
        str | None,
        Option(
            "--state-dir",
            metavar="DIR",
            completes=DIRECTORY,
            env="KAKEHI_STATE_DIR",
            help="Where the state is kept [default: $XDG_STATE_HOME/kakehi, as root "
            "/var/lib/kakehi].",
        ),
    ] = None,
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
    from schemas.kinds.settings import WORKERS_MAX

    if workers is not None and not 1 <= workers <= WORKERS_MAX:
        raise UsageError(f"--workers must be from 1 to {WORKERS_MAX}")
    if fetch_interval is not None and remote is None:
        raise UsageError("--fetch-interval needs a --remote")
    interval_s = None
    if fetch_interval is not None:
        interval_s = milliseconds(fetch_interval, "--fetch-interval") / 1_000
        if interval_s < 1:
            raise UsageError("--fetch-interval must be 1s or more")
    own_runtime, own_state = runtime_directory(runtime_dir), state_directory(state_dir)
    # What is imported stays: there is nothing to collect.
    gc.disable()
    # What daemon and workers both need is imported once; the rest is the daemon's alone.
    from proxy import zygote as workers_parent
    from reconciler.workers.processes.forking import zygote

    with suppress(OSError):
        zygote.start(workers_parent.run)
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
    try:
        _check_apart(own_runtime, own_state)
        if options.remote is None:
            _tell_uncommitted(options)
        code = run_daemon(options)
    finally:
        zygote.end()
    # Whatever holds more than memory is closed. Python would take that apart, object by object, and
    # under the feet of threads that a file system holds.
    with suppress(OSError):
        sys.stderr.flush()
    sys.stdout.flush()
    os._exit(code)


def _check_apart(runtime: str, state: str) -> None:
    """Behind the fork, since it takes a thread: a state directory may not answer."""
    from reconciler.stalling import answer_of

    if answer_of(f"{state}/.", os.path.realpath, "") == os.path.realpath(runtime):
        raise UsageError(
            f"{runtime} cannot be both the runtime and the state directory",
            "give each its own: --runtime-dir, --state-dir",
        )


def _tell_uncommitted(options: "DaemonOptions") -> None:
    """Say what is not in the commit that will be served."""
    from reconciler.cli.trees.working_tree import WorkingTree
    from reconciler.source.git.repository_errors import RepositoryError
    from reconciler.source.probing import answers
    from reconciler.source.source import Source

    directory = options.directory.absolute()
    source = Source(directory, options.ref, options.remote)
    if not answers(source.probe, ANSWERS_S):
        # The daemon tells.
        return
    try:
        with _at_most(TELLING_S):
            head = source.head().commit
            if source.repository.git.is_bare:
                return
            tree = WorkingTree(directory)
            # Without a checkout nobody edits here, and all of the commit would differ.
            few = 0 < tree.size <= FILES_MAX
            text = tree.differing(head).sentence(source.shown_ref) if few else None
    except RepositoryError:
        # The daemon tells.
        text = None
    except Exception as error:  # noqa: BLE001  # what only people edit keeps nobody from serving
        text = f"it is not known what is not committed: {error}"
    if text is not None:
        output.note(f"kakehi run: {text}")


@contextmanager
def _at_most(seconds: float) -> "Iterator[None]":
    """Raise `TimeoutError` in what takes longer, also where it waits for the reader of a pipe."""

    def over(*_: object) -> None:
        if signal.setitimer(signal.ITIMER_REAL, 0) != (0.0, 0.0):
            raise TimeoutError(f"that took over {seconds:g} s")

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
