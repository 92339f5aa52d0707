//! Tries of an exchange: choosing a backend, and what becomes of a try that failed.
//!
//! Rule: another backend is tried only while nothing of the request has gone anywhere; the one
//! exception is [`Engine::ended_early`].

use std::io;
use std::rc::Rc;

use crate::runtime::driver::Driver;
use crate::runtime::socket::Want;
use crate::session::back::carrier::Carrier;
use crate::session::engine::Engine;
use crate::session::exchange::again::Why;
use crate::session::exchange::waiting::Place;
use crate::session::exchange::{Exchange, Outcome};
use crate::session::ids::ExchangeId;
use crate::state::entity::Failure;
use crate::telemetry::names::{Counter, Field};
use crate::tls::fault::TlsFault;
use crate::upstream::{Backend, Choosing};

/// A try: a backend that counts the request from here on, and who carries it there.
pub(in crate::session) struct Attempt {
    pub(in crate::session) backend: Rc<Backend>,
    /// `None` before it has one, and when that is gone.
    pub(super) place: Option<Place>,
}

/// What the tries of an exchange have come to.
#[derive(Default)]
pub(in crate::session) struct Tries {
    /// The backends of those that failed, the last one last.
    pub(super) failed: Vec<Rc<Backend>>,
    /// How many there were behind the first.
    pub(super) further: u32,
    /// What the next one is for.
    pub(super) why: Option<Why>,
    /// Those that were tried may be tried again once no other is left: they can be connected to.
    pub(super) may_return: bool,
    /// A pooled connection has lost the request once.
    pub(in crate::session) lost_by_pool: bool,
    /// How the last try to connect failed.
    connect_failure: Option<Outcome>,
}

impl Tries {
    /// The backends of those that failed.
    pub(super) fn failed(&self) -> &[Rc<Backend>] {
        &self.failed
    }

    /// The backend of the last one.
    pub(super) fn last(&self) -> Option<&Rc<Backend>> {
        self.failed.last()
    }
}

/// What is left to do for an exchange after a try has failed.
#[derive(Debug)]
#[must_use = "an exchange that is not tried elsewhere must have been answered"]
enum Next {
    /// Another backend may be tried.
    Try,
    /// Nothing now: it has been answered, or waits.
    Answered,
}

impl<D: Driver> Engine<D> {
    /// Begins a try: the backend counts the request from here on.
    fn begin_attempt(&mut self, exchange: ExchangeId, backend: Rc<Backend>) {
        backend.begin();
        self.bound_try(exchange);
        self.exchanges[exchange].attempt = Some(Attempt {
            backend,
            place: None,
        });
    }

    /// Gives a try to who carries it.
    pub(in crate::session) fn carry(&mut self, exchange: ExchangeId, carrier: Carrier) {
        self.set_place(exchange, Some(Place::Carried(carrier)));
    }

    /// Takes a try from who carries it.
    pub(in crate::session) fn put_down(&mut self, exchange: ExchangeId) {
        self.set_place(exchange, None);
    }

    pub(super) fn set_place(&mut self, exchange: ExchangeId, place: Option<Place>) {
        let entry = self.exchanges.get_mut(exchange);
        if let Some(attempt) = entry.and_then(|it| it.attempt.as_mut()) {
            attempt.place = place;
        }
    }

    /// Ends a try, and what carries it: the backend, if one was tried.
    pub(super) fn end_attempt(&mut self, exchange: ExchangeId) -> Option<Rc<Backend>> {
        self.leave_place(exchange);
        let backend = self.exchanges[exchange].attempt.take()?.backend;
        backend.end();
        Some(backend)
    }

    /// Closes what carries an exchange, or waits no more; its backend is still to be told of.
    pub(super) fn leave_place(&mut self, exchange: ExchangeId) {
        match self.exchanges[exchange].place() {
            Some(Place::Carried(carrier)) => self.close_carrier(carrier),
            Some(Place::Waits(ticket)) => self.give_ticket_up(ticket),
            None => {}
        }
    }

    /// Chooses a backend for an exchange that has none and sends the head there; by another one
    /// when connecting fails at once.
    pub(in crate::session) fn try_backend(&mut self, exchange: ExchangeId) {
        let now_ms = self.clock.ms();
        loop {
            let entry = &self.exchanges[exchange];
            let is_further = !entry.tries.failed.is_empty();
            let choosing = choosing_for(entry, now_ms);
            let chosen = entry.backends.choose(&choosing, &mut self.random);
            let Some(backend) = chosen.or_else(|| self.choose_otherwise(exchange)) else {
                return self.no_backend_left(exchange);
            };
            if is_further {
                self.count_retry(exchange);
            }
            self.begin_attempt(exchange, backend.clone());
            match self.reach(exchange, &backend) {
                Ok(()) => return,
                Err(error) => match self.note_unreached(exchange, &error) {
                    Next::Try => {}
                    Next::Answered => return,
                },
            }
        }
    }

    /// No connection could be begun. What we lack ourselves is no word about the backend, which others may
    /// reach by connections that are there.
    fn note_unreached(&mut self, exchange: ExchangeId, error: &io::Error) -> Next {
        let Some(want) = Want::of(error) else {
            let entry = &mut self.exchanges[exchange];
            let fault = entry.backend().and_then(|it| it.address.fault(error));
            entry.record.reason = fault.or(entry.record.reason);
            return self.note_connect_failed(exchange, Outcome::ConnectFailed);
        };
        self.metrics.add(Counter::UpstreamExhaustedTotal, 1);
        self.exchanges[exchange].record.reason = Some(want.as_str());
        if let Some(backend) = self.end_attempt(exchange) {
            backend.probe_ended();
            self.exchanges[exchange].tries.failed.push(backend);
        }
        self.next_after(exchange, Outcome::Exhausted)
    }

    fn count_retry(&mut self, exchange: ExchangeId) {
        let entry = &mut self.exchanges[exchange];
        entry.record.retries += 1;
        entry.tries.further += 1;
        if let Some(why) = entry.tries.why.take() {
            self.metrics.add(why.counter(), 1);
        }
        let slot = entry.served_by.slot();
        self.metrics.add(Counter::RetriesTotal, 1);
        self.metrics.slot_add(slot, Field::Retries, 1);
    }

    /// Chooses where none of the usual backends is left that is well: one that is not, a backup, or the last
    /// one again.
    #[cold]
    fn choose_otherwise(&mut self, exchange: ExchangeId) -> Option<Rc<Backend>> {
        let entry = &self.exchanges[exchange];
        let (set, random) = (&entry.backends, &mut self.random);
        // Whom a pooled connection was lost of may well be there, so that it needs no backup.
        let last = repeats_at(entry);
        if last.is_some() && set.has_backups() {
            return last;
        }
        let choosing = choosing_for(entry, self.clock.ms());
        let chosen = set
            .choose_backup(&choosing, random)
            .or_else(|| set.choose_failed(&choosing, random))
            .or(last);
        if chosen.is_some() || !entry.tries.may_return {
            return chosen;
        }
        // All have been tried, so that one is again: another than the last one, if there is another.
        let failed = &entry.tries.failed;
        for tried in [&failed[failed.len().saturating_sub(1)..], &[]] {
            let choosing = Choosing { tried, ..choosing };
            let again = set.choose(&choosing, random);
            if again.is_some() {
                return again;
            }
        }
        None
    }

    fn no_backend_left(&mut self, exchange: ExchangeId) {
        let failure = self.exchanges[exchange].tries.connect_failure;
        match failure {
            None if self.falls_back(exchange, Outcome::NoBackend) => {}
            None => {
                self.metrics.add(Counter::Unavailable503Total, 1);
                self.fail_exchange(exchange, 503, Outcome::NoBackend);
            }
            Some(failure) => self.give_up_connecting(exchange, failure),
        }
    }

    /// A connect failed: tries another backend, or answers.
    pub(in crate::session) fn connect_failed(&mut self, exchange: ExchangeId, outcome: Outcome) {
        match self.note_connect_failed(exchange, outcome) {
            Next::Try => self.try_backend(exchange),
            Next::Answered => {}
        }
    }

    /// Counts a connect that failed and closes the connection. Nothing has been sent, so any method may
    /// be tried elsewhere.
    fn note_connect_failed(&mut self, exchange: ExchangeId, outcome: Outcome) -> Next {
        self.metrics.add(Counter::UpstreamConnectErrorsTotal, 1);
        if outcome == Outcome::TlsFailed {
            self.metrics.add(Counter::UpstreamTlsErrorsTotal, 1);
            self.tell_tls_fault(exchange, TlsFault::Closed);
        }
        if let Some(backend) = self.end_attempt(exchange) {
            backend.connect_failed(self.clock.ms());
            self.metrics
                .slot_add(backend.slot(), Field::ConnectErrors, 1);
            self.exchanges[exchange].tries.failed.push(backend);
        }
        self.next_after(exchange, outcome)
    }

    /// Another try, as long as there may be one more.
    fn next_after(&mut self, exchange: ExchangeId, outcome: Outcome) -> Next {
        self.exchanges[exchange].tries.connect_failure = Some(outcome);
        match self.take_try(exchange, Why::Failed(Failure::Connect)) {
            Some(0) => return Next::Try,
            Some(pause_ms) => self.try_in(exchange, pause_ms),
            None => self.give_up_connecting(exchange, outcome),
        }
        Next::Answered
    }

    /// Answers an exchange that no backend could be reached for.
    fn give_up_connecting(&mut self, exchange: ExchangeId, failure: Outcome) {
        if self.falls_back(exchange, failure) {
            return;
        }
        let status = match failure {
            Outcome::ConnectTimeout => {
                self.metrics.add(Counter::GatewayTimeout504Total, 1);
                504
            }
            Outcome::Exhausted => 503,
            _ => 502,
        };
        self.fail_exchange(exchange, status, failure);
    }

    /// Says why TLS has failed: in the log, and beside the backend until a handshake succeeds. Where
    /// TLS itself has no complaint it was `otherwise`.
    fn tell_tls_fault(&mut self, exchange: ExchangeId, otherwise: TlsFault) {
        let place = self.exchanges[exchange].place();
        let Some(connection) = place.and_then(|it| self.connection_at(it)) else {
            return;
        };
        let secure = &self.upstreams[connection];
        let fault = secure.stream.tls_fault().unwrap_or(otherwise);
        if fault == TlsFault::None {
            return;
        }
        let slot = secure.backend.slot();
        self.exchanges[exchange].record.reason = Some(fault.as_str());
        self.metrics.slot_set(slot, Field::TlsFault, fault as u64);
    }

    /// A pooled connection turned out to be dead: the same request goes out once more, on a fresh one.
    /// It counts as one of the cluster's retries: a request that ends whatever connection it comes by
    /// must not visit them all.
    pub(in crate::session) fn retry_stale(&mut self, exchange: ExchangeId) {
        let backend = self.end_attempt(exchange);
        let tries = &mut self.exchanges[exchange].tries;
        tries.failed.extend(backend);
        tries.lost_by_pool = true;
        tries.why = Some(Why::Failed(Failure::Reset));
        self.try_backend(exchange);
    }

    /// Sends a request once more that its backend has not looked at, if there is one more try for that.
    pub(in crate::session) fn repeat_refused(&mut self, exchange: ExchangeId) -> bool {
        let pause_ms = match self.exchanges[exchange].is_here_whole() {
            true => self.take_try(exchange, Why::Failed(Failure::RefusedStream)),
            false => None,
        };
        let Some(pause_ms) = pause_ms else {
            return false;
        };
        self.count_retry(exchange);
        self.end_attempt(exchange);
        self.try_in(exchange, pause_ms);
        true
    }

    /// Sends the request once more, by a carrier that all share whom this one has failed.
    pub(in crate::session) fn repeat_elsewhere(&mut self, exchange: ExchangeId) {
        self.count_retry(exchange);
        self.try_elsewhere(exchange);
    }

    /// Sends the request by another carrier, of which nothing has gone by this one.
    pub(in crate::session) fn try_elsewhere(&mut self, exchange: ExchangeId) {
        self.end_attempt(exchange);
        self.try_backend(exchange);
    }

    /// The carrier was lost before a response had begun. A connection is `stale` if it had served others, and
    /// nothing has come by it since.
    pub(in crate::session) fn ended_early(&mut self, exchange: ExchangeId, stale: bool) {
        let entry = &self.exchanges[exchange];
        if stale && entry.interim_count == 0 && entry.may_repeat() {
            return self.retry_stale(exchange);
        }
        if self.tries_again(exchange, Failure::Reset) {
            return;
        }
        // In TLS 1.3 a backend refuses our certificate when the handshake is over for us.
        self.tell_tls_fault(exchange, TlsFault::None);
        self.fail_exchange(exchange, 502, Outcome::BackendAborted);
    }
}

impl Exchange {
    /// Whether the request may be sent again although it was sent.
    pub(in crate::session) fn may_repeat(&self) -> bool {
        self.replayable && !self.tries.lost_by_pool && self.cluster.entity.attempts() > 0
    }

    /// The same where many share a connection: once, so that a request which makes backends close does not
    /// visit all of them.
    pub(in crate::session) fn may_repeat_once(&self) -> bool {
        self.may_repeat() && self.record.retries == 0
    }

    /// Whether a request that its backend has not looked at can be sent again: all of it is here.
    pub(in crate::session) fn is_untouched(&self) -> bool {
        self.is_here_whole() && self.has_tries_left()
    }
}

/// What its next try asks for a backend with.
#[inline]
fn choosing_for(exchange: &Exchange, now_ms: u64) -> Choosing<'_> {
    Choosing {
        tried: &exchange.tries.failed,
        now_ms,
        probe_ms: exchange.cluster.entity.timeouts.connect,
    }
}

/// The backend of a request that a pooled connection has lost, when there is no other: it may well be
/// there. `None` once it could not be reached.
fn repeats_at(exchange: &Exchange) -> Option<Rc<Backend>> {
    let may = exchange.tries.lost_by_pool && exchange.tries.connect_failure.is_none();
    let last = exchange.tries.last().filter(|_| may)?;
    last.accepts_requests().then(|| last.clone())
}
