//! One exchange: a request and its response, between who asks and who carries it to a backend.
//!
//! Rule: an exchange takes references to everything that it is served by when its head is complete
//! and keeps them to its end; a commit in between changes nothing for it. It knows its two sides by
//! their ids only, so that either may speak another protocol than HTTP/1.1.

pub(super) mod again;
pub(super) mod attempt;
pub(super) mod auth;
pub(super) mod body;
pub(super) mod call;
mod counted;
pub(super) mod falling_back;
pub(super) mod filters;
pub(super) mod identity;
mod outcome;
mod own;
pub(super) mod record;
mod request;
mod response;
mod routed;
mod upload;
pub(super) mod waiting;

use std::rc::Rc;
use std::sync::Arc;

use crate::policy::changes::edits::Made;
use crate::policy::limits::bounds::Bounds;
use crate::policy::limits::in_flight::Keys;
use crate::policy::merged::Merged;
use crate::protocol::grpc;
use crate::protocol::h1::{RequestHead, Version};
use crate::protocol::lines::{LineBuf, Lines};
use crate::protocol::sent::Form;
use crate::runtime::driver::Driver;
use crate::session::back::carrier::Carrier;
use crate::session::engine::Engine;
use crate::session::exchange::again::Again;
use crate::session::exchange::attempt::{Attempt, Tries};
use crate::session::exchange::auth::authorising::Parked;
use crate::session::exchange::body::Body;
use crate::session::exchange::falling_back::Spare;
use crate::session::exchange::filters::compressing::Compressing;
use crate::session::exchange::filters::pacing::Pacing;
use crate::session::exchange::own::{Answer, Asked};
use crate::session::exchange::record::{Ended, Record, Tally};
use crate::session::exchange::waiting::Place;
use crate::session::front::asker::Asker;
use crate::session::ids::{CallId, ExchangeId};
use crate::state::entity;
use crate::state::frontend::Frontend;
use crate::state::listener::ListenerSettings;
use crate::state::tables::Tables;
use crate::telemetry::names::Counter;
use crate::upstream::{Backend, BackendSet, Cluster, ClusterSettings};

pub(in crate::session) use outcome::Outcome;

/// How far the answer to a request has come.
pub(in crate::session) enum Reply {
    /// Its final head has not.
    Awaited,
    /// Its head has, and so much of its body is to come.
    Body(Body),
    /// Bytes pass both ways unread: since a 101, or from the beginning.
    Tunnel {
        /// The backend has ended its side.
        ended: bool,
    },
}

impl Reply {
    /// Whether something of it may have been passed on.
    pub(in crate::session) fn has_begun(&self) -> bool {
        !matches!(self, Self::Awaited)
    }

    /// Whether bytes pass unread.
    pub(in crate::session) fn is_tunnel(&self) -> bool {
        matches!(self, Self::Tunnel { .. })
    }

    /// Whether it is a tunnel whose backend has ended its side.
    pub(in crate::session) fn is_half_closed(&self) -> bool {
        matches!(self, Self::Tunnel { ended: true })
    }

    /// Whether nothing is to come of its body.
    fn is_done(&self) -> bool {
        matches!(self, Self::Body(Body::Done))
    }
}

/// A request in flight.
pub(in crate::session) struct Exchange {
    pub(in crate::session) asker: Asker,
    /// The version of its client: no chunks for 1.0 and 2, no interim responses for 1.0.
    version: Version,
    pub(in crate::session) listener: Rc<ListenerSettings>,
    pub(in crate::session) frontend: Rc<Frontend>,
    pub(in crate::session) cluster: Arc<ClusterSettings>,
    backends: Rc<BackendSet>,
    /// How large it may be and how long it may take.
    pub(in crate::session) bounds: Bounds,
    /// The cluster that counts it.
    pub(in crate::session) served_by: Rc<Cluster>,
    /// The try that is being made.
    pub(in crate::session) attempt: Option<Attempt>,
    /// What those before have come to.
    pub(in crate::session) tries: Tries,
    /// What there is of it for further ones, if its cluster says anything of them.
    pub(in crate::session) again: Option<Box<Again>>,
    /// It waits to be let pass, or has been answered instead.
    parked: Option<Box<Parked>>,
    /// Who serves it where no backend can be asked, if its cluster names somebody.
    pub(in crate::session) spare: Option<Box<Spare>>,
    /// What repeats it to the mirrors of its frontend, if something does.
    pub(in crate::session) mirrors: Option<Box<Mirrors>>,
    /// The settings that it is served by.
    settings: Arc<entity::Settings>,
    /// The `Kakehi-Generation` response header of its generation, when asked for.
    generation_header: Option<Rc<LineBuf>>,
    /// Lines that its frontend gives every answer, where it edits their fields.
    response_lines: Option<Made>,
    /// What its client takes, and what compresses the answer, where its frontend asks for that.
    compressing: Option<Box<Compressing>>,
    /// What bounds it as a whole, if anything does.
    pacing: Option<Box<Pacing>>,
    /// Under which keys it is counted while it is in flight, if it is.
    crowd: Option<Keys>,
    /// The request head as its backends get it; kept until the response begins, for another try. Then,
    /// for a moment, the response head that waits for its body's first bytes; see `back::stream_reply`.
    pub(in crate::session) head: Vec<u8>,
    /// What its bytes are.
    pub(in crate::session) head_form: Form,
    /// What of it is counted as memory that waits.
    head_bytes: u32,
    /// What is to come of the request body.
    pub(in crate::session) request: Body,
    /// The request body is framed in chunks towards the backend.
    request_chunked: bool,
    /// The upstream does not read any more: the rest of the request body is thrown away.
    pub(in crate::session) request_discarded: bool,
    pub(in crate::session) reply: Reply,
    /// The response body is framed in chunks towards the client.
    response_chunked: bool,
    /// The client's connection may be used again afterwards.
    pub(in crate::session) keep_alive: bool,
    pub(in crate::session) head_only: bool,
    /// Sending it twice does no harm and nothing of it is lost: no body, idempotent method
    /// (RFC 9110 §9.2.2).
    replayable: bool,
    /// The protocol that the backend has been asked to switch to.
    pub(in crate::session) upgrade: Option<Box<Switch>>,
    /// It is a call of gRPC, which a page of ours says nothing to.
    is_grpc: bool,
    /// The client waits for 100 before it sends the body.
    pub(in crate::session) expects_continue: bool,
    /// Interim responses passed on so far.
    pub(in crate::session) interim_count: u32,
    pub(in crate::session) record: Record,
}

/// What a backend has been asked to switch to.
pub(in crate::session) struct Switch {
    pub(in crate::session) protocol: Box<[u8]>,
    /// By which a client of HTTP/1.1 knows that its backend has understood (RFC 6455 §4.2.2).
    pub(in crate::session) key: Option<Box<[u8]>>,
}

impl Switch {
    fn of(protocol: &[u8], head: &RequestHead, bytes: &[u8]) -> Self {
        let mut keys = head.values(bytes, "sec-websocket-key");
        Self {
            protocol: protocol.into(),
            key: keys.next().map(Into::into),
        }
    }
}

/// Calls that repeat a request.
#[derive(Default)]
pub(in crate::session) struct Mirrors(Vec<CallId>);

/// What an exchange is made of: who asks whom, by what.
pub(in crate::session) struct Parties<'a> {
    pub(in crate::session) asker: Asker,
    pub(in crate::session) version: Version,
    pub(in crate::session) listener: Rc<ListenerSettings>,
    pub(in crate::session) frontend: Rc<Frontend>,
    pub(in crate::session) cluster: Rc<Cluster>,
    pub(in crate::session) tables: &'a Tables,
}

impl Exchange {
    /// A request without a body, whose answer is awaited, and whose head is still to be told.
    pub(in crate::session) fn new(parties: Parties<'_>, record: Record) -> Self {
        let Parties {
            asker,
            version,
            listener,
            frontend,
            cluster,
            tables,
        } = parties;
        let settings = cluster.settings();
        let said = match asker {
            // A call has the time that its own cluster gives.
            Asker::Call(_) => None,
            _ => frontend.merged(&listener).and_then(Merged::bounds),
        };
        let bounds = Bounds::of(said, &listener.entity, &settings.entity.timeouts);
        let head_form = Form::of(settings.is_multiplexed());
        Self {
            asker,
            version,
            listener,
            bounds,
            cluster: settings,
            backends: cluster.backends(),
            served_by: cluster,
            attempt: None,
            tries: Tries::default(),
            again: None,
            parked: None,
            spare: None,
            mirrors: None,
            settings: tables.settings.clone(),
            generation_header: tables.generation_header(),
            response_lines: None,
            compressing: None,
            pacing: None,
            crowd: None,
            head_bytes: 0,
            head: Vec::new(),
            head_form,
            request: Body::Done,
            request_chunked: false,
            request_discarded: false,
            reply: Reply::Awaited,
            response_chunked: false,
            keep_alive: false,
            head_only: false,
            replayable: false,
            upgrade: None,
            is_grpc: false,
            expects_continue: false,
            interim_count: 0,
            record,
            frontend,
        }
    }

    /// Takes the head as its backends get it.
    pub(super) fn keep_head(&mut self, head: Vec<u8>) {
        self.head_bytes = head.len() as u32;
        self.head = head;
    }

    /// Whether it is a call of gRPC.
    pub(in crate::session) fn is_grpc(&self) -> bool {
        self.is_grpc
    }

    /// Where its attempt is.
    fn place(&self) -> Option<Place> {
        self.attempt.as_ref().and_then(|attempt| attempt.place)
    }

    /// Who carries it to its backend.
    pub(in crate::session) fn carrier(&self) -> Option<Carrier> {
        match self.place() {
            Some(Place::Carried(carrier)) => Some(carrier),
            Some(Place::Waits(_)) | None => None,
        }
    }

    /// The backend that is tried.
    pub(in crate::session) fn backend(&self) -> Option<&Rc<Backend>> {
        self.attempt.as_ref().map(|attempt| &attempt.backend)
    }

    /// What holds by policies.
    #[inline]
    fn merged(&self) -> Option<&Merged> {
        // What answers of a call are about is said by others.
        if self.is_call() {
            return None;
        }
        self.frontend.merged(&self.listener)
    }

    /// What an answer of our own needs to know of it.
    fn asked(&self) -> Asked {
        Asked {
            asker: self.asker,
            listener: self.listener.clone(),
            settings: self.settings.clone(),
            generation_header: self.generation_header.clone(),
            frontend: Some(self.frontend.clone()),
            response_lines: Ok(self.response_lines.clone()),
            coding: self.wanted_coding(),
            request_id: Some(self.record.request_id),
            is_grpc: self.is_grpc,
            head_only: self.head_only,
            keep_alive: self.keep_alive && self.request_done(),
        }
    }

    /// Whether it shares its connection to the backend with others.
    pub(in crate::session) fn is_multiplexed(&self) -> bool {
        self.cluster.is_multiplexed() && !self.passes_unread()
    }

    /// Whether the bytes of its request body are those that the backend is sent.
    pub(in crate::session) fn sends_request_as_it_comes(&self) -> bool {
        !self.request_chunked && !self.request_discarded && !self.keeps_body()
    }

    /// Whether the bytes of its response body are those that the client is sent, and its head has been.
    pub(in crate::session) fn sends_response_as_it_comes(&self) -> bool {
        !self.response_chunked
            && !self.is_compressed()
            && (self.head.is_empty() || self.reply.is_tunnel())
    }

    /// Whether the head of its response is here and waits, so that nothing has been sent of it.
    pub(in crate::session) fn holds_head(&self) -> bool {
        matches!(self.reply, Reply::Body(_)) && !self.head.is_empty()
    }

    /// Whether no client has asked it.
    fn is_call(&self) -> bool {
        matches!(self.asker, Asker::Call(_))
    }

    /// Whether all of the request has been read.
    pub(in crate::session) fn request_done(&self) -> bool {
        self.request.is_done()
    }
}

impl Exchange {
    /// What is counted and logged of it. An answer of our own has a status before any response, and is whole.
    fn ended<'a>(&'a self, backend: Option<&'a Backend>, outcome: Outcome) -> Ended<'a> {
        let has_begun = self.reply.has_begun();
        let parked = self.parked.as_ref();
        let limit = parked.and_then(|parked| parked.limit.as_deref());
        let is_whole = matches!(
            outcome,
            Outcome::Complete
                | Outcome::TunnelClosed
                | Outcome::AuthorisationRefused
                | Outcome::Closed
        ) || (!has_begun && self.record.status > 0);
        Ended {
            asker: self.asker,
            record: &self.record,
            frontend: Some(&self.frontend),
            cluster: Some(&*self.served_by).filter(|_| self.parked.is_none()),
            backend,
            tried: backend.or(self.tries.last().map(Rc::as_ref)),
            before: self.tries.failed(),
            fallen_from: self.fallen_from(),
            outcome: outcome.as_str(),
            reason: limit.or(self.record.reason),
            tally: match is_whole {
                true => Tally::Served,
                false => Tally::Cut,
            },
        }
    }
}

/// The line that keeps clients from asking a frontend in clear text again, where it may be said.
fn hsts_of<'a>(merged: Option<&'a Merged>, listener: &ListenerSettings) -> Option<Lines<'a>> {
    let line = merged?.hsts();
    line.filter(|_| listener.tls.is_some())
}

impl<D: Driver> Engine<D> {
    pub(in crate::session) fn insert_exchange(&mut self, exchange: Exchange) -> ExchangeId {
        if !exchange.is_call() {
            self.metrics.add(Counter::RequestsNow, 1);
            exchange.frontend.begin(&self.metrics);
        }
        exchange.served_by.begin();
        let asker = exchange.asker;
        self.pool.hold(exchange.head_bytes as usize);
        let vacant = self.exchanges.vacant();
        let id = vacant.id();
        vacant.insert(exchange);
        self.set_exchange(asker, Some(id));
        id
    }

    /// Ends the accounting of an exchange and frees it. Both sides must have been seen to.
    pub(in crate::session) fn remove_exchange(&mut self, id: ExchangeId, outcome: Outcome) {
        let backend = self.end_attempt(id);
        let mut removed = self.exchanges.remove(id);
        // Looked at where it is: it is large.
        let Some(exchange) = &mut removed else {
            return;
        };
        if let Some(encoder) = exchange.take_encoder() {
            self.encoders.give(encoder);
        }
        if exchange.is_call() {
            self.count_call(exchange, backend.as_deref(), outcome);
        } else {
            self.record(&exchange.ended(backend.as_deref(), outcome));
            self.metrics.sub(Counter::RequestsNow, 1);
            exchange.frontend.end(&self.metrics);
        }
        self.set_exchange(exchange.asker, None);
        self.metrics
            .sub(Counter::TunnelsNow, u64::from(exchange.reply.is_tunnel()));
        exchange.served_by.end();
        if let Some(keys) = &exchange.crowd {
            self.in_flight.leave(keys);
        }
        self.end_pacing(exchange.pacing.take());
        if let Some(again) = exchange.again.take() {
            self.pool.release(again.weight());
        }
        self.pool.release(exchange.head_bytes as usize);
        self.pool.give(std::mem::take(&mut exchange.head));
        self.pool.give(std::mem::take(&mut exchange.record.text));
        if let Some(parked) = &exchange.parked {
            self.pool.release(parked.weight());
            if let Some(ticket) = parked.ticket {
                self.give_ticket_up(ticket);
            }
        }
        if let Some(mirrors) = exchange.mirrors.take() {
            for mirror in mirrors.0 {
                self.leave_mirror(mirror, exchange.request.is_done());
            }
        }
    }

    /// Ends an exchange whose client is gone: the upstream connection cannot be used again.
    pub(in crate::session) fn abandon_exchange(&mut self, id: ExchangeId, outcome: Outcome) {
        if outcome == Outcome::ClientAborted {
            self.metrics.add(Counter::AbortedByClientTotal, 1);
        }
        self.leave_place(id);
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
        self.fail_by(id, Answer::taken(status, outcome), outcome);
    }

    /// The same for a call of gRPC that its backend has given up, and has said as what it ends.
    pub(in crate::session) fn fail_call(&mut self, id: ExchangeId, status: grpc::Status) {
        let outcome = Outcome::BackendAborted;
        let answer = Answer {
            call: Some(status),
            ..Answer::taken(502, outcome)
        };
        self.fail_by(id, answer, outcome);
    }

    fn fail_by(&mut self, id: ExchangeId, answer: Answer, outcome: Outcome) {
        self.leave_place(id);
        let exchange = &mut self.exchanges[id];
        let asker = exchange.asker;
        if let Asker::Call(call) = asker {
            return self.end_call(call, outcome);
        }
        if exchange.holds_head() {
            exchange.reply = Reply::Awaited;
        }
        if exchange.reply.has_begun() {
            self.remove_exchange(id, outcome);
            return self.cut_asker(asker);
        }
        let (asked, status) = (exchange.asked(), answer.status);
        if status == 502 && outcome != Outcome::Intercepted {
            self.metrics.add(Counter::BadGateway502Total, 1);
        }
        let made = self.make(&asked, &answer);
        let record = &mut self.exchanges[id].record;
        record.status = status;
        record.bytes_out = made.content_bytes();
        self.remove_exchange(id, outcome);
        self.send_made(asker, &made);
    }

    /// Ends an exchange whose response has been sent whole.
    pub(in crate::session) fn finish_exchange(&mut self, id: ExchangeId) {
        let exchange = &self.exchanges[id];
        let asker = exchange.asker;
        let keep_alive = exchange.keep_alive && exchange.request_done();
        let outcome = match exchange.parked {
            None => Outcome::Complete,
            Some(_) => Outcome::AuthorisationRefused,
        };
        if let Some(carrier) = exchange.carrier() {
            self.release_carrier(carrier);
        }
        self.remove_exchange(id, outcome);
        self.end_response(asker, keep_alive);
    }
}
