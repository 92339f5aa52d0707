//! The answer of a stream of a connection to a backend: heads, bodies and ends of what comes for it.
//!
//! Rule: bytes that its client does not take yet wait in the stream, as many as its window allows, and hold up
//! no other. What is not an answer is a fault of the connection, or a reason to try elsewhere. Called by `h2`
//! with what has come, and by who drives a stream.

use crate::protocol::grpc;
use crate::protocol::h1::{ResponseBody, ResponseHead};
use crate::protocol::h2::{ErrorCode, Heads, StreamFault};
use crate::protocol::lines::Lines;
use crate::runtime::driver::Driver;
use crate::session::back::carrier::Carrier;
use crate::session::back::stream::Named;
use crate::session::engine::Engine;
use crate::session::exchange::body::Body;
use crate::session::exchange::{Outcome, Reply};
use crate::session::front::answer::Part;
use crate::session::front::asker::Asker;
use crate::session::ids::{BackStreamId, ExchangeId, UpstreamId};
use crate::session::queue::Bulk;
use crate::state::entity::Failure;
use crate::telemetry::names::Counter;

/// A client that has taken so much of a longer response gets a wider window: the buffers of its system take less
/// of what it does not read.
const TAKEN_BYTES_MIN: u64 = 256 * 1024;

/// With more streams than this none of a client's gets a wider window.
const LONG_STREAMS_MAX: usize = 4;

impl<D: Driver> Engine<D> {
    pub(super) fn back_stream_interim(
        &mut self,
        connection: UpstreamId,
        named: Named,
        heads: &mut Heads,
    ) {
        if let Some((_, number)) = self.find_back_stream(connection, named) {
            let mut head = std::mem::take(&mut heads.response);
            self.interim_arrived(number, &mut head, heads.text());
            heads.response = head;
        }
    }

    pub(super) fn back_stream_response(
        &mut self,
        connection: UpstreamId,
        named: Named,
        ends: bool,
        heads: &mut Heads,
    ) {
        let Some((id, number)) = self.find_back_stream(connection, named) else {
            return;
        };
        self.back_streams[id].received = ends;
        let mut head = std::mem::take(&mut heads.response);
        let is_long = !ends && is_long(&head);
        if is_long {
            self.back_streams[id].widen_at = TAKEN_BYTES_MIN;
        }
        if let Some(shared) = self.upstreams[connection].shared.as_mut() {
            shared.answers();
        }
        // Frames tell the end, and their length has been checked against the head.
        let body = match ends {
            true => Body::Done,
            false => Body::UntilClose,
        };
        self.response_arrived(number, &mut head, heads.text(), body, &[]);
        heads.response = head;
        let stream = self.back_streams.get(id).filter(|_| is_long);
        if stream.is_some_and(|it| self.exchanges[it.exchange].asker.shares()) {
            self.widen_back_stream(id);
        }
    }

    /// Notes what has been passed on of a response, of which more may wait once its client has taken much.
    fn note_passed(&mut self, id: BackStreamId, bytes: usize) {
        let Some(stream) = self.back_streams.get_mut(id) else {
            return;
        };
        stream.passed += bytes as u64;
        if stream.widen_at != 0 && stream.passed >= stream.widen_at {
            self.widen_back_stream(id);
        }
    }

    /// Gives a long response a wider window, if it leaves as it comes and its client has read much of it. For one of
    /// few streams it is at once: what is urgent comes before the rest only if both wait here. A client of many
    /// must not make us hold as much for each; of what is paced, a piece waits.
    fn widen_back_stream(&mut self, id: BackStreamId) {
        let stream = &self.back_streams[id];
        let exchange = &self.exchanges[stream.exchange];
        let Some(client) = self.client_at(exchange.asker) else {
            return;
        };
        let multiplex = client.multiplex.as_ref();
        let has_taken = match multiplex {
            Some(it) => it.stream_count() <= LONG_STREAMS_MAX && self.takes_more(exchange.asker),
            None => stream.passed >= TAKEN_BYTES_MIN + client.untaken_bytes(),
        };
        let is_wanted = has_taken && !exchange.is_compressed() && !self.is_saving_memory();
        let (connection, number, piece) =
            (stream.connection, stream.number, exchange.piece_of_rate());
        if !is_wanted {
            self.back_streams[id].widen_at = stream.passed + TAKEN_BYTES_MIN;
            return;
        }
        self.back_streams[id].widen_at = 0;
        if let Some(shared) = self.upstreams[connection].shared.as_mut() {
            shared.widen(number, piece);
        }
    }

    pub(super) fn back_stream_data(
        &mut self,
        connection: UpstreamId,
        named: Named,
        data: &[u8],
        ends: bool,
    ) {
        let mut consumed = data.len();
        let found = self.find_back_stream(connection, named);
        if let Some((id, number)) = found {
            let stream = &mut self.back_streams[id];
            stream.received |= ends;
            consumed = 0;
            let waits = !stream.input.is_empty();
            if !waits && !data.is_empty() && self.takes_more_of(&self.exchanges[number]) {
                if ends {
                    self.response_ends_after(number, data.len());
                }
                consumed = self.back_stream_input(id, data);
            }
            if let Some(stream) = self.back_streams.get_mut(id) {
                stream.input.push(&mut self.pool, &data[consumed..]);
                if self.waits_for_turn(number) {
                    self.wake_back_stream(id);
                }
                self.end_back_stream_exchange(id);
            }
        }
        self.credit_back_stream(connection, named.0, consumed);
        if let Some((id, _)) = found {
            self.note_passed(id, consumed);
        }
    }

    /// Passes bytes on; returns how many were used up.
    fn back_stream_input(&mut self, id: BackStreamId, data: &[u8]) -> usize {
        let mut at = 0;
        while at < data.len() {
            let Some(number) = self.back_streams.get(id).map(|stream| stream.exchange) else {
                return data.len();
            };
            let exchange = &self.exchanges[number];
            if at > 0 && !self.takes_more_of(exchange) {
                break;
            }
            let (carrier, rest) = (Carrier::Stream(id), &data[at..]);
            let consumed = match exchange.reply {
                Reply::Tunnel { .. } => self.tunnel_from_upstream(carrier, number, rest),
                Reply::Body(_) => self.response_body_input(carrier, number, rest),
                Reply::Awaited => 0,
            };
            if consumed == 0 {
                break;
            }
            at += consumed;
        }
        at
    }

    /// Queues a stream to be driven: its client has made room.
    pub(super) fn wake_back_stream(&mut self, id: BackStreamId) {
        let stream = &mut self.back_streams[id];
        if !stream.input.is_empty() && !stream.queued {
            stream.queued = true;
            self.queue(id.token(), Bulk::default());
        }
    }

    /// Passes on what waits, if its client takes it.
    pub(in crate::session) fn drive_back_stream(&mut self, id: BackStreamId) {
        let stream = &self.back_streams[id];
        let (connection, number) = (stream.connection, stream.number);
        let exchange = stream.exchange;
        if stream.input.is_empty() {
            return;
        }
        if !self.takes_more_of(&self.exchanges[exchange]) {
            if self.waits_for_turn(exchange) {
                self.wake_back_stream(id);
            }
            return;
        }
        let mut input = std::mem::take(&mut self.back_streams[id].input);
        let consumed = self.back_stream_input(id, input.as_slice());
        input.consume(&mut self.pool, consumed);
        match self.back_streams.get_mut(id) {
            Some(stream) => stream.input = input,
            None => input.clear(&mut self.pool),
        }
        if self.waits_for_turn(exchange) {
            self.wake_back_stream(id);
        }
        self.credit_back_stream(connection, number, consumed);
        self.note_passed(id, consumed);
        if self.upstreams.contains(connection) {
            self.queue_shared(connection);
        }
        self.end_back_stream_exchange(id);
    }

    /// Bytes have been passed on: the backend may send as many again.
    fn credit_back_stream(&mut self, connection: UpstreamId, number: u32, consumed: usize) {
        let upstream = self.upstreams.get_mut(connection);
        if let Some(shared) = upstream.and_then(|it| it.shared.as_mut()) {
            shared.h2.consumed(number, consumed);
        }
    }

    /// The last bytes of a body are here: they and the end of it may leave as one.
    fn response_ends_after(&mut self, number: ExchangeId, length: usize) {
        let exchange = &mut self.exchanges[number];
        if matches!(exchange.reply, Reply::Body(Body::UntilClose)) {
            exchange.reply = Reply::Body(Body::Length(length as u64));
        }
    }

    /// Keeps a response head for a moment if a body is to follow: mostly it is in the same read, and one
    /// write is enough for both. Says whether it is kept.
    pub(in crate::session) fn keeps_response_head(
        &mut self,
        number: ExchangeId,
        head: &mut Vec<u8>,
    ) -> bool {
        let exchange = &self.exchanges[number];
        let is_awaited = matches!(exchange.reply, Reply::Body(Body::UntilClose));
        // Frames of a client leave together in any case.
        if !is_awaited || exchange.asker.shares() {
            return false;
        }
        let Some(Carrier::Stream(id)) = exchange.carrier() else {
            return false;
        };
        self.give_head_back(number);
        let mut kept = self.pool.take();
        kept.append(head);
        let exchange = &mut self.exchanges[number];
        exchange.head = kept;
        let connection = self.back_streams[id].connection;
        if let Some(shared) = self.upstreams[connection].shared.as_mut() {
            shared.heads_kept.push(id);
        }
        true
    }

    /// Sends the heads whose bodies have not begun to come.
    pub(super) fn send_kept_heads(&mut self, connection: UpstreamId) {
        let Some(shared) = self.upstreams[connection].shared.as_mut() else {
            return;
        };
        let mut kept = std::mem::take(&mut shared.heads_kept);
        for id in kept.drain(..) {
            let Some(stream) = self.back_streams.get(id) else {
                continue;
            };
            let exchange = &mut self.exchanges[stream.exchange];
            if !exchange.reply.has_begun() || exchange.head.is_empty() {
                continue;
            }
            let head = std::mem::take(&mut exchange.head);
            let asker = exchange.asker;
            // Each is looked up anew.
            let _ = self.answer(asker, &Part::body(&head));
            self.pool.give(head);
        }
        let upstream = self.upstreams.get_mut(connection);
        if let Some(shared) = upstream.and_then(|it| it.shared.as_mut()) {
            shared.heads_kept = kept;
        }
    }

    pub(super) fn back_stream_trailers(
        &mut self,
        connection: UpstreamId,
        named: Named,
        lines: Lines<'_>,
    ) {
        let Some((id, _)) = self.find_back_stream(connection, named) else {
            return;
        };
        let stream = &mut self.back_streams[id];
        stream.trailers_in = lines.into();
        stream.received = true;
        self.end_back_stream_exchange(id);
    }

    /// Ends the exchange of a stream of which everything has come and been passed on.
    fn end_back_stream_exchange(&mut self, id: BackStreamId) {
        let Some(stream) = self.back_streams.get_mut(id) else {
            return;
        };
        if !stream.received || !stream.input.is_empty() {
            return;
        }
        let number = stream.exchange;
        let trailers = std::mem::take(&mut stream.trailers_in);
        match self.exchanges[number].reply {
            Reply::Tunnel { ended: false } => {
                self.tunnel_upstream_ended(Carrier::Stream(id), number);
            }
            Reply::Body(_) => self.response_body_ended(number, trailers.lines()),
            Reply::Awaited | Reply::Tunnel { ended: true } => {}
        }
    }

    // Ends that are none of an exchange.

    /// The backend, or we for a fault of its, has given a stream up.
    pub(super) fn back_stream_was_reset(
        &mut self,
        connection: UpstreamId,
        named: Named,
        code: ErrorCode,
        fault: Option<StreamFault>,
    ) {
        let Some((id, number)) = self.find_back_stream(connection, named) else {
            return;
        };
        // There is nothing left to reset.
        let stream = &mut self.back_streams[id];
        stream.finished = true;
        stream.received = true;
        let is_refusal = matches!(code, ErrorCode::RefusedStream | ErrorCode::EnhanceYourCalm);
        if is_refusal && fault.is_none() && !self.exchanges[number].reply.has_begun() {
            self.shared_refuses(connection);
        }
        if let Some(fault) = fault {
            self.exchanges[number].record.reason = Some(fault.as_str());
            self.response_malformed(number);
        } else if code != ErrorCode::RefusedStream || !self.repeat_refused(number) {
            self.back_streams[id].met_idle = false;
            self.back_stream_given_up(id, number, code);
        }
    }

    /// The backend wants no more of a stream. To a call of gRPC its code is the status that the call ends
    /// with, and so it is to a client that has had the beginning of an answer.
    fn back_stream_given_up(&mut self, id: BackStreamId, number: ExchangeId, code: ErrorCode) {
        if self.tries_again(number, Failure::Reset) {
            return;
        }
        let exchange = &mut self.exchanges[number];
        exchange.record.reason = Some(code.as_str());
        let has_begun = exchange.reply.has_begun();
        let is_told = has_begun || exchange.is_grpc();
        match exchange.asker {
            Asker::Stream(stream) if is_told && !exchange.reply.is_tunnel() => {
                self.metrics.add(Counter::AbortedByBackendTotal, 1);
                self.abandon_exchange(number, Outcome::BackendAborted);
                self.give_stream_up(stream, told_code(code, has_begun));
            }
            // HTTP/1.1 has no codes, but this.
            Asker::Connection(_) if is_told && !has_begun => {
                self.fail_call(number, grpc::Status::of_reset(code));
            }
            _ => self.back_stream_lost(id),
        }
    }

    /// Whether a request was the first that a connection was given after it had been idle, and the backend
    /// has not said a word since: it had closed it, in all likelihood. What was given to a connection in
    /// use may be at work, and is not sent twice (RFC 9113 §8.7).
    fn has_met_a_closed_connection(&self, id: BackStreamId) -> bool {
        let stream = &self.back_streams[id];
        let shared = self.upstreams[stream.connection].shared.as_ref();
        stream.met_idle && shared.is_some_and(|it| it.is_silent)
    }

    /// The stream is gone before its end.
    pub(super) fn back_stream_lost(&mut self, id: BackStreamId) {
        let number = self.back_streams[id].exchange;
        let exchange = &self.exchanges[number];
        if exchange.reply.is_tunnel() {
            self.close_tunnel(number);
        } else if exchange.reply.has_begun() {
            self.metrics.add(Counter::AbortedByBackendTotal, 1);
            self.fail_exchange(number, 502, Outcome::BackendAborted);
        } else if self.has_met_a_closed_connection(id)
            && exchange.may_repeat_once()
            && exchange.is_untouched()
        {
            self.repeat_elsewhere(number);
        } else {
            self.ended_early(number, false);
        }
    }
}

/// Whether a response is worth a wider window.
fn is_long(head: &ResponseHead) -> bool {
    match head.body {
        ResponseBody::Length(length) => length > TAKEN_BYTES_MIN,
        ResponseBody::Chunked | ResponseBody::UntilClose => true,
        ResponseBody::None => false,
    }
}

/// What a client is told when a backend gives a stream up by a code: those that mean something to a call of
/// gRPC. Once an answer has begun nobody may take it for whole, or for never looked at.
fn told_code(code: ErrorCode, has_begun: bool) -> ErrorCode {
    match code {
        ErrorCode::Cancel | ErrorCode::EnhanceYourCalm | ErrorCode::InadequateSecurity => code,
        ErrorCode::RefusedStream if !has_begun => code,
        _ => ErrorCode::Internal,
    }
}
