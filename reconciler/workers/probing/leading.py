"""Leads the prober: has one there while anything is checked, tells it who, and hears what it finds.

One that an earlier daemon has left is adopted, with all that it knows; one that ends, or does not
answer, has a successor, and workers read what it has found meanwhile. What is checked follows what
runs, behind each commit and never before it: no commit waits for the prober. Called by
`reconciler.daemon`.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path

from reconciler import log
from reconciler.errors import MachineError
from reconciler.parts import heard_again_within
from reconciler.patience import within
from reconciler.storage.reading.state import StoredState
from reconciler.workers.linked.link import WorkerGoneError
from reconciler.workers.linked.worker import Worker
from reconciler.workers.probing import finding
from reconciler.workers.probing.link import ProberLink
from reconciler.workers.probing.wanted import CheckedBackends, CheckedPart
from reconciler.workers.processes.process import Process
from reconciler.workers.telling.health import HealthTableKeeper
from schemas.changes.change import Change, of_kinds
from schemas.entities.diagnostic import Diagnostic
from schemas.entities.entity import EntityKey
from schemas.kinds.backend import Backend
from schemas.messages import probing
from schemas.messages.files import identity

# How often it is asked how all is, and thereby whether it answers.
_REPORT_S = 1.0
_IDLE_S = 20.0
_HEARD_WITHIN_S = 60.0
_BACKOFF_FIRST_S = 0.1
_BACKOFF_MAX_S = 5.0
_STABLE_AFTER_S = 10.0
_END_S = 2.0
# A change of more is told as a whole list.
_CHANGED_MAX = 1_000
# So many backends are named in `status`.
_SAID_MAX = 10
# So many turns at a time have a line each.
_LINES_MAX = 50


def said(row: probing.HealthRow) -> str:
    """One that gets no requests, as `status` tells of it."""
    if row.health == "unchecked":
        why = f": {row.fault}" if row.fault else ""
        return f"backend {row.name} gets no requests before its first good check{why}"
    reason = row.fault or "its last check was good"
    return f"backend {row.name} is not healthy for {shown(row.for_ms)}: {reason}"


def shown(ms: int) -> str:
    """A time, as people read it."""
    for unit, each in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)):
        if ms >= each:
            return f"{ms // each}{unit}"
    return f"{ms}ms"


def _is_out(change: Change) -> bool:
    """Whether a change takes a backend out of service."""
    return change.after is None or not change.after.typed(Backend).weight


class Probing:
    """The prober of this host, as one daemon leads it."""

    def __init__(
        self,
        runtime_dir: Path,
        epoch: int,
        checked: CheckedBackends,
        table: HealthTableKeeper,
        workers: Callable[[], Iterable[Worker]],
        turned: Callable[[], None],
    ) -> None:
        """`turned`: the health of a backend is another one."""
        self._runtime_dir = runtime_dir
        self._epoch = epoch
        self._checked = checked
        self._table = table
        self._workers = workers
        self._has_turned = turned
        self._moment = self._told = ""
        # None: more than are told one by one.
        self._changed: set[EntityKey] | None = set()
        self._woken = asyncio.Event()
        self._link: ProberLink | None = None
        self._process: Process | None = None
        self.report: probing.Reported | None = None
        """What it has told last; None: nothing yet, or nothing is checked."""
        self.problem: str | None = None
        """Why there is none, for `status`."""
        self.refused: dict[str, str] = {}
        """Backends that it cannot check, and why."""
        self.restarts = 0

    def applied(self, changes: Iterable[Change]) -> None:
        """A commit runs."""
        self._moment = self._checked.moment
        if self._changed is not None:
            keys = (each.key for each in of_kinds(changes, "cluster", "backend"))
            self._changed.update(islice(keys, _CHANGED_MAX + 1))
            if len(self._changed) > _CHANGED_MAX:
                self._changed = None
        self._woken.set()

    async def rows(self, names: list[str]) -> list[probing.HealthRow]:
        """What is known of these by now; of none where it does not answer."""
        if self._link is not None and names:
            with contextlib.suppress(WorkerGoneError):
                reply = await self._link.ask(probing.Report(names=names))
                if isinstance(reply, probing.Reported):
                    return reply.rows
        return []

    def healthy(self, state: StoredState, most: int) -> dict[str, bool]:
        """Of so many backends that are checked, whether they get requests, where that is known."""
        report = self.report
        if report is None:
            return {}
        out = {row.name for row in report.rows}
        if report.unusable > len(out):
            # More are out than are told of, so that nothing follows from not being named.
            return {name: False for name in self._checked.names(state, most) if name in out}
        return {name: name not in out for name in self._checked.names(state, most)}

    def left_unhealthy(self, gone: Iterable[str]) -> list[str]:
        """The clusters of these backends whose others are not healthy, every one."""
        if self.report is None:
            return []
        leaving, out = set(gone), {row.name for row in self.report.rows}
        found = []
        for cluster in sorted({name.partition("/")[0] for name in leaving - out}):
            left = set(self._checked.left(cluster)) - leaving
            if left and left <= out:
                found.append(cluster)
        return found

    def warnings(self, changes: Iterable[Change]) -> list[Diagnostic]:
        """What a plan should say of clusters that it leaves to backends that are not healthy."""
        if self.report is None or not self.report.unusable:
            return []
        some = islice(of_kinds(changes, "backend"), _CHANGED_MAX)
        gone = [each for each in some if each.before is not None and _is_out(each)]
        clusters = self.left_unhealthy(each.key.name for each in gone)
        told = []
        for cluster in clusters:
            first = next(each for each in gone if each.key.name.startswith(f"{cluster}/"))
            where = (first.after or first.before).provenance  # type: ignore[union-attr]  # above
            text = f'cluster "{cluster}" is left to backends that are not healthy'
            told.append(Diagnostic("warning", where.file, where.line, where.column, text))
        return told

    def unhealthy(self) -> list[str]:
        """A sentence for each backend that gets no requests since checks say so, and for us."""
        found = [f"backends are not checked: {self.problem}"] if self.problem else []
        refused = sorted(self.refused.items())
        found += [f"backend {name} is not checked: {why}" for name, why in refused[:_SAID_MAX]]
        if self.report is not None:
            rows = sorted(self.report.rows, key=lambda row: row.name)
            found += [said(row) for row in rows[:_SAID_MAX]]
            if self.report.unusable > _SAID_MAX:
                found.append(f"{self.report.unusable - _SAID_MAX} more backends are not healthy")
        return found

    @property
    def pid(self) -> int | None:
        """Its process."""
        return self._process.pid if self._process is not None else None

    async def run(self) -> None:
        """Have one there while anything is checked, until cancelled."""
        self._moment = self._checked.moment
        failures = 0
        loop = asyncio.get_running_loop()
        finding_left = True
        while True:
            heard_again_within(_HEARD_WITHIN_S)
            if self._checked.is_empty:
                if finding_left:
                    finding.end(self._runtime_dir)
                self._table.is_wanted, self.report, self.problem = False, None, None
                await self._wake(_IDLE_S)
                continue
            finding_left, began = False, loop.time()
            try:
                await self._lead()
                failures = 0
                continue
            except (MachineError, OSError) as error:
                self.problem = str(error)
                log.warning("the prober is not there", reason=error)
            self.restarts += 1
            failures = 0 if loop.time() - began > _STABLE_AFTER_S else failures + 1
            if failures > 1:
                heard_again_within(_HEARD_WITHIN_S)
                await asyncio.sleep(min(_BACKOFF_MAX_S, _BACKOFF_FIRST_S * 2 ** (failures - 2)))

    async def end(self) -> None:
        """End it: no worker reads what it finds any more."""
        if self._process is None:
            finding.end(self._runtime_dir)
            return
        self._process.signal(signal.SIGTERM)
        if not await self._process.wait(_END_S):
            await self._process.kill()

    def leave(self) -> None:
        """It goes on; the next daemon adopts it."""
        if self._process is not None:
            self._process.forget()

    async def _wake(self, timeout_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with within(timeout_s):
                await self._woken.wait()
        self._woken.clear()

    async def _lead(self) -> None:
        """One prober's life. Returns when nothing is checked any more. Raises `MachineError`."""
        link, welcome = await self._adopt() or await self._start()
        self._link = link
        try:
            await self._hand_table_over(link, welcome)
            self._told = welcome.moment
            if self._told != self._moment or self._changed is None:
                await self._tell_whole(link)
            self.problem = None
            while not self._checked.is_empty:
                heard_again_within(_HEARD_WITHIN_S)
                await self._tell_difference(link)
                await self._hear(link)
                await self._wake(_REPORT_S)
            link.tell(probing.End())
            if self._process is not None:
                await self._process.wait(_END_S)
        except WorkerGoneError:
            link.close("it is replaced")
            await self._see_off()
            raise
        finally:
            self._link = None
            link.close("the daemon leaves")

    async def _see_off(self) -> None:
        """It has ended, or does not answer."""
        process, self._process = self._process, None
        if process is not None and not await process.wait(0.2):
            await process.kill()

    async def _adopt(self) -> tuple[ProberLink, probing.Greeted] | None:
        try:
            found = finding.find(self._runtime_dir)
        except OSError:
            found = None
        if found is None:
            return None
        connection, pid = found
        process, link = Process(pid), ProberLink(connection, self._turned)
        try:
            welcome = await self._greet(link)
        except WorkerGoneError as error:
            log.warning("a prober that runs cannot be adopted", pid=pid, reason=error)
            link.close("not adopted")
            await process.kill()
            return None
        except asyncio.CancelledError:
            link.close("the daemon leaves")
            process.forget()
            raise
        self._process = process
        log.info("adopted the running prober", pid=pid)
        return link, welcome

    async def _start(self) -> tuple[ProberLink, probing.Greeted]:
        pid = await finding.start(self._runtime_dir)
        self._process = Process(pid, is_child=True)
        link: ProberLink | None = None
        try:
            # Until it listens by itself the kernel names us as who does.
            found = finding.connect(self._runtime_dir)
            if found is None:
                raise WorkerGoneError("its control socket is gone")
            link = ProberLink(found[0], self._turned)
            welcome = await self._greet(link)
        except BaseException as error:
            if link is not None:
                link.close("it did not start")
            if isinstance(error, Exception):
                await self._see_off()
            raise
        log.info("the prober runs", pid=pid)
        return link, welcome

    async def _greet(self, link: ProberLink) -> probing.Greeted:
        reply = await link.ask(probing.Greeting(epoch=self._epoch))
        if not isinstance(reply, probing.Greeted):
            raise WorkerGoneError(f"it answered hello by {reply.type}")
        if reply.protocol != probing.PROTOCOL:
            raise WorkerGoneError("it is of another version")
        return reply

    async def _hand_table_over(self, link: ProberLink, welcome: probing.Greeted) -> None:
        """Workers get it as well, from now on."""
        self._table.is_wanted = True
        with self._table.opened() as file:
            if file is not None and welcome.table != identity(file):
                taken = await link.ask(probing.Table(), [file])
                if isinstance(taken, probing.TableTaken) and taken.problem:
                    log.warning("what the prober finds is not written", reason=taken.problem)
        self._table.tell(self._workers())

    async def _tell_whole(self, link: ProberLink) -> None:
        """A list in parts; what changes meanwhile is told as a difference behind it."""
        self._changed, moment, self.refused = set(), self._moment, {}
        await self._tell(link, CheckedPart("[]", [], []), begins=True)
        for part in self._checked.whole():
            heard_again_within(_HEARD_WITHIN_S)
            await self._tell(link, part)
        await self._tell(link, CheckedPart("[]", [], []), ends=True, moment=moment)
        self._told = moment

    async def _tell_difference(self, link: ProberLink) -> None:
        if self._changed is None:
            await self._tell_whole(link)
            return
        moment = self._moment
        if self._told == moment and not self._changed:
            return
        changed, self._changed = self._changed, set()
        for part in self._checked.difference(changed):
            for name in part.removes:
                self.refused.pop(name, None)
            await self._tell(link, part)
        await self._tell(link, CheckedPart("[]", [], []), moment=moment)
        self._told = moment

    async def _tell(
        self,
        link: ProberLink,
        part: CheckedPart,
        *,
        begins: bool = False,
        ends: bool = False,
        moment: str = "",
    ) -> None:
        message = probing.Check(
            begins=begins,
            ends=ends,
            moment=moment,
            puts=part.puts,
            removes=part.removes,
            material_dir=self._checked.material_dir,
            materials=part.materials,
        )
        reply = await link.ask(message)
        for name, reason in reply.refused if isinstance(reply, probing.Checking) else ():
            self.refused[name] = reason
            log.warning("a backend cannot be checked", backend=name, reason=reason)

    async def _hear(self, link: ProberLink) -> None:
        reply = await link.ask(probing.Report())
        if isinstance(reply, probing.Reported):
            self.report = reply

    def _turned(self, message: probing.Turned) -> None:
        for turn in message.turns[:_LINES_MAX]:
            if turn.is_healthy:
                log.info("a backend is healthy", backend=turn.name)
            else:
                log.warning("a backend is not healthy", backend=turn.name, reason=turn.reason)
        more = len(message.turns) - _LINES_MAX + message.lost
        if more > 0:
            log.warning("more backends have become healthy or unhealthy", backends=more)
        self._woken.set()
        self._has_turned()
