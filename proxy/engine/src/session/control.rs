//! What the control thread asks of the loop: commit, serve, release, overlay, audit, shut down.
//!
//! Rule: a commit is one call within one loop turn; nothing here waits.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use crate::policy::limits::meter::CommonTable;
use crate::policy::limits::refused::{Meant, Refusal, Whom};
use crate::runtime::common::CommonFile;
use crate::runtime::driver::Driver;
use crate::runtime::socket;
use crate::session::engine::Engine;
use crate::session::exchange::{Exchange, Outcome};
use crate::session::ids::CHECK_DRAINS;
use crate::session::ids::listener_token;
use crate::state::audit::{Audit, Audited};
use crate::state::digest::Digest;
use crate::state::listener::Listener;
use crate::state::reading::Part;
use crate::state::staged::Staged;
use crate::telemetry::names::Counter;
use crate::upstream::Backend;
use crate::upstream::health::HealthWords;

/// Entities audited in one turn: a fraction of a millisecond.
const AUDITED_PER_TURN: usize = 128;

/// A message of the control thread; what wants an answer brings the way back.
pub enum Command {
    /// Swap a staged transaction in; answers with the digest of what is then held.
    Commit(Box<Staged>, Sender<Digest>),
    /// Accept connections from now on; brings the sockets of listeners that have none yet.
    Serve(HashMap<String, OwnedFd>, Sender<()>),
    /// Let go of what former commits removed.
    Release(Sender<()>),
    /// Backends that get no new requests, whatever the configuration says.
    Overlay(Vec<String>, Sender<()>),
    /// Who is limited now, of those who are meant; and whether they begin anew.
    Limits(Meant, bool, Sender<Limited>),
    /// Count rates, and requests in flight, in a table that all workers of the host have in common.
    ShareRates(CommonTable, CommonFile),
    /// Read there what the prober of the host finds.
    ShareHealth(HealthWords),
    /// Open the access log's file anew, after it was moved away.
    ReopenLog,
    /// The digest computed anew from every entity held, over as many turns as it takes; None when it
    /// was interrupted. Who asks next has it go on from there.
    Audit(Sender<Option<Audited>>),
    /// Interrupt the audit: something more urgent has come.
    InterruptAudit,
    /// The entities held, a part of them from a position on.
    Read(usize, Sender<Part>),
    /// Stop accepting, let requests end for so long, then stop.
    Shutdown(Duration),
}

/// Something that is being let go of.
pub(super) enum Leaving {
    Listener(Rc<Listener>),
    Backend(Rc<Backend>),
}

/// Who is limited.
#[derive(Debug)]
pub struct Limited {
    /// Whom rates refuse, and how many milliseconds each has to wait.
    pub refused: Vec<(Refusal, u64)>,
    /// Who has how many requests in flight, of those that are counted.
    pub in_flight: Vec<(Whom, u64)>,
}

/// When it must be gone.
pub(super) struct Drain {
    pub(super) leaving: Leaving,
    pub(super) until_ms: u64,
}

impl<D: Driver> Engine<D> {
    pub(super) fn run_command(&mut self, command: Command) {
        // Whoever asked may have stopped waiting; the work is done all the same.
        match command {
            Command::Commit(staged, answer) => {
                self.commit(*staged);
                let _ = answer.send(self.tables.digest);
            }
            Command::Serve(sockets, answer) => {
                self.serve(sockets);
                let _ = answer.send(());
            }
            Command::Release(answer) => {
                self.release();
                let _ = answer.send(());
            }
            Command::Overlay(names, answer) => {
                self.overlay(names);
                let _ = answer.send(());
            }
            Command::Limits(meant, begin_anew, answer) => {
                let _ = answer.send(self.limited(&meant, begin_anew));
            }
            Command::ShareRates(table, file) => {
                self.tables.be_named(&table.name());
                self.meter.share(table);
                self.in_flight.share(file);
            }
            Command::ShareHealth(words) => self.tables.shared.health.share(words),
            Command::ReopenLog => self.log.reopen(),
            Command::Audit(answer) => {
                self.audit
                    .get_or_insert_with(|| Audit::begin(&mut self.tables));
                self.auditors.push(answer);
            }
            Command::InterruptAudit => self.tell_auditors(None),
            Command::Read(position, answer) => {
                let _ = answer.send(Part::read(&self.tables, position));
            }
            Command::Shutdown(grace) => self.begin_shutdown(grace),
        }
    }

    /// Who is limited; with `begin_anew` they have used nothing from then on.
    fn limited(&mut self, meant: &Meant, begin_anew: bool) -> Limited {
        let now_ns = self.clock.host_ns();
        let found = self.refused.at(now_ns, meant).into_iter();
        let wait_ms = |refusal: &Refusal| (refusal.until_ns - now_ns).div_ceil(1_000_000);
        let found = found.map(|refusal| {
            let wait_ms = wait_ms(&refusal);
            (refusal, wait_ms)
        });
        let refused = found.collect();
        if begin_anew {
            for key in self.refused.take(meant) {
                self.meter.forget(key);
            }
            if meant.is_everybody() {
                // Those too who were not refused yet.
                self.meter.forget_all();
            }
        }
        Limited {
            refused,
            in_flight: self.crowds(),
        }
    }

    /// One turn's share of the audit, if anybody waits for it.
    pub(super) fn audit_some(&mut self) {
        if let Some(audit) = self.audit.as_mut().filter(|_| !self.auditors.is_empty())
            && let Some(found) = audit.advance(&mut self.tables, AUDITED_PER_TURN)
        {
            self.audit = None;
            self.tell_auditors(Some(&found));
        }
    }

    fn tell_auditors(&mut self, found: Option<&Audited>) {
        for answer in self.auditors.drain(..) {
            let _ = answer.send(found.cloned());
        }
    }

    fn commit(&mut self, staged: Staged) {
        let by_core = self.tables.settings.accept_by_core;
        let applied = self.tables.apply(staged);
        if by_core != self.tables.settings.accept_by_core {
            for listener in self.tables.running.listeners.values() {
                self.prefer_core(listener);
            }
        }
        if self.serving {
            for listener in &applied.opened {
                self.watch_listener(listener);
            }
        }
        if let Some(log) = applied.log {
            self.flush_log();
            self.log = log;
        }
        for listener in applied.closed {
            self.close_listener(&listener);
            self.removed.push(Leaving::Listener(listener));
        }
        self.removed
            .extend(applied.removed.into_iter().map(Leaving::Backend));
        self.apply_overlay();
        self.metrics
            .set(Counter::GenerationNow, self.tables.generation);
    }

    /// Until then a worker that takes a large state in holds no connection up, and what it holds
    /// meanwhile may be of an earlier generation than the others serve.
    fn serve(&mut self, mut sockets: HashMap<String, OwnedFd>) {
        let listeners: Vec<_> = self.tables.running.listeners.values().cloned().collect();
        for listener in listeners {
            let missing = listener.raw_socket().is_none();
            if missing && let Some(socket) = sockets.remove(&listener.name) {
                *listener.socket.borrow_mut() = Some(socket);
            }
            if missing || !self.serving {
                self.watch_listener(&listener);
            }
        }
        self.serving = true;
    }

    /// Watches a listener's socket for connections.
    pub(super) fn watch_listener(&mut self, listener: &Rc<Listener>) {
        let Some(fd) = listener.raw_socket().filter(|_| !self.accept_paused) else {
            return;
        };
        // Whoever made it: connections have it from there.
        socket::set_no_delay(fd);
        self.prefer_core(listener);
        let index = self.accepting.insert(listener.clone());
        if self.driver.watch_input(fd, listener_token(index)).is_err() {
            self.accepting.remove(index);
            self.metrics.add(Counter::AcceptErrorsTotal, 1);
        }
    }

    /// Says for which connections its socket is preferred to those of the other workers. It may have been another
    /// worker's, and is the reconciler's: nothing that was said before goes by itself.
    fn prefer_core(&self, listener: &Listener) {
        let core = match self.tables.settings.accept_by_core {
            true => socket::own_core(),
            false => None,
        };
        if let Some(fd) = listener.raw_socket() {
            socket::prefer_core(fd, core);
        }
    }

    /// Accepts what is in the queue, then accepts no more. The descriptor is only our copy: the
    /// reconciler closes the socket itself after the release.
    fn close_listener(&mut self, listener: &Rc<Listener>) {
        self.accept_rest(listener);
        listener.draining.set(true);
        if let Some(socket) = listener.socket.borrow_mut().take() {
            let _ = self
                .driver
                .unwatch(std::os::fd::AsRawFd::as_raw_fd(&socket));
        }
        let position = self
            .accepting
            .iter()
            .find(|(_, other)| Rc::ptr_eq(other, listener))
            .map(|(index, _)| index);
        if let Some(index) = position {
            self.accepting.remove(index);
        }
    }

    fn release(&mut self) {
        let until_ms = self.clock.ms() + self.tables.settings.drain_timeout;
        for leaving in std::mem::take(&mut self.removed) {
            match &leaving {
                Leaving::Listener(listener) => {
                    while self.leave_oldest(listener) {}
                    self.leave_multiplexed(listener);
                }
                Leaving::Backend(backend) => self.close_pooled(backend),
            }
            if leaving.is_in_use() {
                self.drains.push(Drain { leaving, until_ms });
                self.timers.queue_check(CHECK_DRAINS, until_ms);
            }
        }
    }

    /// Begins to leave the connection of a listener that is idle for the longest time; `false` if none is.
    fn leave_oldest(&mut self, listener: &Rc<Listener>) -> bool {
        let Some(oldest) = self.oldest_idle(listener) else {
            return false;
        };
        match self.clients[oldest].multiplex.is_some() {
            true => self.leave_idle_multiplexed(oldest),
            false => self.leave_idle_client(oldest),
        }
        true
    }

    /// Cuts what is over time.
    pub(super) fn check_drains(&mut self) {
        let now_ms = self.clock.ms();
        let (over, going_on): (Vec<_>, Vec<_>) = std::mem::take(&mut self.drains)
            .into_iter()
            .filter(|drain| drain.leaving.is_in_use())
            .partition(|drain| drain.until_ms <= now_ms);
        self.drains = going_on;
        for drain in over {
            self.cut(&drain.leaving);
        }
    }

    fn cut(&mut self, leaving: &Leaving) {
        let is_concerned = |exchange: &Exchange| match leaving {
            Leaving::Listener(listener) => self
                .client_at(exchange.asker)
                .is_some_and(|client| Rc::ptr_eq(&client.listener, listener)),
            Leaving::Backend(backend) => exchange
                .backend()
                .is_some_and(|other| Rc::ptr_eq(other, backend)),
        };
        let exchanges = self.exchanges.iter();
        let concerned: Vec<_> = exchanges
            .filter(|(_, exchange)| is_concerned(exchange))
            .map(|(id, exchange)| (id, exchange.asker))
            .collect();
        for (id, asker) in concerned {
            // One goes with the connection of another.
            if self.exchanges.contains(id) {
                self.abandon_exchange(id, Outcome::Drained);
                self.cut_asker(asker);
            }
        }
        if let Leaving::Listener(listener) = leaving {
            self.close_clients_of(listener);
        }
    }

    fn close_clients_of(&mut self, listener: &Rc<Listener>) {
        let clients = self.clients.iter();
        let concerned: Vec<_> = clients
            .filter(|(_, client)| Rc::ptr_eq(&client.listener, listener))
            .map(|(id, _)| id)
            .collect();
        for id in concerned {
            self.close_client(id);
        }
    }

    fn overlay(&mut self, names: Vec<String>) {
        for name in &self.drained {
            if let Some(backend) = self.tables.backend(name) {
                backend.set_drained(false);
            }
        }
        self.drained = names;
        self.apply_overlay();
    }

    /// A backend that a commit replaced is a new object: the overlay must hold for it too.
    fn apply_overlay(&mut self) {
        let drained: Vec<_> = self
            .drained
            .iter()
            .filter_map(|name| self.tables.backend(name))
            .collect();
        for backend in drained {
            backend.set_drained(true);
            self.close_pooled(&backend);
        }
    }

    pub(super) fn begin_shutdown(&mut self, grace: Duration) {
        self.stopping = true;
        let until_ms = self.clock.ms() + grace.as_millis() as u64;
        let listeners: Vec<_> = self.tables.running.listeners.values().cloned().collect();
        for listener in listeners {
            self.close_listener(&listener);
            while self.leave_oldest(&listener) {}
            self.leave_multiplexed(&listener);
        }
        self.stop_at_ms = Some(until_ms);
        self.timers.queue_check(CHECK_DRAINS, until_ms);
    }
}

impl Leaving {
    fn is_in_use(&self) -> bool {
        match self {
            Self::Listener(listener) => listener.connections.get() > 0,
            Self::Backend(backend) => backend.is_connected(),
        }
    }
}
