//! The request's body on its way to the backend.
//!
//! Rule: bytes are taken from the client when there is room for them at the upstream, and not before. Called
//! by who reads a client (`front`) with what has come, and by who has made room (`back`).

use crate::runtime::driver::Driver;
use crate::session::engine::Engine;
use crate::session::exchange::Outcome;
use crate::session::exchange::body::{Body, Taken};
use crate::session::front::client::{Client, Phase};
use crate::session::ids::{ClientId, ExchangeId};
use crate::telemetry::names::Counter;

impl<D: Driver> Engine<D> {
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
        if exchange.reply.has_begun() {
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
        exchange.is_some_and(|exchange| !exchange.request_done() || exchange.reply.has_begun())
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
            .upstream()
            .is_some_and(|upstream| self.upstreams[upstream].has_room())
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
                    .upstream()
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
        if let Some(upstream) = exchange.upstream().filter(|_| !exchange.request_discarded) {
            self.end_upload(upstream, trailers);
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
        if let Some(upstream) = exchange.upstream().filter(|_| !exchange.request_discarded) {
            let last = done.then_some(taken.trailers.as_slice());
            self.upload(upstream, out, taken.tail, last);
        }
    }
}
