"""The parts of a daemon, by floor: each record has those that one function of `wiring` joins.

Read by `daemon` and `observing` beside. A part itself is given what it needs, and no record.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from reconciler.acme.certifying import Certifying
from reconciler.daemon.condition import Shortages
from reconciler.daemon.ending import Ending
from reconciler.daemon.options import DaemonOptions
from reconciler.issuers.keeping import IssuerKeys
from reconciler.loop.applied_ref import AppliedRef
from reconciler.loop.reconcile import Reconciler
from reconciler.loop.repair.mending import Mending
from reconciler.loop.stager import Stager
from reconciler.materials.completing import Machine
from reconciler.parts import Parts
from reconciler.planning.sizing import Sizing
from reconciler.reporting.announcing import Announcing
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
from reconciler.storage.rows import RowAudit
from reconciler.storage.store import Store
from reconciler.systemd.service import Systemd
from reconciler.transaction.runner import Runner
from reconciler.workers.listening.descriptors import Reserve
from reconciler.workers.listening.sockets import SocketTable
from reconciler.workers.probing.leading import Probing
from reconciler.workers.slots.supervisor import Supervisor
from reconciler.workers.telling.challenges import ChallengeKeeper
from reconciler.workers.telling.health import HealthTableKeeper
from reconciler.workers.telling.overlay import Overlaying
from reconciler.workers.telling.rates import RateTableKeeper
from reconciler.workers.telling.tickets import TicketKeeper, tell_of_keys
from reconciler.workers.watching.auditing import Auditing
from reconciler.workers.watching.binding import Binding
from reconciler.workers.watching.liveness import Liveness
from reconciler.workers.watching.runtime_directory import RuntimeDirectory
from reconciler.workers.watching.strays import Strays
from schemas.record import record


@record
class Ground:
    """What all parts stand on."""

    options: DaemonOptions
    store: Store
    machine: Machine
    runtime: RuntimeDirectory
    began: float
    parts: Parts
    reserve: Reserve
    announcing: Announcing
    wake: asyncio.Event
    """Set by whoever knows that the loop should look."""
    fetching: Fetching
    following: Following
    source: Source
    stager: Stager
    mending: Mending
    outcomes: Outcomes
    sizing: Sizing
    ending: Ending


@record
class WorkerPlane:
    """The workers, and what they are told and asked beside commits."""

    sockets: SocketTable
    systemd: Systemd
    drains: Drains
    overlaying: Overlaying
    tickets: TicketKeeper
    rates: RateTableKeeper
    health: HealthTableKeeper
    probing: Probing
    challenges: ChallengeKeeper
    supervisor: Supervisor
    auditing: Auditing
    liveness: Liveness
    binding: Binding
    strays: Strays
    certifying: Certifying
    issuers: IssuerKeys
    send_overlay: Callable[[], None]

    def send_ticket_keys(self) -> None:
        """Tells the workers that the ticket keys are new."""
        tell_of_keys(self.supervisor.in_service.values(), self.tickets.path)


@record
class CommitPlane:
    """A commit's way, and what is measured of it."""

    applied_ref: AppliedRef
    measuring: Measuring
    expiry: Expiry
    admin: AdminListener
    runner: Runner
    reconciler: Reconciler
    watcher: Watcher
    row_audit: RowAudit
    material_audit: MaterialAudit
    shortages: Shortages
