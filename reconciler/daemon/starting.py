"""A start, before there are parts: limits, the state directory, and what workers hold.

`run` is what `kakehi run` calls. What workers serve comes before what files say; then the daemon
runs until it is ended.
"""

from __future__ import annotations

import contextlib
import errno
import resource
import sys
from functools import partial

import uvloop

from reconciler import garbage, log
from reconciler.acme.certifying import issued_directory
from reconciler.catalog.relations import relations_of
from reconciler.daemon.daemon import Daemon
from reconciler.daemon.options import DaemonOptions
from reconciler.errors import KakehiError
from reconciler.issuers.keeping import fetched_directory
from reconciler.loop.repair.lost import lost_since
from reconciler.loop.repair.recovery import Recovery
from reconciler.materials.completing import Machine
from reconciler.materials.sealed import Keyring
from reconciler.source.following import Following
from reconciler.source.probing import Probe, StalledError
from reconciler.source.source import Source
from reconciler.storage.file.database import DamagedError
from reconciler.storage.store import Store
from reconciler.workers.watching.runtime_directory import RuntimeDirectory

# How long a thread that computes (staging, the audit of rows) keeps the loop waiting each time that
# the loop has let go of the interpreter, which it does with each query and each send.
_SWITCH_S = 0.0005


def run(options: DaemonOptions) -> int:
    """Runs until a signal or `kakehi stop`; returns the exit code."""
    sys.setswitchinterval(_SWITCH_S)
    garbage.put_off()
    with log.in_background():
        return _run_told(options)


def _run_told(options: DaemonOptions) -> int:
    try:
        uvloop.run(_run(options))
    except KakehiError as error:
        log.error(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # noqa: BLE001  # no traceback reaches a user
        log.internal_error("running the daemon", error)
        return 1
    return 0


async def _run(options: DaemonOptions) -> None:
    _raise_open_files_limit()
    runtime = RuntimeDirectory(options.runtime_dir)
    try:
        machine = Machine(
            Keyring(options.identity),
            issued_directory(options.state_dir),
            fetched_directory(options.state_dir),
        )
        store = Store(options.state_dir, partial(relations_of, machine=machine))
        try:
            daemon = await _begin(options, store, machine, runtime)
            await daemon.run()
        finally:
            store.close()
    finally:
        runtime.close()


async def _begin(
    options: DaemonOptions, store: Store, machine: Machine, runtime: RuntimeDirectory
) -> Daemon:
    """All parts of a daemon, which have read what they need.

    What cannot be read is begun anew, from what workers serve or from the repository.
    """
    try:
        source = await _opened(options, store)
        places = await _recover(options, store, machine, source)
        return Daemon(options, store, machine, source, places, runtime)
    except (DamagedError, OSError) as error:
        # To whoever writes it is a disk that cannot be written.
        found = store.damage.take() or error
        if isinstance(found, OSError) and found.errno != errno.EIO:
            raise
        store.start_anew(found)
    source = await _opened(options, store)
    places = await _recover(options, store, machine, source)
    return Daemon(options, store, machine, source, places, runtime)


async def _opened(options: DaemonOptions, store: Store) -> Source:
    """What is followed. Where it does not answer, nobody touches it until the loop has asked again.

    All that was committed lies in the state directory, and is served without it.
    """
    directory = options.directory.absolute()
    wanted = Following(store, directory, options.ref).wanted
    source = Source(directory, wanted, options.remote)
    try:
        await Probe(source.probe).wait()
    except StalledError as error:
        source.probed(stalled=str(error))
    return source


async def _recover(options: DaemonOptions, store: Store, machine: Machine, source: Source) -> int:
    """What workers serve comes before what files say; returns how many places they serve in."""
    places = await Recovery(store, options.runtime_dir, source, machine).run()
    # Of what runs in part, workers need what they hold of the rest.
    if store.running.commit is not None:
        with contextlib.suppress(OSError):
            store.materials.forget_unused()
    lost = lost_since(store, source)
    if lost is not None:
        store.notes.add(lost)
    return places


def _raise_open_files_limit() -> None:
    """The workers inherit it: two descriptors a proxied connection."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
