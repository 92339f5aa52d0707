//! The request's way in: parse, route, admit, choose a backend, send.

use std::rc::Rc;

use crate::protocol::h1::forward::{self, Forward};
use crate::protocol::h1::request::{self, RequestHead};
use crate::protocol::h1::{
    ChunkLimits, ChunkedDecoder, RequestBody, Version, is_worth_parsing, write_last_chunk,
};
use crate::protocol::h2;
use crate::routing::matcher::{HeaderLookup, Request};
use crate::runtime::driver::Driver;
use crate::session::engine::Engine;
use crate::session::engine::RequestId;
use crate::session::exchange::body::{Body, Taken};
use crate::session::exchange::record::{Attempt, Record};
use crate::session::exchange::refuse::Answer;
use crate::session::exchange::{Exchange, Outcome};
use crate::session::front::client::{Client, Phase};
use crate::session::ids::{ClientId, ExchangeId};
use crate::state::frontend::Frontend;
use crate::state::listener::ListenerSettings;
use crate::telemetry::names::Counter;

/// What a client is told whose version of WebSocket is not carried (RFC 6455 §4.4, RFC 9110 §15.5.22).
const WEBSOCKET_VERSION: &str =
    "Sec-WebSocket-Version: 13\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n";

/// Whether WebSocket is passed on here, and asked for in a version that is not.
fn wants_other_websocket(head: &RequestHead, frontend: &Frontend) -> bool {
    head.wants_other_websocket && frontend.entity.passes_on(b"websocket")
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
    /// Takes a request head from the front of the input; 0 when it is not complete yet.
    pub(in crate::session) fn request_input(&mut self, id: ClientId, data: &[u8]) -> usize {
        let listener = self.clients[id].listener.settings();
        if listener.entity.h2c && !self.clients[id].served {
            match h2::is_preface(data) {
                Some(false) => {}
                None => {
                    self.await_rest_of_head(id, &listener);
                    return 0;
                }
                Some(true) => {
                    self.begin_multiplex(id);
                    return self.multiplex_input(id, data);
                }
            }
        }
        // Bytes that were parsed in vain before and still wait: a byte at a time must not cost a
        // parse each.
        let seen = self.clients[id].input.len();
        if seen < data.len() && !is_worth_parsing(data, seen, &listener.head_limits) {
            self.await_rest_of_head(id, &listener);
            return 0;
        }
        let mut head = std::mem::take(&mut self.request_head);
        head.slashes = listener.slashes;
        let consumed = match request::parse(data, &listener.head_limits, &mut head) {
            Ok(None) => {
                self.await_rest_of_head(id, &listener);
                0
            }
            Ok(Some(length)) => {
                if !listener.trusts(self.clients[id].peer.ip()) {
                    head.drop_forwarding_fields();
                }
                if !listener.entity.underscores_in_headers {
                    head.drop_underscores(&data[..length]);
                }
                self.unlink_idle(id);
                self.clients[id].deadline.clear();
                self.request_arrived(id, &listener, &head, &data[..length]);
                length
            }
            Err(reject) => {
                self.unlink_idle(id);
                self.reject_request(id, reject, &Attempt::of_head(&head, data));
                data.len()
            }
        };
        self.request_head = head;
        consumed
    }

    fn await_rest_of_head(&mut self, id: ClientId, listener: &ListenerSettings) {
        let client = &mut self.clients[id];
        if client.phase == Phase::ExpectHead {
            return;
        }
        client.phase = Phase::ExpectHead;
        let limit = listener.entity.timeouts.request_head;
        self.await_client_for(id, limit);
        self.unlink_idle(id);
    }

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
            Some(frontend) if self.must_not_switch(id, head, bytes, frontend) => {
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
        frontend.entity.client_certificate.is_some() && self.clients[id].identity.is_none()
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
        self.is_early(id) && !(is_safe && frontend.entity.early_data)
    }

    /// See [`Transport::is_early`], of a client or of the connection that it is a stream of.
    ///
    /// [`Transport::is_early`]: crate::session::transport::Transport::is_early
    fn is_early(&self, id: ClientId) -> bool {
        let stream = &self.clients[id].stream;
        match stream.lane() {
            Some(lane) => self.clients[lane.connection].stream.is_early(),
            None => stream.is_early(),
        }
    }

    /// Over HTTP/1.1 a handshake that is not passed on is an ordinary request; in a stream it has no
    /// other reading (RFC 8441 §4).
    fn must_not_switch(
        &self,
        id: ClientId,
        head: &RequestHead,
        bytes: &[u8],
        frontend: &Frontend,
    ) -> bool {
        let is_refused = head
            .upgrade(bytes)
            .is_some_and(|protocol| !frontend.entity.passes_on(protocol));
        self.clients[id].stream.lane().is_some() && (is_refused || head.wants_other_websocket)
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

    fn begin_exchange(
        &mut self,
        id: ClientId,
        listener: &Rc<ListenerSettings>,
        head: &RequestHead,
        bytes: &[u8],
        frontend: Rc<Frontend>,
        record: Record,
    ) -> ExchangeId {
        let client = &self.clients[id];
        let upgrade = head
            .upgrade(bytes)
            .filter(|protocol| frontend.entity.passes_on(protocol))
            .map(Into::into);
        let mut head_out = self.pool.take();
        let address = crate::session::exchange::text::AddressText::new(client.peer);
        let forward = Forward {
            client_ip: address.ip(),
            client_port: 0,
            listener_port: client.listener.address.port(),
            scheme: listener.scheme(),
            trusted: listener.trusts(client.peer.ip()),
            client_cert: client.identity.as_deref(),
            request_id: record.id(),
            early: self.is_early(id),
            upstream_keep_alive: true,
            upgrade: upgrade.is_some(),
            body: head.body,
        };
        forward::write_request(&mut head_out, bytes, head, &forward);
        let method = head.method(bytes);
        let request = match head.body {
            RequestBody::None | RequestBody::Length(0) => Body::Done,
            RequestBody::Length(length) => Body::Length(length),
            // Frames have been taken apart already; their end is told by `lane_request_ended`.
            RequestBody::Chunked if client.stream.lane().is_some() => Body::UntilClose,
            RequestBody::Chunked => {
                Body::Chunked(Box::new(ChunkedDecoder::new(ChunkLimits::default())))
            }
        };
        let replayable = request.is_done()
            && matches!(
                method,
                b"GET" | b"HEAD" | b"OPTIONS" | b"PUT" | b"DELETE" | b"TRACE"
            );
        let settings = &self.tables.settings;
        let cluster = frontend.cluster.settings();
        let is_multiplexed = cluster.is_multiplexed();
        let exchange = Exchange {
            client: id,
            upstream: None,
            listener: listener.clone(),
            cluster,
            backends: frontend.cluster.backends(),
            backend: None,
            tried: Vec::new(),
            is_repeated: false,
            connect_failure: None,
            settings: settings.clone(),
            generation_header: self.tables.generation_header(),
            head_bytes: head_out.len() as u32,
            head: head_out,
            request,
            request_chunked: head.body == RequestBody::Chunked && !is_multiplexed,
            request_discarded: false,
            response: None,
            response_chunked: false,
            keep_alive: head.keep_alive,
            http10: head.version == Version::Http10,
            head_only: method == b"HEAD",
            replayable,
            upgrade,
            expects_continue: head.expect_continue,
            tunnel: false,
            response_ended: false,
            interim_count: 0,
            record,
            frontend,
        };
        self.metrics.add(Counter::RequestsTotal, 1);
        let exchange = self.insert_exchange(exchange);
        self.await_request_body(id);
        exchange
    }

    /// Sets the time within which more of a request body must come. Once the response has begun there
    /// is none: a stream may be silent in one direction, and only the silence of both ends it
    /// (`await_response`).
    pub(in crate::session) fn await_request_body(&mut self, id: ClientId) {
        let client = &mut self.clients[id];
        let Some(exchange) = client.exchange else {
            return;
        };
        let exchange = &self.exchanges[exchange];
        if exchange.request_done() || client.phase != Phase::InExchange {
            return;
        }
        if exchange.response.is_some() {
            return client.clear_deadline(&mut self.timers, id);
        }
        let limit = exchange.listener.entity.timeouts.request_body;
        client.set_deadline(&mut self.timers, id, self.clock.ms() + limit);
    }

    /// Whether the request is not complete, or the response has begun. A client that ends its stream
    /// then has left: nobody shuts a sending side while reading an answer, and a stream of events
    /// must not go on for nobody.
    pub(in crate::session) fn exchange_is_half_way(&self, id: ClientId) -> bool {
        let exchange = self.clients[id]
            .exchange
            .map(|exchange| &self.exchanges[exchange]);
        exchange.is_some_and(|exchange| !exchange.request_done() || exchange.response.is_some())
    }

    /// Whether bytes of a client in an exchange have somewhere to go.
    pub(in crate::session) fn exchange_wants_input(&self, client: &Client) -> bool {
        let Some(exchange) = client.exchange.map(|id| &self.exchanges[id]) else {
            return false;
        };
        if client.phase == Phase::InExchange && exchange.request_done() {
            // The start of the next request may be read, and so is the end of the stream.
            return client.input.is_empty();
        }
        if exchange.request_discarded {
            return true;
        }
        exchange
            .upstream
            .is_some_and(|upstream| self.upstream_has_room(upstream))
    }

    /// Takes request body bytes from the front of the input; 0 when they must wait.
    pub(in crate::session) fn request_body_input(&mut self, id: ClientId, data: &[u8]) -> usize {
        let Some(number) = self.clients[id].exchange else {
            return 0;
        };
        let exchange = &mut self.exchanges[number];
        let waits = exchange.request_done()
            || !(exchange.request_discarded
                || exchange
                    .upstream
                    .is_some_and(|upstream| self.upstreams[upstream].has_room()));
        if waits {
            return 0;
        }
        let mut out = std::mem::take(&mut self.scratch);
        out.clear();
        let chunked = exchange.request_chunked;
        let taken = exchange.request.take(data, chunked, &mut out);
        let consumed = match taken {
            Ok(taken) => {
                let consumed = taken.consumed;
                self.pass_request_body(id, number, &out, &taken);
                consumed
            }
            Err(_) => {
                self.metrics.add(Counter::Rejected400Total, 1);
                // Where the next request begins is unknown.
                self.exchanges[number].keep_alive = false;
                self.fail_exchange(number, 400, Outcome::RequestMalformed);
                data.len()
            }
        };
        self.scratch = out;
        consumed
    }

    /// Frames have told that a request body is over (HTTP/2).
    pub(in crate::session) fn request_body_ended(&mut self, id: ClientId, trailers: &[u8]) {
        let Some(number) = self.clients[id].exchange else {
            return;
        };
        let exchange = &mut self.exchanges[number];
        if !matches!(exchange.request, Body::UntilClose) {
            return;
        }
        exchange.request = Body::Done;
        self.clients[id].clear_deadline(&mut self.timers, id);
        let exchange = &self.exchanges[number];
        if let Some(upstream) = exchange.upstream.filter(|_| !exchange.request_discarded) {
            if self.upstreams[upstream].stream.lane().is_some() {
                return self.trunk_lane_end(upstream, trailers);
            }
            let mut out = std::mem::take(&mut self.scratch);
            out.clear();
            write_last_chunk(&mut out, trailers);
            self.send_upstream(upstream, &out, &[]);
            self.scratch = out;
        }
    }

    fn pass_request_body(
        &mut self,
        id: ClientId,
        number: ExchangeId,
        out: &[u8],
        taken: &Taken<'_>,
    ) {
        let exchange = &mut self.exchanges[number];
        exchange.record.bytes_in += taken.content;
        let over = exchange
            .listener
            .entity
            .limits
            .body_bytes
            .is_some_and(|limit| exchange.record.bytes_in > limit);
        if over {
            self.metrics.add(Counter::Rejected413Total, 1);
            exchange.keep_alive = false;
            return self.fail_exchange(number, 413, Outcome::RequestTooLarge);
        }
        if exchange.request_done() {
            self.clients[id].clear_deadline(&mut self.timers, id);
        } else {
            self.await_request_body(id);
        }
        let exchange = &self.exchanges[number];
        let done = exchange.request_done();
        match exchange.upstream {
            Some(upstream) if !exchange.request_discarded => {
                let is_lane = self.upstreams[upstream].stream.lane().is_some();
                if is_lane && done {
                    self.trunk_lane_end_after(upstream, &taken.trailers);
                }
                self.send_upstream(upstream, out, taken.tail);
            }
            _ => {}
        }
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
