"""The life of a daemon: starts the parts, and ends them in order. No part knows it.

Called by `starting` beside. SIGINT and `kakehi stop` end everything, workers drained; SIGTERM ends
the control plane alone, and the workers go on serving until the next daemon adopts them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from functools import partial
from typing import Any

from reconciler import log
from reconciler.daemon import wiring
from reconciler.daemon.options import DaemonOptions
from reconciler.daemon.rehearsing import rehearse
from reconciler.materials.completing import Machine
from reconciler.source.git.repository_errors import RepositoryError
from reconciler.source.source import Source
from reconciler.storage.store import Store
from reconciler.workers.watching.runtime_directory import RuntimeDirectory

# A start waits so long for the first commit to be served before it calls itself ready regardless.
READY_WAIT_S = 30.0
# They mean nothing to a daemon, and would end it.
_MEANINGLESS = (
    signal.SIGUSR2,
    signal.SIGALRM,
    signal.SIGVTALRM,
    signal.SIGPROF,
    signal.SIGIO,
    signal.SIGPWR,
    signal.SIGSTKFLT,
)


class Daemon:
    """All parts of a process, from its first socket to its last."""

    def __init__(
        self,
        options: DaemonOptions,
        store: Store,
        machine: Machine,
        source: Source,
        places: int,
        runtime: RuntimeDirectory,
    ) -> None:
        """`places`: so many workers serve already."""
        self._places = places
        self._loop = asyncio.get_running_loop()
        self._drain_asked = 0
        self._loop.set_exception_handler(_stray)
        for note in store.notes.told():
            log.warning(note)
        self._base = wiring.ground(options, store, machine, source, runtime)
        self._workers = wiring.worker_plane(self._base)
        self._commits = wiring.commit_plane(self._base, self._workers)
        self._control = wiring.control_socket(self._base, self._workers, self._commits)

    async def run(self) -> None:
        """From the first socket to the last."""
        self._base.store.write_apart()
        await self._check_source()
        self._commits.applied_ref.resume(self._base.store.running.commit)
        for number, drain in ((signal.SIGINT, True), (signal.SIGTERM, False)):
            self._loop.add_signal_handler(number, self._on_signal, drain)
        self._loop.add_signal_handler(signal.SIGHUP, self._retry)
        self._loop.add_signal_handler(signal.SIGUSR1, self._workers.supervisor.reopen_logs)
        for number in _MEANINGLESS:
            # Not SIG_IGN, which what we start would inherit.
            self._loop.add_signal_handler(number, _pass)
        self._control.open()
        log.info(
            "kakehi runs",
            directory=self._base.source.directory,
            ref=self._base.source.shown_ref,
            epoch=self._base.store.epoch,
            generation=self._base.store.running.generation,
            pid=os.getpid(),
        )
        self._workers.systemd.adopt_passed()
        parts = self._base.parts
        parts.start("watchdog", self._workers.systemd.watchdog)
        parts.start("service manager", self._workers.systemd.repeat)
        parts.start("tickets", partial(self._workers.tickets.run, self._workers.send_ticket_keys))
        keeping = partial(self._base.runtime.keep, self._control, self._workers.supervisor)
        parts.start("runtime directory", keeping)
        parts.start("auditing", self._workers.auditing.run)
        parts.start("auditing rows", self._commits.row_audit.run)
        parts.start("auditing files", self._commits.material_audit.run)
        parts.start("liveness", self._workers.liveness.run)
        parts.start("binding", self._workers.binding.run)
        parts.start("strays", self._workers.strays.run)
        parts.start("probing", self._workers.probing.run)
        try:
            # One beyond the wanted number serves until it is known what is wanted.
            self._workers.supervisor.scale(max(self._base.sizing.count(), self._places))
            parts.start("reconciling", self._serve)
            drain = await self._base.ending.asked()
        finally:
            self._workers.systemd.stopping()
            await parts.stop(but=[slot.part for slot in self._workers.supervisor.slots])
            self._commits.watcher.stop()
            self._workers.drains.stop()
        await self._commits.applied_ref.settled()
        await self._base.store.settled()
        await self._leave(drain)

    async def _check_source(self) -> None:
        """Without what to follow and without a state there is nothing to run: say so and end."""
        try:
            self._base.source.check_ref()
        except RepositoryError as error:
            is_stalled = self._base.source.is_stalled
            if self._base.store.running.generation == 0 and self._places == 0 and not is_stalled:
                raise
            if is_stalled and self._base.store.running.generation == 0:
                log.warning("there is nothing to serve yet", reason=error)
            elif is_stalled or self._base.options.ref is None:
                log.warning("serving the last committed state", reason=error)
            else:
                # To end here would be an outage for a slip of the pen.
                log.error(
                    "cannot follow what --ref names: serving the last committed state",
                    reason=error,
                )
            self._base.outcomes.held(str(error))
            return
        self._base.following.keep(self._base.source)
        elsewhere = self._base.following.warning(self._base.source)
        if elsewhere is not None:
            log.warning(elsewhere)

    async def _serve(self) -> None:
        """After the workers' start: finish what was begun, then follow the repository."""

        def admin() -> str | None:
            return self._base.store.settings.admin

        if not self._commits.admin.resume(admin()):
            self._base.parts.start(
                "metrics", partial(self._commits.admin.keep_resuming, admin), once=True
            )
        await self._commits.runner.settle_in()
        await self._commits.runner.finish()
        if not self._base.store.running.is_empty:
            self._workers.supervisor.scale(self._base.sizing.count())
        self._commits.shortages.tell()
        self._workers.drains.schedule()
        if self._base.options.remote is not None:
            fetching = partial(
                self._base.fetching.run, self._base.source, self._commits.reconciler.wake
            )
            self._base.parts.start("fetching", fetching)
        self._base.parts.start("readiness", self._say_ready, once=True)
        # Not before there are workers to answer the authority.
        self._base.parts.start("certifying", self._workers.certifying.run)
        self._base.parts.start("issuers", self._workers.issuers.run)
        await self._commits.reconciler.run()

    async def _say_ready(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(READY_WAIT_S):
                await self._commits.reconciler.looked.wait()
        self._workers.systemd.ready()
        # The first change would wait for all of it.
        self._base.store.copy_log_if_due()
        while self._base.store.running.generation == 0:
            await self._base.announcing.wait(READY_WAIT_S)
        await self._commits.reconciler.asked()
        await rehearse(self._base.store, self._base.stager)
        await asyncio.to_thread(self._base.store.materials.copy)

    async def _leave(self, drain: bool) -> None:
        if drain:
            drain_ms = self._base.store.settings.drain_timeout
            log.info("ending: requests in flight may finish", drain_ms=drain_ms)
            await self._workers.supervisor.stop(drain_ms)
            await self._workers.probing.end()
        else:
            log.info("the daemon leaves, the workers go on serving")
            self._workers.supervisor.detach()
            self._workers.probing.leave()
            self._workers.sockets.close()
        self._workers.rates.close()
        self._workers.health.close()
        self._commits.admin.close()
        self._base.ending.over()
        await self._control.close()

    # What signals tell.

    def _retry(self) -> None:
        self._commits.reconciler.retry()
        self._workers.certifying.retry()
        self._workers.issuers.retry()
        self._base.fetching.fetch_now()

    def _on_signal(self, drain: bool) -> None:
        self._drain_asked += 1
        if self._base.ending.has_begun and self._drain_asked > 1:
            self._workers.supervisor.kill()
        self._base.ending.ask(drain=drain)


def _pass() -> None:
    """Nothing: see `_MEANINGLESS`."""


def _stray(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What no part has caught, as one line: a callback of the event loop failed."""
    failure = context.get("exception")
    doing = str(context.get("message", "running the event loop"))
    if failure is None:
        log.error("internal error", reason=doing)
    else:
        log.internal_error(doing, failure)
