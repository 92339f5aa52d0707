//! One exchange: a request and its response, between a client connection and an upstream one.
//!
//! Rule: an exchange takes references to everything that it is served by when its head is complete
//! and keeps them to its end; a commit in between changes nothing for it. It knows its two sides by
//! their ids only, so that either may speak another protocol than HTTP/1.1.

pub(super) mod attempt;
pub(super) mod body;
pub(super) mod record;
mod redirect;
mod refuse;
mod request;
mod response;
mod text;

use std::rc::Rc;

use crate::protocol::grpc;
use crate::runtime::driver::Driver;
use crate::session::engine::Engine;
use crate::session::exchange::body::Body;
use crate::session::exchange::record::Record;
use crate::session::exchange::refuse::Words;
use crate::session::ids::{ClientId, ExchangeId, UpstreamId};
use crate::state::entity;
use crate::state::frontend::Frontend;
use crate::state::listener::ListenerSettings;
use crate::telemetry::names::{Counter, Field};
use crate::upstream::{Backend, BackendSet, ClusterSettings};

/// How an exchange ended, for the access log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::session) enum Outcome {
    Complete,
    ClientAborted,
    RequestTimeout,
    RequestMalformed,
    RequestTooLarge,
    NoFrontend,
    NoBackend,
    Overloaded,
    ConnectFailed,
    ConnectTimeout,
    TlsFailed,
    NotHttp2,
    ResponseTimeout,
    ResponseMalformed,
    BackendAborted,
    Drained,
    WriteTimeout,
    TunnelClosed,
    UpgradeRefused,
    WebSocketVersion,
    CertificateMissing,
    Misdirected,
    TooEarly,
    Redirected,
    ChallengeAnswered,
    InternalError,
}

impl Outcome {
    pub(in crate::session) fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "ok",
            Self::ClientAborted => "client_aborted",
            Self::RequestTimeout => "request_timeout",
            Self::RequestMalformed => "request_malformed",
            Self::RequestTooLarge => "request_too_large",
            Self::NoFrontend => "no_frontend",
            Self::NoBackend => "no_backend",
            Self::Overloaded => "overloaded",
            Self::ConnectFailed => "connect_failed",
            Self::ConnectTimeout => "connect_timeout",
            Self::TlsFailed => "tls_failed",
            Self::NotHttp2 => "not_http2",
            Self::ResponseTimeout => "response_timeout",
            Self::ResponseMalformed => "response_malformed",
            Self::BackendAborted => "backend_aborted",
            Self::Drained => "drained",
            Self::WriteTimeout => "write_timeout",
            Self::TunnelClosed => "tunnel_closed",
            Self::UpgradeRefused => "upgrade_refused",
            Self::WebSocketVersion => "websocket_version",
            Self::CertificateMissing => "certificate_missing",
            Self::Misdirected => "misdirected",
            Self::TooEarly => "too_early",
            Self::Redirected => "redirected",
            Self::ChallengeAnswered => "challenge_answered",
            Self::InternalError => "internal_error",
        }
    }
}

/// A request in flight.
pub(in crate::session) struct Exchange {
    pub(in crate::session) client: ClientId,
    pub(in crate::session) upstream: Option<UpstreamId>,
    pub(in crate::session) listener: Rc<ListenerSettings>,
    pub(in crate::session) frontend: Rc<Frontend>,
    pub(in crate::session) cluster: Rc<ClusterSettings>,
    pub(in crate::session) backends: Rc<BackendSet>,
    pub(in crate::session) backend: Option<Rc<Backend>>,
    pub(in crate::session) tried: Vec<Rc<Backend>>,
    /// A pooled connection has lost it once.
    pub(in crate::session) is_repeated: bool,
    /// How the last try to connect failed.
    pub(in crate::session) connect_failure: Option<Outcome>,
    /// The settings that it is served by.
    pub(in crate::session) settings: Rc<entity::Settings>,
    /// The `Kakehi-Generation` response header of its generation, when asked for.
    pub(in crate::session) generation_header: Option<Rc<str>>,
    /// The request head as it is sent upstream; kept until the response begins, for another try. Then,
    /// for a moment, the response head that waits for its body's first bytes; see `trunk_lane`.
    pub(in crate::session) head: Vec<u8>,
    /// What of it is counted as memory that waits.
    pub(in crate::session) head_bytes: u32,
    /// What is to come of the request body.
    pub(in crate::session) request: Body,
    /// The request body is framed in chunks towards the backend.
    pub(in crate::session) request_chunked: bool,
    /// The upstream does not read any more: the rest of the request body is thrown away.
    pub(in crate::session) request_discarded: bool,
    /// What is to come of the response body; `None` before the final response head.
    pub(in crate::session) response: Option<Body>,
    /// The response body is framed in chunks towards the client.
    pub(in crate::session) response_chunked: bool,
    /// The client's connection may be used again afterwards.
    pub(in crate::session) keep_alive: bool,
    /// The client speaks HTTP/1.0: no chunks, no interim responses.
    pub(in crate::session) http10: bool,
    pub(in crate::session) head_only: bool,
    /// Sending it twice does no harm and nothing of it is lost: no body, idempotent method
    /// (RFC 9110 §9.2.2).
    pub(in crate::session) replayable: bool,
    /// The protocol that the backend has been asked to switch to.
    pub(in crate::session) upgrade: Option<Box<[u8]>>,
    /// The client waits for 100 before it sends the body.
    pub(in crate::session) expects_continue: bool,
    /// The client's and the backend's bytes pass unread since a 101.
    pub(in crate::session) tunnel: bool,
    /// A tunnel's backend has ended its side.
    pub(in crate::session) response_ended: bool,
    /// Interim responses passed on so far.
    pub(in crate::session) interim_count: u32,
    pub(in crate::session) record: Record,
}

impl Exchange {
    /// The header that keeps clients from asking in clear text again, where it may be said.
    pub(in crate::session) fn hsts(&self) -> Option<&str> {
        self.frontend
            .hsts
            .as_deref()
            .filter(|_| self.listener.tls.is_some())
    }

    /// Whether it shares its connection to the backend with others.
    pub(in crate::session) fn is_multiplexed(&self) -> bool {
        self.cluster.is_multiplexed() && !self.frontend.entity.passthrough
    }

    /// Whether all of the request has been read.
    pub(in crate::session) fn request_done(&self) -> bool {
        self.request.is_done()
    }
}

impl<D: Driver> Engine<D> {
    pub(in crate::session) fn insert_exchange(&mut self, exchange: Exchange) -> ExchangeId {
        self.metrics.add(Counter::RequestsNow, 1);
        self.metrics
            .slot_add(exchange.frontend.slot.id(), Field::Active, 1);
        self.metrics
            .slot_add(exchange.frontend.cluster.slot.id(), Field::Active, 1);
        let client = exchange.client;
        self.pool.hold(exchange.head_bytes);
        let vacant = self.exchanges.vacant();
        let id = vacant.id();
        vacant.insert(exchange);
        self.clients[client].exchange = Some(id);
        id
    }

    /// Assigns a backend: it counts the request from here on.
    pub(in crate::session) fn assign_backend(
        &mut self,
        exchange: ExchangeId,
        backend: Rc<Backend>,
    ) {
        backend.active.set(backend.active.get() + 1);
        self.metrics.slot_add(backend.slot.id(), Field::Active, 1);
        self.exchanges[exchange].backend = Some(backend);
    }

    /// Takes the backend back from an exchange, after a failed try or at the end.
    pub(in crate::session) fn release_backend(
        &mut self,
        exchange: ExchangeId,
    ) -> Option<Rc<Backend>> {
        let backend = self.exchanges[exchange].backend.take()?;
        backend.active.set(backend.active.get() - 1);
        self.metrics.slot_sub(backend.slot.id(), Field::Active, 1);
        Some(backend)
    }

    /// Ends the accounting of an exchange and frees it. Both sides must have been seen to.
    pub(in crate::session) fn remove_exchange(&mut self, id: ExchangeId, outcome: Outcome) {
        self.record_exchange(id, outcome);
        self.release_backend(id);
        let Some(exchange) = self.exchanges.remove(id) else {
            return;
        };
        self.clients[exchange.client].exchange = None;
        self.metrics.sub(Counter::RequestsNow, 1);
        self.metrics
            .sub(Counter::TunnelsNow, u64::from(exchange.tunnel));
        self.metrics
            .slot_sub(exchange.frontend.slot.id(), Field::Active, 1);
        self.metrics
            .slot_sub(exchange.frontend.cluster.slot.id(), Field::Active, 1);
        self.pool.release(exchange.head_bytes);
        self.pool.give(exchange.head);
        self.pool.give(exchange.record.text);
    }

    /// Ends an exchange whose client is gone: the upstream connection cannot be used again.
    pub(in crate::session) fn abandon_exchange(&mut self, id: ExchangeId, outcome: Outcome) {
        if outcome == Outcome::ClientAborted {
            self.metrics.add(Counter::AbortedByClientTotal, 1);
        }
        if let Some(upstream) = self.exchanges[id].upstream {
            self.close_upstream(upstream);
        }
        self.remove_exchange(id, outcome);
    }

    /// Ends an exchange with an error: by an error response while that is possible, otherwise by
    /// cutting the response short so that the client cannot take it for complete.
    pub(in crate::session) fn fail_exchange(
        &mut self,
        id: ExchangeId,
        status: u16,
        outcome: Outcome,
    ) {
        let exchange = &mut self.exchanges[id];
        let client = exchange.client;
        if let Some(upstream) = exchange.upstream.take() {
            self.close_upstream(upstream);
        }
        let exchange = &mut self.exchanges[id];
        if exchange.response.is_some() {
            self.clients[client].stream.reset_on_close();
            self.remove_exchange(id, outcome);
            return self.close_client(client);
        }
        let keep_alive = exchange.keep_alive && exchange.request_done();
        let head_only = exchange.head_only;
        exchange.record.status = status;
        let words = Words {
            listener: exchange.listener.clone(),
            settings: exchange.settings.clone(),
            generation_header: exchange.generation_header.clone(),
            own_line: exchange.hsts().map(Into::into),
            own_body: None,
            is_grpc: grpc::is_call_head(&exchange.head),
            request_id: Some(exchange.record.request_id),
        };
        self.remove_exchange(id, outcome);
        self.send_error(client, status, &words, head_only, keep_alive);
    }

    /// Ends an exchange whose response has been sent whole.
    pub(in crate::session) fn finish_exchange(&mut self, id: ExchangeId) {
        let exchange = &self.exchanges[id];
        let client = exchange.client;
        let keep_alive = exchange.keep_alive && exchange.request_done();
        if let Some(upstream) = exchange.upstream {
            self.release_upstream(upstream);
        }
        self.remove_exchange(id, Outcome::Complete);
        self.end_response(client, keep_alive);
    }
}
