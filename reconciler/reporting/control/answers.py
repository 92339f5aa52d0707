"""What the daemon answers: one method per request of `schemas.messages.control`.

Called by `reconciler.reporting.control.control_socket`, which speaks the protocol. `status` and
`draining` have modules of their own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import Any

from reconciler.acme.certifying import Certifying
from reconciler.errors import UnreadableError
from reconciler.language.suggest import did_you_mean
from reconciler.planning.consequences import consequences
from reconciler.reporting.control.backends import BackendsTold
from reconciler.reporting.control.draining import Draining
from reconciler.reporting.control.limiting import Limiting
from reconciler.reporting.control.naming import names
from reconciler.reporting.control.reconciling import Proposes, Reconciling
from reconciler.reporting.control.refusals import RefusedRequestError, near
from reconciler.reporting.control.status import Status
from reconciler.reporting.control.waiting import NoCommitError, Waiting
from reconciler.reporting.explaining.explain import explain
from reconciler.reporting.explaining.keys import files_named, point_at_keys
from reconciler.reporting.explaining.question import UnexplainableError
from reconciler.reporting.explaining.ranking import EngineRouter
from reconciler.source import left_out
from reconciler.source.git.repository_errors import (
    NoConfigurationError,
    RepositoryError,
    UnknownCommitError,
)
from reconciler.source.source import Changed, Head, Source, Unsent
from reconciler.storage.reading.running import Running
from reconciler.storage.store import Store
from schemas.entities.diagnostic import Diagnostic
from schemas.entities.entity import KINDS, Entity, EntityKey
from schemas.entities.secrecy import value_without_secrets
from schemas.kinds.registry import readable, units
from schemas.messages import control, results

# Entities that a plan looks at although they do not change: so many take it a tenth of a second.
_WHOLE_MAX = 500


@dataclass(slots=True)
class ControlAnswers:
    """Everything that may be asked."""

    source: Source
    store: Store
    reconciler: Reconciling
    proposing: Proposes
    waiting: Waiting
    status: Status
    draining: Draining
    limiting: Limiting
    backends: BackendsTold
    certifying: Certifying
    fetch_now: Callable[[], str | None]
    stop: Callable[[], asyncio.Future[None]]

    async def answer(self, request: control.Request) -> Any:
        """The result, or an iterator of the parts of a line. Raises `RefusedRequestError`."""
        # Who waits has an end of his own.
        if not isinstance(request, control.WaitRequest):
            await asyncio.gather(self.store.asked(), self.reconciler.asked())
        return await self._answer(request)

    async def _answer(self, request: control.Request) -> Any:
        match request:
            case control.StatusRequest():
                return await self.status.answer()
            case control.PlanRequest():
                return await self._plan(request)
            case control.WaitRequest():
                return await self._wait(request)
            case control.HistoryRequest(limit=limit):
                await self.store.settled()
                return await asyncio.to_thread(self.reconciler.outcomes.history.answer, limit)
            case control.ShowRequest():
                return self._show(request)
            case control.NamesRequest():
                return self._names(request)
            case control.ExplainRequest():
                return await self._explain(request)
            case control.DrainRequest() | control.UndrainRequest():
                return await self._drain(request)
            case control.LimitsRequest() | control.BackendsRequest():
                return await self._as_it_is(request)
            case control.RetryRequest():
                return self._retry()
            case control.StopRequest():
                await self.stop()
                return {}

    async def _drain(
        self, request: control.DrainRequest | control.UndrainRequest
    ) -> results.DrainResult:
        if isinstance(request, control.UndrainRequest):
            return await self.draining.undrain(request)
        return await self.draining.drain(request)

    async def _as_it_is(
        self, request: control.LimitsRequest | control.BackendsRequest
    ) -> results.LimitsResult | results.BackendsResult:
        if isinstance(request, control.BackendsRequest):
            return await self.backends.answer(request)
        return await self.limiting.answer(request)

    def _retry(self) -> results.RetryResult:
        head, applied = self.reconciler.head, self.store.running.commit
        self.reconciler.retry()
        return {
            "commit": head.commit if head and head.commit != applied else None,
            "applied": applied,
            "certificates": self.certifying.retry(),
            "fetches": self.fetch_now(),
        }

    async def _wait(self, request: control.WaitRequest) -> results.WaitResult:
        try:
            return await self.waiting.wait(request)
        except NoCommitError as error:
            raise RefusedRequestError("usage", str(error)) from None

    # Questions about the configuration.

    async def _plan(self, request: control.PlanRequest) -> results.PlanResult:
        head: Head | None = None
        unsent = Unsent()
        try:
            if request.commit is not None:
                head = self.source.head_of(request.commit)
            commit = head.commit if head and not request.files else None
            unsent = _unsent(request)
            wanted = partial(self._wanted, request, unsent, head)
            meaning = partial(
                consequences, router=EngineRouter(), drained=self.draining.drains.names()
            )
            plan, found, base = await self.proposing.plan(wanted, commit, meaning)
            if plan is not None and len(self.store.running.state) <= _WHOLE_MAX:
                # What does not change is warned of as well.
                every = partial(wanted, whole=True)
                # Only for what is to be said beside the changes: they mean what they meant.
                whole, warnings, _ = await self.proposing.plan(every, commit, lambda *_: {})
                if whole is not None:
                    plan, found = replace(plan, warnings=whole.warnings), warnings
        except NoConfigurationError as error:
            plan, base = None, self.store.running
            found = [Diagnostic("error", "", 0, 0, str(error))]
        except UnknownCommitError as error:
            raise RefusedRequestError("usage", str(error)) from None
        except RepositoryError as error:
            raise RefusedRequestError("not_found", str(error)) from None
        if unsent.named:
            plan, found = None, []
        if plan is not None:
            # What the plan itself is warned of: the number of workers, say.
            found = [*found, *(each for each in plan.warnings if each not in found)]
            told = (*self.status.silent(), *self.status.unserved())
            found += [Diagnostic("warning", "", 0, 0, each) for each in told]
        return {
            "plan": None if plan is None else dict(plan.to_json()),
            "diagnostics": [{**each.to_json(), "rendered": each.render()} for each in found],
            "base": {"commit": base.commit, "generation": base.generation},
            "wants": sorted(unsent.named),
        }

    def _wanted(
        self,
        request: control.PlanRequest,
        unsent: Unsent,
        head: Head | None,
        base: Running,
        *,
        whole: bool = False,
    ) -> Changed:
        """A commit, and files over it, against what runs. Raises `RepositoryError`.

        `whole`: with all files that do not differ from what runs.
        """
        tree = head.tree if head is not None else base.tree
        before = None if whole else base.tree
        changed = Changed({}, (), full=False, tree=base.tree)
        if tree is not None and tree != before:
            changed = self.source.changed(before, tree)
        beside = frozenset(request.beside)
        files, overlay = dict(changed.files), dict[str, bytes | None]()
        for path, text in request.files.items():
            content = None if text is None else text.encode("utf-8", "surrogateescape")
            name = path.encode("utf-8", "surrogateescape")
            if left_out.reason(name) == left_out.NOT_UTF8:
                continue
            overlay[path] = content
            if left_out.is_configuration(name) and path not in beside:
                files[path] = content
        others = changed.others | overlay.keys() | unsent.paths
        return replace(changed, files=files, others=others, overlay=overlay, unsent=unsent)

    def _show(self, request: control.ShowRequest) -> Generator[bytes]:
        kind, name = request.kind, request.entity
        if kind is not None and kind not in KINDS:
            kinds = ", ".join(KINDS)
            meant = did_you_mean(kind, KINDS)
            message = f"there is no kind {kind!r}; {meant or f'there are: {kinds}'}"
            raise RefusedRequestError("usage", message)
        with self.store.snapshot() as seen:
            result = {"generation": seen.generation, "commit": seen.commit}
            kinds_shown = KINDS if kind is None else (kind,)
            found: Iterator[Entity] = chain.from_iterable(map(seen.state.values, kinds_shown))
            if kind is not None and name is not None:
                entity = seen.state.get(EntityKey(kind, name))
                if entity is None:
                    meant = near(seen.state, kind, name)
                    message = f'there is no {kind} "{name}" running{meant}'
                    raise RefusedRequestError("not_found", message)
                found = iter((entity,))
            yield from control.encode_listing(result, "entities", map(_shown, found))

    def _names(self, request: control.NamesRequest) -> results.NamesResult:
        with self.store.snapshot() as seen:
            return {"names": names(seen.state, request.kind, request.under)}

    async def _explain(self, request: control.ExplainRequest) -> results.ExplainResult:
        drained = self.draining.drains.names()
        try:
            with self.store.snapshot() as seen:
                result = await asyncio.to_thread(
                    explain,
                    request,
                    seen.state,
                    drained,
                    self.status.tls_fault,
                    self.status.not_listening(),
                    self.status.without(),
                )
        except UnexplainableError as error:
            raise RefusedRequestError("usage", str(error)) from None
        await self.backends.told(result)
        files = self._committed(files_named(result))
        await asyncio.to_thread(point_at_keys, result, files)
        return result

    def _committed(self, paths: Iterable[str]) -> dict[str, bytes]:
        """Return the files of the running commit, as far as they can be read."""
        commit = self.store.running.commit
        try:
            found = {path: self.source.file_of(commit, path) for path in paths} if commit else {}
        except RepositoryError:
            return {}
        return {path: content for path, content in found.items() if content is not None}


def _unsent(request: control.PlanRequest) -> Unsent:
    """What there is of the working tree beside the files that were sent."""
    reasons = {path: UnreadableError(*why) for path, why in request.unreadable.items()}
    paths = frozenset(request.beside) - request.files.keys()
    return Unsent(paths, explains=request.explains, unreadable=reasons)


def _shown(entity: Entity) -> results.ShownEntity:
    source: results.WrittenAt | None = None
    if (place := entity.place) is not None:
        source = {"file": place.file, "line": place.line, "column": place.column}
    value = value_without_secrets(entity.key.kind, readable(entity))
    return {
        "kind": entity.key.kind,
        "name": entity.key.name,
        "value": value,
        "units": units(entity.key.kind, value),
        "source": source,
    }
