"""Joins the parts of a daemon, from below: each is given what it needs when it is made.

Three floors: what all stand on, the workers with what is told and asked beside commits, and a
commit's way with those who tell of it. What a part has to say to one beside or above it goes to an
observer (`observing` beside), which is made before whoever tells it, of what is there by then: so
nobody leads back to itself. Nothing is started here.
"""

from __future__ import annotations

import asyncio
from functools import partial

from reconciler.acme.certifying import Certifying
from reconciler.catalog.relations import CHECKED, FETCHED, relations_of, url_and_ca
from reconciler.catalog.tls.coverage import claims, ordered
from reconciler.daemon.condition import Health, Shortages, Warnings
from reconciler.daemon.ending import Ending
from reconciler.daemon.observing import LoopTold, Rewriting, WorkersTold, service_line
from reconciler.daemon.options import DaemonOptions
from reconciler.daemon.planes import CommitPlane, Ground, WorkerPlane
from reconciler.issuers.keeping import UNKNOWN_KEYS, IssuerKeys, WantedKeys, fetched_directory
from reconciler.loop.applied_ref import AppliedRef
from reconciler.loop.reconcile import Reconciler
from reconciler.loop.repair.mending import Mending
from reconciler.loop.repair.rebuilding import Rebuilding
from reconciler.loop.stager import Stager
from reconciler.materials.completing import Machine
from reconciler.materials.external import ExternalFiles
from reconciler.parts import Parts
from reconciler.planning.sizing import Sizing
from reconciler.reporting.announcing import Announcing
from reconciler.reporting.control.answers import ControlAnswers
from reconciler.reporting.control.backends import BackendsTold
from reconciler.reporting.control.control_socket import ControlSocket
from reconciler.reporting.control.draining import Draining
from reconciler.reporting.control.limiting import Limiting
from reconciler.reporting.control.status import Status
from reconciler.reporting.control.waiting import Waiting
from reconciler.reporting.expiry import Expiry
from reconciler.reporting.monitoring.admin import AdminListener
from reconciler.reporting.monitoring.measuring import Measuring
from reconciler.reporting.outcomes import Outcomes
from reconciler.source.following import Following
from reconciler.source.remote.fetching import Fetching
from reconciler.source.source import Source
from reconciler.source.watcher import Watcher
from reconciler.storage.content_audit import MaterialAudit
from reconciler.storage.kept.drains import Drains
from reconciler.storage.kept.history import History
from reconciler.storage.reading.state import StoredState
from reconciler.storage.rows import RowAudit
from reconciler.storage.store import Store
from reconciler.systemd.service import Systemd
from reconciler.transaction.runner import Runner
from reconciler.workers.listening.descriptors import Reserve
from reconciler.workers.listening.sockets import SocketTable
from reconciler.workers.probing.leading import Probing
from reconciler.workers.probing.wanted import CheckedBackends
from reconciler.workers.slots.bringup import Bringup
from reconciler.workers.slots.slot import Roster
from reconciler.workers.slots.supervisor import Supervisor
from reconciler.workers.telling.challenges import ChallengeKeeper
from reconciler.workers.telling.health import HealthTableKeeper
from reconciler.workers.telling.overlay import Overlaying, overlay_of
from reconciler.workers.telling.rates import RateTableKeeper
from reconciler.workers.telling.tickets import TicketKeeper
from reconciler.workers.watching.auditing import Auditing
from reconciler.workers.watching.binding import Binding
from reconciler.workers.watching.liveness import Liveness
from reconciler.workers.watching.runtime_directory import RuntimeDirectory
from reconciler.workers.watching.strays import Strays
from schemas.messages import control


def ground(
    options: DaemonOptions,
    store: Store,
    machine: Machine,
    source: Source,
    runtime: RuntimeDirectory,
) -> Ground:
    """Reads what was kept of another start."""
    # Before all else: a limit that is lowered later is below what is opened last.
    reserve = Reserve()
    following = Following(store, source.directory, options.ref)
    stager = Stager(source, machine, lambda: store.materials.directory)
    return Ground(
        options=options,
        store=store,
        machine=machine,
        runtime=runtime,
        began=asyncio.get_running_loop().time(),
        parts=Parts(),
        reserve=reserve,
        announcing=Announcing(),
        wake=asyncio.Event(),
        fetching=Fetching(options.remote, options.fetch_interval_s),
        following=following,
        source=source,
        stager=stager,
        mending=Mending(source, store, stager),
        outcomes=Outcomes(source, store, History(store)),
        sizing=Sizing(store, options.workers),
        ending=Ending(),
    )


def _probing(base: Ground, roster: Roster, health: HealthTableKeeper) -> Probing:
    store = base.store
    wanted = CheckedBackends(store, checked_clusters)
    told = base.announcing.announce
    return Probing(base.options.runtime_dir, store.epoch, wanted, health, roster.workers, told)


def worker_plane(base: Ground) -> WorkerPlane:
    """Sockets, slots, drains, tickets, challenges; who asks workers, who orders certificates."""
    store, options = base.store, base.options

    roster, sockets = Roster(), SocketTable()
    overlaying = Overlaying(roster.workers)

    def send_overlay(drains: Drains) -> None:
        overlaying.tell(overlay_of(drains))
        base.announcing.announce()

    drains = Drains(store, send_overlay, base.outcomes.drains_expired)
    overlay = partial(overlay_of, drains)
    tickets = TicketKeeper(options.state_dir, store, ask=store.place.ask)
    challenges = ChallengeKeeper(options.state_dir, roster.workers, store.place.ask)
    rates = RateTableKeeper(options.runtime_dir)
    health = HealthTableKeeper(options.runtime_dir)
    bringup = Bringup(
        store, sockets, overlay, tickets.path, challenges.path, rates, health, base.mending
    )
    systemd = Systemd(sockets, base.parts, partial(service_line, store, base.outcomes))
    told = WorkersTold(base.announcing, systemd, base.ending, store)
    supervisor = Supervisor(
        options.runtime_dir, store.epoch, roster, sockets, bringup, base.parts, told
    )
    return WorkerPlane(
        sockets=sockets,
        systemd=systemd,
        drains=drains,
        overlaying=overlaying,
        tickets=tickets,
        rates=rates,
        health=health,
        probing=_probing(base, roster, health),
        challenges=challenges,
        supervisor=supervisor,
        auditing=Auditing(store, supervisor),
        liveness=Liveness(supervisor, overlay),
        binding=Binding(supervisor, bringup, store),
        strays=Strays(supervisor, sockets, options.runtime_dir),
        certifying=Certifying(
            options.state_dir,
            challenges,
            lambda: ordered(store.running.state),
            lambda hostname: claims(store.running.state, hostname),
            lambda key: partial(store.materials.content_of, store.running.state.get(key)),
            memory=store,
            tell=store.notes.add,
            issued=base.wake.set,
        ),
        issuers=IssuerKeys(
            fetched_directory(options.state_dir),
            lambda: wanted_keys(base),
            lambda: sum(slot.counters.gauge(UNKNOWN_KEYS) for slot in list(supervisor.slots)),
            came=base.wake.set,
        ),
        send_overlay=partial(send_overlay, drains),
    )


def checked_clusters(state: StoredState, most: int | None) -> list[str]:
    """The clusters of a state whose backends are checked: all, or so many at most."""
    found = state.related_under(CHECKED, "", most)
    return [key.name for keys in found.values() for key in keys]


def wanted_keys(base: Ground) -> dict[str, WantedKeys]:
    """The sets of keys that the running state names by URL, by where they are put."""
    found: dict[str, WantedKeys] = {}
    for term in base.store.running.state.terms(FETCHED):
        url, ca = url_and_ca(term)
        path = base.machine.fetched_path(url, ca)
        if path is not None:
            found[path] = WantedKeys(url, path, ca)
    return found


def commit_plane(base: Ground, workers: WorkerPlane) -> CommitPlane:
    """The loop, the transactions that it runs, and the numbers about both."""
    store, supervisor = base.store, workers.supervisor
    expiry, external = Expiry(store), ExternalFiles(base.stager.opened)
    measuring = Measuring(
        store,
        supervisor,
        base.outcomes,
        base.sizing.count_after,
        expiry,
        base.source,
        workers.auditing,
        workers.certifying,
        external,
        workers.issuers,
        workers.probing,
        base.parts,
        base.began,
    )
    rebuilding = Rebuilding(store, base.stager, supervisor)
    health = Health(measuring, base.runtime, rebuilding)
    admin = AdminListener(measuring.metrics, health.answer, base.reserve)
    applied_ref = AppliedRef(
        base.source, base.outcomes, store, base.options.state_dir, store.notes.add
    )
    runner = Runner(store, supervisor, workers.sockets, admin, recorded=applied_ref.recorded)
    shortages = Shortages(store, base.sizing)
    watcher = Watcher(base.wake.set, doubted=applied_ref.doubt)
    rewriting = Rewriting(base, workers, applied_ref)
    told = LoopTold(base, workers, measuring, shortages, rewriting, external, watcher)
    reconciler = Reconciler(
        base.source,
        store,
        runner,
        base.outcomes,
        base.stager,
        external,
        rebuilding,
        base.machine,
        applied_ref,
        told,
        base.announcing,
        base.wake,
    )
    relate = partial(relations_of, machine=base.machine)
    return CommitPlane(
        applied_ref=applied_ref,
        measuring=measuring,
        expiry=expiry,
        admin=admin,
        runner=runner,
        reconciler=reconciler,
        watcher=watcher,
        row_audit=RowAudit(store, relate, reconciler.found_damaged),
        material_audit=MaterialAudit(store, base.mending.mend_those_of),
        shortages=shortages,
    )


def _draining(base: Ground, workers: WorkerPlane) -> Draining:
    left_unhealthy = workers.probing.left_unhealthy
    overlaying, outcomes = workers.overlaying, base.outcomes
    return Draining(
        base.store, workers.supervisor, workers.drains, overlaying, outcomes, left_unhealthy
    )


def control_socket(
    base: Ground,
    workers: WorkerPlane,
    commits: CommitPlane,
) -> ControlSocket:
    """Those who answer what is asked of the daemon."""
    store, supervisor, reconciler = base.store, workers.supervisor, commits.reconciler
    draining = _draining(base, workers)
    warnings = Warnings(
        commits.admin,
        commits.measuring,
        commits.row_audit,
        base.reserve,
        base.runtime,
        supervisor,
        workers.strays,
        commits.shortages,
        base.store,
    )
    status = Status(
        source=base.source,
        store=store,
        supervisor=supervisor,
        reconciler=reconciler,
        runner=commits.runner,
        draining=draining,
        following=base.following,
        expiry=commits.expiry,
        auditing=workers.auditing,
        certifying=workers.certifying,
        issuers=workers.issuers,
        parts=base.parts,
        further_warnings=warnings.found,
        unserved=warnings.unserved,
        unhealthy=workers.probing.unhealthy,
        began=base.began,
        fetched_at=lambda: base.fetching.fetched_at,
        remote=base.fetching.shown_remote,
    )
    waiting = Waiting(
        base.source,
        store,
        reconciler,
        supervisor,
        commits.runner,
        base.announcing,
        workers.strays.told,
        lambda: commits.applied_ref.is_settled,
    )
    answers = ControlAnswers(
        source=base.source,
        store=store,
        reconciler=reconciler,
        proposing=reconciler.proposing,
        waiting=waiting,
        status=status,
        draining=draining,
        limiting=Limiting(supervisor, store),
        backends=BackendsTold(store, draining, workers.probing),
        certifying=workers.certifying,
        fetch_now=base.fetching.fetch_now,
        stop=base.ending.stop,
    )
    path = base.options.runtime_dir / control.SOCKET_NAME
    return ControlSocket(path, answers.answer, base.reserve)
