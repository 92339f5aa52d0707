//! The request's body on its way to the backend.
//!
//! Rule: bytes are taken from the client when there is room for them at the upstream, and not before. Called
//! by who reads a client (`front`) with what has come, and by who has made room (`back`).

use crate::protocol::lines::Lines;
use crate::runtime::driver::Driver;
use crate::session::engine::Engine;
use crate::session::exchange::body::{Body, Taken};
use crate::session::exchange::{Exchange, Outcome};
use crate::session::ids::ExchangeId;
use crate::telemetry::names::Counter;

impl Exchange {
    /// Whether the request is not complete with what is `waiting`, or the response has begun. A client that ends
    /// its connection then has left: nobody shuts a sending side while reading an answer, and a stream of
    /// events must not go on for nobody.
    pub(in crate::session) fn is_half_way_with(&self, waiting: &[u8]) -> bool {
        !self.request.is_whole_with(waiting) || self.reply.has_begun()
    }

    /// Whether its client has no word behind its body: somebody else says who it is, or fields are set and
    /// removed, and there are backends that read trailers as headers (T26).
    pub(super) fn drops_trailers(&self) -> bool {
        let merged = self.frontend.merged(&self.listener);
        merged.is_some_and(|it| it.edits_requests() || it.identifying().next().is_some())
    }

    /// Whether its client wants to be told to go on before it sends the body, and has not been.
    pub(in crate::session) fn waits_for_continue(&self) -> bool {
        self.expects_continue && self.interim_count == 0
    }
}

impl<D: Driver> Engine<D> {
    /// Sets the time within which more of a request body must come. Once the response has begun there
    /// is none: a stream may be silent in one direction, and only the silence of both ends it
    /// (`await_response`). Nor is there any while the client waits to be told that it may begin.
    pub(in crate::session) fn await_request_body(&mut self, number: ExchangeId) {
        let exchange = &self.exchanges[number];
        let is_over = exchange.request_done() || exchange.reply.is_tunnel();
        if is_over || exchange.waits_for_continue() && exchange.record.bytes_in == 0 {
            return;
        }
        let asker = exchange.asker;
        if exchange.reply.has_begun() {
            return self.clear_asker_deadline(asker);
        }
        let limit = exchange.bounds.request_body;
        self.await_asker_for(asker, limit);
    }

    /// Whether what its asker says has somewhere to go.
    pub(in crate::session) fn exchange_wants_input(&self, number: ExchangeId) -> bool {
        let exchange = &self.exchanges[number];
        if !exchange.reply.is_tunnel() && exchange.request_done() {
            // The start of the next request may be read, and so is the end of the connection.
            return self.has_no_input(exchange.asker);
        }
        exchange.request_discarded || self.has_room_for(exchange)
    }

    /// Whether its carrier takes more of the request.
    fn has_room_for(&self, exchange: &Exchange) -> bool {
        exchange
            .carrier()
            .is_some_and(|carrier| self.has_room(carrier))
    }

    /// Takes request body bytes from the front of the input; 0 when they must wait.
    pub(in crate::session) fn request_body_input(
        &mut self,
        number: ExchangeId,
        data: &[u8],
    ) -> usize {
        let exchange = &self.exchanges[number];
        let has_place = exchange.request_discarded || self.has_room_for(exchange);
        if exchange.request_done() || !has_place {
            return 0;
        }
        let mut out = std::mem::take(&mut self.scratch);
        out.clear();
        let exchange = &mut self.exchanges[number];
        let chunked = exchange.request_chunked;
        let taken = exchange.request.take(data, chunked, &mut out, &|_| true);
        let consumed = match taken {
            Ok(taken) => {
                let consumed = taken.consumed;
                self.pass_request_body(number, &out, &taken);
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
        let mirror_at = |engine: &Self, at: usize| {
            let exchange = engine.exchanges.get(number);
            let mirrors = exchange.and_then(|it| it.mirrors.as_deref());
            mirrors.and_then(|mirrors| mirrors.0.get(at).copied())
        };
        let mut at = 0;
        while let Some(mirror) = mirror_at(self, at) {
            at += 1;
            self.mirror_body(mirror, &data[..consumed]);
        }
        consumed
    }

    /// It has been told that a request body is over (HTTP/2).
    pub(in crate::session) fn request_body_ended(
        &mut self,
        number: ExchangeId,
        trailers: Lines<'_>,
    ) {
        let exchange = &mut self.exchanges[number];
        if !matches!(exchange.request, Body::UntilClose) {
            return;
        }
        exchange.request = Body::Done;
        let asker = exchange.asker;
        self.clear_asker_deadline(asker);
        let exchange = &self.exchanges[number];
        let trailers = match exchange.drops_trailers() {
            true => Lines::default(),
            false => trailers,
        };
        if exchange.again.is_some() {
            self.keep_end(number, trailers);
        }
        let exchange = &self.exchanges[number];
        let mirrors = exchange.mirrors.as_deref().map(|mirrors| mirrors.0.clone());
        if let Some(carrier) = exchange.carrier().filter(|_| !exchange.request_discarded) {
            self.end_upload(carrier, trailers);
        }
        for mirror in mirrors.into_iter().flatten() {
            self.mirror_ended(mirror, trailers);
        }
    }

    fn pass_request_body(&mut self, number: ExchangeId, out: &[u8], taken: &Taken<'_>) {
        let exchange = &mut self.exchanges[number];
        exchange.record.bytes_in += taken.content;
        if exchange.record.bytes_in > exchange.bounds.body_bytes {
            self.metrics.add(Counter::Rejected413Total, 1);
            exchange.keep_alive = false;
            return self.fail_exchange(number, 413, Outcome::RequestTooLarge);
        }
        let (asker, done) = (exchange.asker, exchange.request_done());
        if done {
            self.clear_asker_deadline(asker);
        } else {
            self.await_request_body(number);
        }
        let last = done.then_some(taken.trailers.lines());
        if self.exchanges[number].again.is_some() {
            self.keep_body(number, [out, taken.tail], last);
        }
        let exchange = &self.exchanges[number];
        if let Some(carrier) = exchange.carrier().filter(|_| !exchange.request_discarded) {
            self.upload(carrier, out, taken.tail, last);
        }
    }

    /// The request was not here in time.
    pub(in crate::session) fn request_body_late(&mut self, number: ExchangeId) {
        if self.exchanges[number].request_done() {
            return;
        }
        self.metrics.add(Counter::TimeoutsTotal, 1);
        self.metrics.add(Counter::Rejected408Total, 1);
        self.exchanges[number].keep_alive = false;
        self.fail_exchange(number, 408, Outcome::RequestTimeout);
    }
}
