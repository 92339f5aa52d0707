//! The way back of one request on a connection to a backend that carries many: heads, bodies and ends of a
//! lane; see `trunk_lane` for its way out.
//!
//! Rule: bytes that its client does not take yet wait in the lane, as many as its window allows, and in no
//! other lane's way. What is not an answer is a fault of the connection, or a reason to try elsewhere.

use crate::protocol::h1::{ResponseBody, ResponseHead};
use crate::protocol::h2::{ErrorCode, Heads};
use crate::runtime::driver::Driver;
use crate::session::back::trunk_lane::Named;
use crate::session::engine::Engine;
use crate::session::exchange::body::Body;
use crate::session::exchange::{Outcome, Reply};
use crate::session::front::answer::Part;
use crate::session::ids::{ExchangeId, UpstreamId};
use crate::session::transport::Lane;
use crate::telemetry::names::Counter;

/// Longer responses get a wider window.
const SHORT_BYTES_MAX: u64 = 64 * 1024;

/// With more streams than this none of a client's gets a wider window.
const LONG_STREAMS_MAX: usize = 4;

impl<D: Driver> Engine<D> {
    pub(super) fn lane_interim(&mut self, trunk: UpstreamId, named: Named, heads: &mut Heads) {
        if let Some((_, number)) = self.find_trunk_lane(trunk, named) {
            let head = std::mem::take(&mut heads.response);
            self.interim_arrived(number, &head, heads.text());
            heads.response = head;
        }
    }

    pub(super) fn lane_response(
        &mut self,
        trunk: UpstreamId,
        named: Named,
        ends: bool,
        heads: &mut Heads,
    ) {
        let Some((id, number)) = self.find_trunk_lane(trunk, named) else {
            return;
        };
        if let Some(lane) = self.upstreams[id].stream.lane_mut() {
            lane.received = ends;
        }
        let mut head = std::mem::take(&mut heads.response);
        if !ends && self.may_wait_long(number, &head) {
            if let Some(trunk) = self.upstreams[trunk].trunk.as_mut() {
                trunk.widen(named.0);
            }
        }
        // Frames tell the end, and their length has been checked against the head.
        let body = match ends {
            true => Body::Done,
            false => Body::UntilClose,
        };
        self.response_arrived(number, &mut head, heads.text(), body, &[]);
        heads.response = head;
    }

    /// Whether a response is worth a wider window, and its client may have one: a client of many
    /// streams must not make us hold as much for each.
    fn may_wait_long(&self, number: ExchangeId, head: &ResponseHead) -> bool {
        let is_long = match head.body {
            ResponseBody::Length(length) => length > SHORT_BYTES_MAX,
            ResponseBody::Chunked | ResponseBody::UntilClose => true,
            ResponseBody::None => false,
        };
        let client = self.client_of(self.exchanges[number].asker);
        is_long
            && client
                .multiplex
                .as_ref()
                .is_none_or(|multiplex| multiplex.stream_count() <= LONG_STREAMS_MAX)
    }

    pub(super) fn lane_response_data(
        &mut self,
        trunk: UpstreamId,
        named: Named,
        data: &[u8],
        ends: bool,
    ) {
        let mut consumed = data.len();
        if let Some((id, number)) = self.find_trunk_lane(trunk, named) {
            let upstream = &mut self.upstreams[id];
            if let Some(lane) = upstream.stream.lane_mut() {
                lane.received |= ends;
            }
            let takes = upstream.input.is_empty() && self.upstream_wants_input(id);
            consumed = 0;
            if takes && !data.is_empty() {
                if ends {
                    self.response_ends_after(number, data.len());
                }
                consumed = self.upstream_input(id, data);
            }
            if self.upstreams.contains(id) {
                let rest = &data[consumed..];
                self.upstreams[id].input.push(&mut self.pool, rest);
                self.end_lane_exchange(id);
            }
        }
        if let Some(trunk) = self
            .upstreams
            .get_mut(trunk)
            .and_then(|upstream| upstream.trunk.as_mut())
        {
            trunk.h2.consumed(named.0, consumed);
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
    pub(in crate::session) fn holds_response_head(
        &mut self,
        number: ExchangeId,
        head: &mut Vec<u8>,
    ) -> bool {
        let exchange = &self.exchanges[number];
        let is_awaited = matches!(exchange.reply, Reply::Body(Body::UntilClose));
        let Some(upstream) = exchange.upstream().filter(|_| is_awaited) else {
            return false;
        };
        let Some(lane) = self.upstreams[upstream].stream.lane() else {
            return false;
        };
        // Frames of a client leave together in any case.
        if exchange.asker.shares() {
            return false;
        }
        let connection = lane.connection;
        self.give_head_back(number);
        let mut kept = self.pool.take();
        kept.append(head);
        self.exchanges[number].head = kept;
        if let Some(trunk) = self.upstreams[connection].trunk.as_mut() {
            trunk.held.push(upstream);
        }
        true
    }

    /// Sends the heads whose bodies have not begun to come.
    pub(super) fn send_held_heads(&mut self, trunk_index: UpstreamId) {
        let Some(trunk) = self.upstreams[trunk_index].trunk.as_mut() else {
            return;
        };
        let mut held = std::mem::take(&mut trunk.held);
        for id in held.drain(..) {
            let number = self.upstreams.get(id).and_then(|upstream| {
                let lane = upstream.stream.lane()?;
                upstream.exchange.filter(|_| lane.connection == trunk_index)
            });
            let Some(number) = number else {
                continue;
            };
            let exchange = &mut self.exchanges[number];
            if !exchange.reply.has_begun() || exchange.head.is_empty() {
                continue;
            }
            let head = std::mem::take(&mut exchange.head);
            let asker = exchange.asker;
            // Each is looked up anew.
            let _ = self.answer(asker, &Part::body(&head));
            self.pool.give(head);
        }
        if self.upstreams.contains(trunk_index) {
            if let Some(trunk) = self.upstreams[trunk_index].trunk.as_mut() {
                trunk.held = held;
            }
        }
    }

    pub(super) fn lane_response_trailers(&mut self, trunk: UpstreamId, named: Named, lines: &[u8]) {
        let Some((id, _)) = self.find_trunk_lane(trunk, named) else {
            return;
        };
        if let Some(lane) = self.upstreams[id].stream.lane_mut() {
            lane.trailers_in = lines.to_vec();
            lane.received = true;
        }
        self.end_lane_exchange(id);
    }

    /// Bytes that waited in an upstream connection have been passed on: if it is a lane, its backend
    /// may send as many again.
    pub(super) fn trunk_lane_consumed(&mut self, id: UpstreamId, consumed: usize) {
        if !self.upstreams.contains(id) {
            return;
        }
        let Some(lane) = self.upstreams[id].stream.lane() else {
            return;
        };
        let (connection, stream) = (lane.connection, lane.id);
        if let Some(trunk) = self.upstreams[connection].trunk.as_mut() {
            trunk.h2.consumed(stream, consumed);
        }
        self.queue_trunk(connection);
        self.end_lane_exchange(id);
    }

    /// Ends the exchange of a lane of which everything has come and been passed on.
    fn end_lane_exchange(&mut self, id: UpstreamId) {
        if !self.upstreams.contains(id) {
            return;
        }
        let upstream = &mut self.upstreams[id];
        let Some(number) = upstream.exchange.filter(|_| upstream.input.is_empty()) else {
            return;
        };
        let Some(lane) = upstream.stream.lane_mut().filter(|lane| lane.received) else {
            return;
        };
        let trailers = std::mem::take(&mut lane.trailers_in);
        let exchange = &self.exchanges[number];
        match exchange.reply {
            Reply::Tunnel { ended: false } => self.tunnel_upstream_ended(id, number),
            Reply::Body(_) => self.response_body_ended(number, &trailers),
            Reply::Awaited | Reply::Tunnel { ended: true } => {}
        }
    }

    // Ends that are none of an exchange.

    /// The backend, or we for a fault of its, has given a stream up.
    pub(super) fn lane_was_reset(
        &mut self,
        trunk: UpstreamId,
        named: Named,
        code: ErrorCode,
        is_fault: bool,
    ) {
        let Some((id, number)) = self.find_trunk_lane(trunk, named) else {
            return;
        };
        // There is nothing left to reset.
        if let Some(lane) = self.upstreams[id].stream.lane_mut() {
            lane.finished = true;
            lane.received = true;
        }
        if is_fault {
            self.response_malformed(number);
        } else if code == ErrorCode::RefusedStream && self.exchanges[number].is_untouched() {
            self.repeat_lane(id, number);
        } else {
            self.upstreams[id].reused = false;
            self.lane_lost(id);
        }
    }

    /// Whether a request was the first that a connection was given after it had been idle, and the backend
    /// has not said a word since: it had closed it, in all likelihood. What was given to a connection in
    /// use may be at work, and is not sent twice (RFC 9113 §8.7).
    fn has_met_a_closed_trunk(&self, id: UpstreamId) -> bool {
        let trunk = self.trunk_of(id).map(|trunk| &self.upstreams[trunk]);
        let is_silent = trunk
            .and_then(|it| it.trunk.as_ref())
            .is_some_and(|it| it.is_silent);
        self.upstreams[id].reused && is_silent
    }

    /// Sends the request of a lane once more, by a connection that all share whom this one has failed.
    fn repeat_lane(&mut self, id: UpstreamId, number: ExchangeId) {
        self.count_retry(number);
        self.move_lane(id);
    }

    /// Sends the request of a lane by another connection.
    pub(super) fn move_lane(&mut self, id: UpstreamId) {
        let Some(number) = self.upstreams[id].exchange else {
            return;
        };
        self.end_attempt(number);
        self.try_backend(number);
    }

    /// The connection never opened, so that any request may go elsewhere.
    pub(super) fn lane_not_connected(&mut self, id: UpstreamId, failure: Outcome) {
        let Some(number) = self.upstreams[id].exchange else {
            return self.close_upstream(id);
        };
        self.connect_failed(number, failure);
    }

    /// The stream is gone before its end.
    pub(super) fn lane_lost(&mut self, id: UpstreamId) {
        let Some(number) = self.upstreams[id].exchange else {
            return self.close_upstream(id);
        };
        let exchange = &self.exchanges[number];
        if exchange.reply.is_tunnel() {
            self.close_tunnel(number);
        } else if exchange.reply.has_begun() {
            self.metrics.add(Counter::AbortedByBackendTotal, 1);
            self.fail_exchange(number, 502, Outcome::BackendAborted);
        } else if self.has_met_a_closed_trunk(id)
            && exchange.may_repeat_once()
            && exchange.is_untouched()
        {
            self.repeat_lane(id, number);
        } else {
            self.upstreams[id].reused = false;
            self.upstream_ended_early(id, number);
        }
    }

    /// Forgets a lane that is over; a stream that is not is reset.
    pub(super) fn trunk_lane_closed(&mut self, id: UpstreamId, lane: &Lane) {
        let Some(upstream) = self.upstreams.get_mut(lane.connection) else {
            return;
        };
        let Some(trunk) = upstream.trunk.as_mut() else {
            return;
        };
        trunk.lanes.retain(|&other| other != id);
        if lane.id != 0 && !(lane.finished && lane.received) {
            trunk.h2.reset(lane.id, ErrorCode::Cancel);
        }
        self.queue_trunk(lane.connection);
        self.rest_trunk(lane.connection);
    }
}
