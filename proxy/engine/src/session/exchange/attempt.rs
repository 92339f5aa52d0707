//! Tries of an exchange: choosing a backend, and what becomes of a try that failed.
//!
//! Rule: another backend is tried only while nothing of the request has gone anywhere; the one
//! exception is [`Engine::upstream_ended_early`].

use std::rc::Rc;

use crate::runtime::driver::Driver;
use crate::session::engine::Engine;
use crate::session::exchange::{Exchange, Outcome};
use crate::session::ids::{ExchangeId, UpstreamId};
use crate::telemetry::names::{Counter, Field};
use crate::tls::fault::TlsFault;
use crate::upstream::Backend;

impl<D: Driver> Engine<D> {
    /// Chooses a backend for an exchange that has none and sends the head there; by another one
    /// when connecting fails at once.
    pub(in crate::session) fn try_backend(&mut self, exchange: ExchangeId) {
        let now_ms = self.clock.ms();
        loop {
            let entry = &self.exchanges[exchange];
            let probe_ms = entry.cluster.entity.timeouts.connect;
            let chosen = entry
                .backends
                .choose(&entry.tried, now_ms, probe_ms, &mut self.random);
            let Some(backend) = chosen.or_else(|| repeats_at(entry)) else {
                return self.no_backend_left(exchange);
            };
            if !entry.tried.is_empty() {
                self.count_retry(exchange);
            }
            self.assign_backend(exchange, backend.clone());
            if self.reuse_connection(exchange, &backend) {
                return;
            }
            let begun = match self.exchanges[exchange].is_multiplexed() {
                true => self.join_trunk(exchange, &backend),
                false => self.connect(exchange, &backend),
            };
            match begun {
                Ok(()) => return,
                Err(_) => {
                    if !self.connect_failed(exchange, Outcome::ConnectFailed) {
                        return;
                    }
                }
            }
        }
    }

    pub(in crate::session) fn count_retry(&mut self, exchange: ExchangeId) {
        let entry = &mut self.exchanges[exchange];
        entry.record.retries += 1;
        let slot = entry.frontend.cluster.slot.id();
        self.metrics.add(Counter::RetriesTotal, 1);
        self.metrics.slot_add(slot, Field::Retries, 1);
    }

    fn no_backend_left(&mut self, exchange: ExchangeId) {
        let entry = &self.exchanges[exchange];
        match entry.connect_failure {
            None => {
                self.metrics.add(Counter::Unavailable503Total, 1);
                self.fail_exchange(exchange, 503, Outcome::NoBackend);
            }
            Some(failure) => self.give_up_connecting(exchange, failure),
        }
    }

    /// A connect failed: counts it, closes the connection, and says whether the exchange may try
    /// another backend (it has been answered otherwise). Nothing has been sent, so any method may.
    pub(in crate::session) fn connect_failed(
        &mut self,
        exchange: ExchangeId,
        outcome: Outcome,
    ) -> bool {
        self.metrics.add(Counter::UpstreamConnectErrorsTotal, 1);
        if outcome == Outcome::TlsFailed {
            self.metrics.add(Counter::UpstreamTlsErrorsTotal, 1);
            self.tell_tls_fault(exchange, TlsFault::Closed);
        }
        if let Some(upstream) = self.exchanges[exchange].upstream.take() {
            self.close_upstream(upstream);
        }
        if let Some(backend) = self.release_backend(exchange) {
            backend.connect_failed(self.clock.ms());
            self.metrics
                .slot_add(backend.slot.id(), Field::ConnectErrors, 1);
            self.exchanges[exchange].tried.push(backend);
        }
        let entry = &mut self.exchanges[exchange];
        entry.connect_failure = Some(outcome);
        if entry.tried.len() <= entry.cluster.entity.retries as usize {
            return true;
        }
        self.give_up_connecting(exchange, outcome);
        false
    }

    /// Answers an exchange that no backend could be reached for.
    fn give_up_connecting(&mut self, exchange: ExchangeId, failure: Outcome) {
        if failure == Outcome::ConnectTimeout {
            self.metrics.add(Counter::GatewayTimeout504Total, 1);
            self.fail_exchange(exchange, 504, failure);
        } else {
            self.metrics.add(Counter::BadGateway502Total, 1);
            self.fail_exchange(exchange, 502, failure);
        }
    }

    /// Says why TLS has failed: in the log, and beside the backend until a handshake succeeds. Where
    /// TLS itself has no complaint it was `otherwise`.
    fn tell_tls_fault(&mut self, exchange: ExchangeId, otherwise: TlsFault) {
        let exchange = &mut self.exchanges[exchange];
        let Some(upstream) = exchange.upstream.map(|id| &self.upstreams[id]) else {
            return;
        };
        let secure = match upstream.stream.lane() {
            Some(lane) => &self.upstreams[lane.connection],
            None => upstream,
        };
        let fault = secure.stream.tls_fault().unwrap_or(otherwise);
        if fault == TlsFault::None {
            return;
        }
        exchange.record.reason = Some(fault.as_str());
        let slot = secure.backend.slot.id();
        self.metrics.slot_set(slot, Field::TlsFault, fault as u64);
    }

    /// A pooled connection turned out to be dead: the same request goes out once more, on a fresh one.
    /// It counts as one of the cluster's retries: a request that ends whatever connection it comes by
    /// must not visit them all.
    pub(in crate::session) fn retry_stale(&mut self, exchange: ExchangeId) {
        if let Some(upstream) = self.exchanges[exchange].upstream.take() {
            self.close_upstream(upstream);
        }
        if let Some(backend) = self.release_backend(exchange) {
            self.exchanges[exchange].tried.push(backend);
        }
        self.exchanges[exchange].is_repeated = true;
        self.try_backend(exchange);
    }

    /// The connection ended or failed before a response had begun.
    pub(in crate::session) fn upstream_ended_early(
        &mut self,
        id: UpstreamId,
        exchange: ExchangeId,
    ) {
        let upstream = &self.upstreams[id];
        let untouched = upstream.input.is_empty() && self.exchanges[exchange].interim_count == 0;
        if upstream.reused && untouched && may_repeat(&self.exchanges[exchange]) {
            return self.retry_stale(exchange);
        }
        // In TLS 1.3 a backend refuses our certificate when the handshake is over for us.
        self.tell_tls_fault(exchange, TlsFault::None);
        self.metrics.add(Counter::BadGateway502Total, 1);
        self.fail_exchange(exchange, 502, Outcome::BackendAborted);
    }
}

/// Whether a request that was sent may be sent again.
pub(in crate::session) fn may_repeat(exchange: &Exchange) -> bool {
    exchange.replayable && !exchange.is_repeated && exchange.cluster.entity.retries > 0
}

/// The backend of a request that a pooled connection has lost, when there is no other: it may well be
/// there. `None` once it could not be reached.
fn repeats_at(exchange: &Exchange) -> Option<Rc<Backend>> {
    let may = exchange.is_repeated && exchange.connect_failure.is_none();
    let last = exchange.tried.last().filter(|_| may)?;
    last.accepts_requests().then(|| last.clone())
}
