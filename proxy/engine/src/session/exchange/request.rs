//! The request's way in: a head is complete, and is admitted, routed and given to a backend, or answered.
//!
//! Rule: a head has one form whatever version it came by. Called by `front` with each that is whole.

use std::rc::Rc;

use crate::protocol::h1::forward::{self, Forward};
use crate::protocol::h1::request::RequestHead;
use crate::protocol::h1::{ChunkLimits, ChunkedDecoder, RequestBody, Version};
use crate::routing::matcher::{HeaderLookup, Request};
use crate::runtime::driver::Driver;
use crate::session::engine::Engine;
use crate::session::engine::RequestId;
use crate::session::exchange::body::Body;
use crate::session::exchange::record::Record;
use crate::session::exchange::refuse::Answer;
use crate::session::exchange::text::AddressText;
use crate::session::exchange::{Exchange, Outcome, Parties};
use crate::session::front::client::Phase;
use crate::session::ids::{ClientId, ExchangeId};
use crate::state::frontend::Frontend;
use crate::state::listener::ListenerSettings;
use crate::telemetry::names::Counter;

/// What a client is told whose version of WebSocket is not carried (RFC 6455 §4.4, RFC 9110 §15.5.22).
const WEBSOCKET_VERSION: &str =
    "Sec-WebSocket-Version: 13\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n";

/// Whether WebSocket is passed on here, and asked for in a version that is not.
fn wants_other_websocket(head: &RequestHead, frontend: &Frontend) -> bool {
    head.wants_other_websocket && frontend.entity().passes_on(b"websocket")
}

/// Over HTTP/1.1 a handshake that is not passed on is an ordinary request; in a stream it has no
/// other reading (RFC 8441 §4).
fn must_not_switch(head: &RequestHead, bytes: &[u8], frontend: &Frontend) -> bool {
    let is_refused = head
        .upgrade(bytes)
        .is_some_and(|protocol| !frontend.entity().passes_on(protocol));
    head.version == Version::Http2 && (is_refused || head.wants_other_websocket)
}

/// The fields of a parsed head, for the routing table.
struct Fields<'a> {
    head: &'a RequestHead,
    bytes: &'a [u8],
}

impl HeaderLookup for Fields<'_> {
    fn any_value(&self, name: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        self.head.values(self.bytes, name).any(test)
    }
}

impl<D: Driver> Engine<D> {
    /// A head is complete: from here on one generation serves this request.
    pub(in crate::session) fn request_arrived(
        &mut self,
        id: ClientId,
        listener: &Rc<ListenerSettings>,
        head: &RequestHead,
        bytes: &[u8],
    ) {
        let request_id = self.next_request_id();
        let trusted = listener.trusts(self.clients[id].peer.ip());
        let record = self.begin_record(head, bytes, request_id, trusted);
        if let Some(answer) = self.challenges.answer(head.path(bytes)) {
            return self.answer_challenge(id, head, bytes, record, answer);
        }
        let frontend = self.route(id, head, bytes);
        let too_large = matches!((head.body, listener.entity.limits.body_bytes),
            (RequestBody::Length(length), Some(limit)) if length > limit);
        let full = self.exchanges.len() >= self.tables.settings.max_requests as usize
            || self.is_short_of_memory();
        let (status, outcome, counter) = match &frontend {
            _ if full => (503, Outcome::Overloaded, Counter::RefusedRequestsTotal),
            _ if self.is_misdirected(id, listener, head.host(bytes)) => {
                (421, Outcome::Misdirected, Counter::Rejected421Total)
            }
            None => (404, Outcome::NoFrontend, Counter::NotFound404Total),
            Some(frontend) if self.must_show(id, frontend) => {
                (403, Outcome::CertificateMissing, Counter::Rejected403Total)
            }
            Some(frontend) if self.is_too_early(id, head, bytes, frontend) => {
                (425, Outcome::TooEarly, Counter::Rejected425Total)
            }
            Some(frontend) if wants_other_websocket(head, frontend) => {
                (426, Outcome::WebSocketVersion, Counter::Rejected426Total)
            }
            Some(frontend) if must_not_switch(head, bytes, frontend) => {
                (501, Outcome::UpgradeRefused, Counter::Rejected501Total)
            }
            Some(_) if too_large => (413, Outcome::RequestTooLarge, Counter::Rejected413Total),
            Some(_) => (0, Outcome::Complete, Counter::RequestsTotal),
        };
        let Some(frontend) = frontend.filter(|_| status == 0) else {
            self.metrics.add(counter, 1);
            let answer = Answer {
                status,
                outcome,
                line: (status == 426).then(|| WEBSOCKET_VERSION.into()),
                body: None,
            };
            return self.answer_request(id, head, bytes, record, answer);
        };
        if self.must_redirect(id, listener, head, bytes, &frontend) {
            return self.redirect(id, head, bytes, &frontend, record);
        }
        let exchange = self.begin_exchange(id, listener, head, bytes, frontend, record);
        self.clients[id].phase = Phase::InExchange;
        self.try_backend(exchange);
    }

    /// An authority asks whether the host is ours.
    fn answer_challenge(
        &mut self,
        id: ClientId,
        head: &RequestHead,
        bytes: &[u8],
        record: Record,
        answer: String,
    ) {
        self.metrics.add(Counter::RequestsTotal, 1);
        self.metrics.add(Counter::RequestsServedTotal, 1);
        let answer = Answer {
            status: 200,
            outcome: Outcome::ChallengeAnswered,
            line: None,
            body: Some(answer.into()),
        };
        self.answer_request(id, head, bytes, record, answer);
    }

    /// Whether the TLS of a host is not ours to end, although the request has come over ours: by a
    /// connection for another host whose certificate is valid for this one too (RFC 9113 §9.1.1).
    fn is_misdirected(&self, id: ClientId, listener: &ListenerSettings, host: &[u8]) -> bool {
        listener.tls.is_some()
            && !self.clients[id]
                .listener
                .routes
                .passthroughs
                .borrow()
                .is_empty()
            && self.passthrough_of(id, host).is_some()
    }

    /// Whether a certificate is wanted that the client has not shown.
    fn must_show(&self, id: ClientId, frontend: &Frontend) -> bool {
        frontend.entity().client_certificate.is_some() && self.clients[id].identity.is_none()
    }

    /// Whether a request may be somebody else's repetition, and is not one that nothing comes of (RFC 8470
    /// §3): its client asks again as soon as the handshake is complete.
    fn is_too_early(
        &self,
        id: ClientId,
        head: &RequestHead,
        bytes: &[u8],
        frontend: &Frontend,
    ) -> bool {
        let is_safe = matches!(head.method(bytes), b"GET" | b"HEAD" | b"OPTIONS")
            && matches!(head.body, RequestBody::None | RequestBody::Length(0))
            && head.upgrade(bytes).is_none();
        self.is_early(id) && !(is_safe && frontend.entity().early_data)
    }

    fn route(&self, id: ClientId, head: &RequestHead, bytes: &[u8]) -> Option<Rc<Frontend>> {
        let frontends = self.clients[id].listener.routes.frontends.borrow();
        let fields = Fields { head, bytes };
        let request = Request {
            host: head.host(bytes),
            path: head.path(bytes),
            query: head.query(bytes),
            method: head.method(bytes),
            headers: &fields,
        };
        frontends.lookup(&request).cloned()
    }

    /// From here on one generation serves a request.
    fn begin_exchange(
        &mut self,
        id: ClientId,
        listener: &Rc<ListenerSettings>,
        head: &RequestHead,
        bytes: &[u8],
        frontend: Rc<Frontend>,
        record: Record,
    ) -> ExchangeId {
        let upgrade: Option<Box<[u8]>> = head
            .upgrade(bytes)
            .filter(|protocol| frontend.entity().passes_on(protocol))
            .map(Into::into);
        let text = self.text_of(id, listener, head, bytes, record.id(), upgrade.is_some());
        let parties = Parties {
            client: id,
            version: head.version,
            listener: listener.clone(),
            frontend,
            tables: &self.tables,
        };
        let mut exchange = Exchange::new(parties, text, record);
        let method = head.method(bytes);
        exchange.request = body_of(head);
        exchange.request_chunked =
            head.body == RequestBody::Chunked && !exchange.cluster.is_multiplexed();
        exchange.keep_alive = head.keep_alive;
        exchange.head_only = method == b"HEAD";
        exchange.replayable = exchange.request.is_done()
            && matches!(
                method,
                b"GET" | b"HEAD" | b"OPTIONS" | b"PUT" | b"DELETE" | b"TRACE"
            );
        exchange.upgrade = upgrade;
        exchange.expects_continue = head.expect_continue;
        self.metrics.add(Counter::RequestsTotal, 1);
        let exchange = self.insert_exchange(exchange);
        self.await_request_body(id);
        exchange
    }

    /// The head as it is sent to a backend.
    fn text_of(
        &mut self,
        id: ClientId,
        listener: &ListenerSettings,
        head: &RequestHead,
        bytes: &[u8],
        request_id: &str,
        upgrade: bool,
    ) -> Vec<u8> {
        let mut text = self.pool.take();
        let client = &self.clients[id];
        let address = AddressText::new(client.peer);
        let forward = Forward {
            client_ip: address.ip(),
            client_port: 0,
            listener_port: client.listener.address.port(),
            scheme: listener.scheme(),
            trusted: listener.trusts(client.peer.ip()),
            client_cert: client.identity.as_deref(),
            request_id,
            early: self.is_early(id),
            upstream_keep_alive: true,
            upgrade,
            body: head.body,
        };
        forward::write_request(&mut text, bytes, head, &forward);
        text
    }

    /// A request id nobody can guess the next of is not needed; one that is unique is: random start
    /// of the process, then a counter spread over the bits.
    pub(in crate::session) fn next_request_id(&mut self) -> RequestId {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        self.request_serial = self.request_serial.wrapping_add(1);
        let mut id = [b'0'; 32];
        let value = u128::from(self.request_seed) << 64 | u128::from(self.request_serial);
        for (position, digit) in id.iter_mut().enumerate() {
            *digit = HEX[(value >> (124 - 4 * position) & 15) as usize];
        }
        id
    }
}

/// What is to come of a request's body.
fn body_of(head: &RequestHead) -> Body {
    match head.body {
        RequestBody::None | RequestBody::Length(0) => Body::Done,
        RequestBody::Length(length) => Body::Length(length),
        // Frames are taken apart where they come, and their end is told.
        RequestBody::Chunked if head.version == Version::Http2 => Body::UntilClose,
        RequestBody::Chunked => {
            Body::Chunked(Box::new(ChunkedDecoder::new(ChunkLimits::default())))
        }
    }
}
