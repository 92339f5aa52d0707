//! One backend as it runs: its idle connections, its load, and whether it may get new requests.

use std::cell::{Cell, OnceCell, RefCell};
use std::fmt;

use super::health::{BackendKey, Watched};
use crate::runtime::driver::Token;
use crate::runtime::socket::Endpoint;
use crate::state::slot::Slot;
use crate::telemetry::counters::{Field, SlotId, SlotKind};

/// First pause after a failed connect; doubled by each further failure in a row.
const RETRY_AFTER_MS_MIN: u64 = 250;
/// Longest pause before a failing backend is tried again.
const RETRY_AFTER_MS_MAX: u64 = 10_000;

/// A backend of a cluster, from the first request to the cluster on. The same object lives on while its
/// address stays the same, so that its connections, load and failures survive a change of its weight.
pub struct Backend {
    /// `CLUSTER/BACKEND`.
    pub name: String,
    /// Where it listens.
    pub address: Endpoint,
    /// Its share of the requests, as committed.
    pub weight: Cell<u16>,
    /// Whether it is for when no other one can be asked, as committed.
    pub is_backup: Cell<bool>,
    slot: Slot,
    /// Upstream connections, idle ones included.
    connections: Cell<u32>,
    /// Idle connections, the most recently used last.
    pub idle: RefCell<Vec<Token>>,
    /// Connections that carry many requests, the oldest first.
    pub shared: RefCell<Vec<Token>>,
    /// An operator's overlay: no new requests.
    drained: Cell<bool>,
    /// Not in the configuration any more: no new requests, ends with its last connection.
    pub removed: Cell<bool>,
    failures: Cell<u32>,
    failed_at_ms: Cell<u64>,
    down_until_ms: Cell<u64>,
    /// The pause is over, and one request is on its way to find out.
    probed: Cell<bool>,
    /// Where its health is written, once that was asked for.
    watched: OnceCell<Box<Watched>>,
}

impl fmt::Debug for Backend {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.name)
    }
}

impl Backend {
    /// A backend that nobody has used yet.
    #[must_use]
    pub fn new(name: String, address: Endpoint, weight: u16, slot: Slot) -> Self {
        Self {
            name,
            address,
            weight: Cell::new(weight),
            is_backup: Cell::new(false),
            slot,
            connections: Cell::new(0),
            idle: RefCell::new(Vec::new()),
            shared: RefCell::new(Vec::new()),
            drained: Cell::new(false),
            removed: Cell::new(false),
            failures: Cell::new(0),
            failed_at_ms: Cell::new(0),
            down_until_ms: Cell::new(0),
            probed: Cell::new(false),
            watched: OnceCell::new(),
        }
    }

    /// Its counters in shared memory.
    #[must_use]
    #[inline]
    pub fn slot(&self) -> SlotId {
        self.counted().id(SlotKind::Backend, &self.name)
    }

    #[inline]
    fn counted(&self) -> &Slot {
        if self.slot.is_none() && self.slot.id(SlotKind::Backend, &self.name) != SlotId::NONE {
            // It is counted from now on, and has these already.
            self.slot.set(Field::Connections, self.connections.get());
            self.slot.set(Field::Drained, u32::from(self.drained.get()));
        }
        &self.slot
    }

    /// Requests in flight.
    #[must_use]
    pub fn active(&self) -> u32 {
        self.slot.active()
    }

    /// It gets a request.
    pub fn begin(&self) {
        self.counted().begin(SlotKind::Backend, &self.name);
    }

    /// A request that it got is over.
    pub fn end(&self) {
        self.counted().end(SlotKind::Backend, &self.name);
    }

    /// Whether there are upstream connections.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.connections.get() > 0
    }

    /// There is one upstream connection more.
    pub fn connected(&self) {
        self.set_connections(self.connections.get() + 1);
    }

    /// There is one upstream connection less.
    pub fn disconnected(&self) {
        self.set_connections(self.connections.get() - 1);
    }

    fn set_connections(&self, count: u32) {
        self.connections.set(count);
        self.counted().set(Field::Connections, count);
    }

    /// Says whether an operator has it drained.
    pub fn set_drained(&self, is_drained: bool) {
        self.drained.set(is_drained);
        self.counted().set(Field::Drained, u32::from(is_drained));
    }

    /// Whether new requests may go there as far as people decide it.
    #[must_use]
    pub fn accepts_requests(&self) -> bool {
        !self.drained.get() && !self.removed.get()
    }

    /// How its health is found.
    #[must_use]
    pub fn watched(&self) -> &Watched {
        let key = || BackendKey::of(&self.name, &self.address);
        self.watched.get_or_init(|| Box::new(Watched::new(key())))
    }

    /// Whether it has not just failed to connect.
    #[must_use]
    pub fn is_up(&self, now_ms: u64) -> bool {
        self.down_until_ms.get() <= now_ms
    }

    /// It is to get a request. After a pause that is one, and the others stay away until its connect has
    /// an outcome, which takes `probe_ms` at most.
    pub fn chosen(&self, now_ms: u64, probe_ms: u64) {
        if self.failures.get() > 0 && self.is_up(now_ms) {
            self.probed.set(true);
            self.down_until_ms.set(now_ms + probe_ms);
        }
    }

    /// A request that it was chosen for has told nothing about it: the next one may.
    pub fn probe_ended(&self) {
        if self.probed.replace(false) {
            self.down_until_ms.set(0);
        }
    }

    /// Remembers a failed connect: a pause that doubles with every failure in a row. What fails at
    /// one moment for many requests is one failure.
    pub fn connect_failed(&self, now_ms: u64) {
        if self.failures.get() > 0 && self.failed_at_ms.replace(now_ms) == now_ms {
            return;
        }
        self.failed_at_ms.set(now_ms);
        self.probed.set(false);
        let failures = self.failures.get().saturating_add(1);
        self.failures.set(failures);
        let pause = RETRY_AFTER_MS_MIN << (failures - 1).min(10);
        self.down_until_ms
            .set(now_ms + pause.min(RETRY_AFTER_MS_MAX));
    }

    /// Remembers a connect that worked.
    pub fn connect_succeeded(&self) {
        self.failures.set(0);
        self.probed.set(false);
        self.down_until_ms.set(0);
    }

    /// Forgets a connection that carries many requests.
    pub fn forget_shared(&self, token: Token) {
        self.shared.borrow_mut().retain(|&other| other != token);
    }

    /// Forgets an idle connection that was closed.
    pub fn forget_idle(&self, token: Token) {
        let mut idle = self.idle.borrow_mut();
        // From the end: what closes soon after use is near it.
        if let Some(position) = idle.iter().rposition(|&other| other == token) {
            idle.remove(position);
        }
    }
}
