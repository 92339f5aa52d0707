//! The response's way out: parse, check against the request, frame for the client, send.

use crate::protocol::h1::response::{self, ResponseHead};
use crate::protocol::h1::{
    ChunkLimits, ChunkedDecoder, Delivery, Persistence, ResponseBody, ResponseForward,
    websocket_accept, write_last_chunk, write_response,
};
use crate::runtime::driver::Driver;
use crate::session::engine::Engine;
use crate::session::exchange::Outcome;
use crate::session::exchange::body::{Body, Taken};
use crate::session::front::client::Phase;
use crate::session::ids::{ClientId, ExchangeId, UpstreamId};
use crate::telemetry::names::{Counter, Histogram};

/// Interim responses that one exchange may pass on (T36).
const INTERIM_COUNT_MAX: u32 = 16;

impl<D: Driver> Engine<D> {
    /// Takes a response head from the front of the input; 0 when it is not complete yet.
    pub(in crate::session) fn response_head_input(
        &mut self,
        id: UpstreamId,
        number: ExchangeId,
        data: &[u8],
    ) -> usize {
        let exchange = &self.exchanges[number];
        let (head_only, upgrade) = (exchange.head_only, exchange.upgrade.as_deref());
        let limits = exchange.cluster.head_limits();
        let mut head = std::mem::take(&mut self.response_head);
        let consumed = match response::parse(data, &limits, head_only, upgrade, &mut head) {
            Ok(None) => 0,
            Ok(Some(length)) if head.interim => {
                self.interim_arrived(number, &head, &data[..length]);
                length
            }
            Ok(Some(length)) => {
                length
                    + self.response_arrived(id, number, &mut head, &data[..length], &data[length..])
            }
            Err(fault) => {
                self.exchanges[number].record.reason = Some(fault.as_str());
                self.response_malformed(number);
                data.len()
            }
        };
        self.response_head = head;
        consumed
    }

    pub(in crate::session) fn response_malformed(&mut self, number: ExchangeId) {
        self.metrics.add(Counter::BadGateway502Total, 1);
        self.fail_exchange(number, 502, Outcome::ResponseMalformed);
    }

    pub(in crate::session) fn interim_arrived(
        &mut self,
        number: ExchangeId,
        head: &ResponseHead,
        bytes: &[u8],
    ) {
        let exchange = &mut self.exchanges[number];
        exchange.interim_count += 1;
        if exchange.interim_count > INTERIM_COUNT_MAX {
            return self.response_malformed(number);
        }
        // HTTP/1.0 knows no interim responses (RFC 9110 §15.2).
        if exchange.http10 {
            return;
        }
        let client = exchange.client;
        let mut out = std::mem::take(&mut self.scratch);
        out.clear();
        let forward = ResponseForward {
            delivery: Delivery::NoBody,
            persistence: Persistence::Implied,
            date: self.clock.date(),
            extra: [&[], &[], &[]],
            protocol: &[],
        };
        write_response(&mut out, bytes, head, &forward);
        self.send_head_to_client(client, &out);
        self.scratch = out;
    }

    fn send_head_to_client(&mut self, client: ClientId, head: &[u8]) {
        if self.clients[client].stream.lane().is_some() {
            self.lane_head(client, head, false);
        } else {
            self.send_client(client, head, &[]);
        }
    }

    /// The final head: passes it on with as much of the body as came with it. Returns how many
    /// bytes of `rest` were used up.
    pub(in crate::session) fn response_arrived(
        &mut self,
        id: UpstreamId,
        number: ExchangeId,
        head: &mut ResponseHead,
        bytes: &[u8],
        rest: &[u8],
    ) -> usize {
        let exchange = &mut self.exchanges[number];
        if exchange.hsts().is_some() {
            head.drop_fields(bytes, b"strict-transport-security");
        }
        let client = exchange.client;
        let is_lane = self.clients[client].stream.lane().is_some();
        let mut proof = None;
        if head.switching_protocols && head.status != 101 {
            // Over HTTP/2 it is a 200 (RFC 8441 §5).
            head.status = 101;
            proof = websocket_accept(&exchange.head)
                .filter(|_| !is_lane)
                .map(|accept| [b"Sec-WebSocket-Accept: ", accept.as_slice(), b"\r\n"].concat());
        }
        let body = match head.body {
            // Frames tell the end, and their length has been checked against the head.
            _ if self.upstreams[id].stream.lane().is_some() => {
                match self.upstreams[id]
                    .stream
                    .lane()
                    .is_some_and(|lane| lane.received)
                {
                    true => Body::Done,
                    false => Body::UntilClose,
                }
            }
            ResponseBody::None | ResponseBody::Length(0) => Body::Done,
            ResponseBody::Length(length) => Body::Length(length),
            ResponseBody::Chunked => {
                Body::Chunked(Box::new(ChunkedDecoder::new(ChunkLimits::of_backend())))
            }
            ResponseBody::UntilClose => Body::UntilClose,
        };
        let delivery = match head.body {
            ResponseBody::None => Delivery::NoBody,
            ResponseBody::Length(length) => Delivery::Length(length),
            ResponseBody::Chunked | ResponseBody::UntilClose if exchange.http10 || is_lane => {
                Delivery::UntilClose
            }
            ResponseBody::Chunked | ResponseBody::UntilClose => Delivery::Chunked,
        };
        let closing = self.clients[client].listener.draining.get() || self.stopping;
        // An answer before the end of the request: whether the body still comes is unknown after
        // `Expect: 100-continue` (RFC 9110 §10.1.1), and if the answer is here whole, it will be over
        // first. The rest of the request could not be told from a next one.
        let unasked = exchange.expects_continue && exchange.interim_count == 0;
        let is_whole = match body {
            Body::Done => true,
            Body::Length(length) => length <= rest.len() as u64,
            Body::Chunked(_) | Body::UntilClose => false,
        };
        let is_early = !exchange.request_done() && (unasked || is_whole);
        exchange.keep_alive &= !closing && !is_early && !matches!(delivery, Delivery::UntilClose);
        exchange.response_chunked = matches!(delivery, Delivery::Chunked);
        exchange.record.status = head.status;
        exchange.record.response_head_us = self.clock.us();
        let waited = exchange.record.response_head_us - exchange.record.started_us;
        self.metrics.observe(Histogram::UpstreamResponse, waited);
        self.upstreams[id].keep_alive = head.keep_alive;

        let mut out = std::mem::take(&mut self.scratch);
        out.clear();
        let forward = ResponseForward {
            delivery,
            persistence: match (exchange.keep_alive, exchange.http10) {
                (true, false) => Persistence::Implied,
                (true, true) => Persistence::KeepAlive,
                (false, _) => Persistence::Close,
            },
            date: self.clock.date(),
            extra: [
                exchange
                    .generation_header
                    .as_deref()
                    .map_or(&[], str::as_bytes),
                exchange.hsts().map_or(&[], str::as_bytes),
                proof.as_deref().unwrap_or_default(),
            ],
            protocol: exchange.upgrade.as_deref().unwrap_or_default(),
        };
        write_response(&mut out, bytes, head, &forward);
        exchange.response = Some(body);
        self.await_request_body(client);
        let consumed = if head.switching_protocols {
            self.give_head_back(number);
            self.send_head_to_client(client, &out);
            self.begin_tunnel(number);
            0
        } else {
            if self.upstreams[id].stream.lane().is_some() {
                self.give_head_back(number);
            }
            match !is_lane && self.hold_response_head(id, number, &mut out) {
                true => 0,
                false => self.begin_response(number, rest, &mut out),
            }
        };
        self.scratch = out;
        consumed
    }

    /// Sends the head in `out` with what of the body came with it; if that is malformed, nothing of it
    /// is sent but an error.
    fn begin_response(&mut self, number: ExchangeId, rest: &[u8], out: &mut Vec<u8>) -> usize {
        let exchange = &mut self.exchanges[number];
        let (client, head_bytes) = (exchange.client, out.len());
        let is_whole = exchange.response.as_ref().is_some_and(Body::is_done);
        let Some(taken) = self.take_response_body(number, rest, out) else {
            self.exchanges[number].response = None;
            self.response_malformed(number);
            return rest.len();
        };
        self.give_head_back(number);
        if self.clients[client].stream.lane().is_some() {
            self.lane_head(client, &out[..head_bytes], is_whole);
            out.drain(..head_bytes);
        }
        self.send_response_body(number, rest, out, &taken)
    }

    /// The request head was kept for another try; there will be none.
    fn give_head_back(&mut self, number: ExchangeId) {
        let exchange = &mut self.exchanges[number];
        self.pool.release(std::mem::take(&mut exchange.head_bytes));
        self.pool.give(std::mem::take(&mut exchange.head));
    }

    /// Takes response body bytes from the front of the input.
    pub(in crate::session) fn response_body_input(
        &mut self,
        id: UpstreamId,
        number: ExchangeId,
        data: &[u8],
    ) -> usize {
        self.await_more_response(id, number);
        let mut out = std::mem::take(&mut self.scratch);
        out.clear();
        out.append(&mut self.exchanges[number].head);
        let consumed = self.pass_response_body(number, data, &mut out);
        self.scratch = out;
        consumed
    }

    fn await_more_response(&mut self, id: UpstreamId, number: ExchangeId) {
        let limit = self.exchanges[number].cluster.entity.timeouts.response_body;
        self.await_upstream_for(id, limit);
    }

    /// Sends `out` and what of the body is in `data`; ends the exchange with the body.
    fn pass_response_body(&mut self, number: ExchangeId, data: &[u8], out: &mut Vec<u8>) -> usize {
        match self.take_response_body(number, data, out) {
            Some(taken) => self.send_response_body(number, data, out, &taken),
            None => {
                self.response_malformed(number);
                data.len()
            }
        }
    }

    /// `None` if it is malformed.
    fn take_response_body<'a>(
        &mut self,
        number: ExchangeId,
        data: &'a [u8],
        out: &mut Vec<u8>,
    ) -> Option<Taken<'a>> {
        let exchange = &mut self.exchanges[number];
        let body = exchange.response.as_mut()?;
        match body.take(data, exchange.response_chunked, out) {
            Ok(taken) => Some(taken),
            Err(error) => {
                exchange.record.reason = Some(error.as_str());
                None
            }
        }
    }

    fn send_response_body(
        &mut self,
        number: ExchangeId,
        data: &[u8],
        out: &[u8],
        taken: &Taken<'_>,
    ) -> usize {
        let exchange = &mut self.exchanges[number];
        let client = exchange.client;
        let done = exchange.response.as_ref().is_none_or(Body::is_done);
        exchange.record.bytes_out += taken.content;
        if !done && data.len() == taken.consumed {
            let upstream = exchange.upstream;
            if let Some(upstream) = upstream {
                self.await_more_response(upstream, number);
            }
        }
        if !out.is_empty() || !taken.tail.is_empty() {
            if self.clients[client].stream.lane().is_some() {
                let ends = done && taken.trailers.is_empty();
                self.lane_send(client, out, taken.tail, ends);
            } else {
                self.send_client(client, out, taken.tail);
            }
        }
        if !taken.trailers.is_empty() {
            self.lane_trailers(client, &taken.trailers);
        }
        // The client may have gone in the attempt, and the exchange with it.
        if done && self.exchanges.contains(number) {
            if taken.consumed < data.len() {
                // More than the response: nothing on this connection can be trusted.
                if let Some(upstream) = self.exchanges[number].upstream {
                    self.upstreams[upstream].keep_alive = false;
                }
            }
            self.finish_exchange(number);
        }
        taken.consumed
    }

    /// Frames have told that a response body is over (HTTP/2).
    pub(in crate::session) fn response_body_ended(&mut self, number: ExchangeId, trailers: &[u8]) {
        let exchange = &mut self.exchanges[number];
        let client = exchange.client;
        exchange.response = Some(Body::Done);
        let mut out = std::mem::take(&mut self.scratch);
        out.clear();
        out.append(&mut exchange.head);
        if exchange.response_chunked {
            write_last_chunk(&mut out, trailers);
        }
        if !out.is_empty() {
            self.send_client(client, &out, &[]);
        }
        self.scratch = out;
        if !trailers.is_empty() {
            self.lane_trailers(client, trailers);
        }
        if self.exchanges.contains(number) {
            self.finish_exchange(number);
        }
    }

    /// The backend closed: the end of an unframed body, or a failure.
    pub(in crate::session) fn response_end_of_stream(
        &mut self,
        id: UpstreamId,
        number: ExchangeId,
    ) {
        self.upstreams[id].keep_alive = false;
        let exchange = &mut self.exchanges[number];
        let client = exchange.client;
        let Some(body) = exchange.response.as_mut() else {
            return self.upstream_ended_early(id, number);
        };
        let mut out = std::mem::take(&mut self.scratch);
        out.clear();
        // Over TLS, an end that was not announced may be anybody's.
        let in_order = self.upstreams[id].stream.ended_in_order();
        if in_order && body.end_of_stream(exchange.response_chunked, &mut out) {
            if !out.is_empty() {
                self.send_client(client, &out, &[]);
            }
            if self.exchanges.contains(number) {
                self.finish_exchange(number);
            }
        } else {
            self.metrics.add(Counter::AbortedByBackendTotal, 1);
            self.fail_exchange(number, 502, Outcome::BackendAborted);
        }
        self.scratch = out;
    }

    /// Starts passing bytes both ways unread (RFC 9110 §7.8): the client may be gone already.
    fn begin_tunnel(&mut self, number: ExchangeId) {
        let Some(exchange) = self.exchanges.get(number) else {
            return;
        };
        let client = exchange.client;
        self.clients[client].phase = Phase::Tunnel;
        self.exchanges[number].tunnel = true;
        self.exchanges[number].request = Body::UntilClose;
        self.clients[client].clear_deadline(&mut self.timers, client);
        self.metrics.add(Counter::TunnelsTotal, 1);
        self.metrics.add(Counter::TunnelsNow, 1);
        if let Some(upstream) = self.exchanges[number].upstream {
            self.await_response(upstream);
        }
        self.wake_client(client);
    }
}
