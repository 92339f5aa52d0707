//! The way of one request on a connection to a backend that carries many; see `trunk`.
//!
//! Rule: a lane looks to an exchange like an upstream connection of its own; only here is it known
//! that it is not. Bytes that its client does not take yet wait in the lane, as many as its window
//! allows, and in no other lane's way.

use std::io;

use crate::protocol::h1::{ResponseBody, ResponseHead};
use crate::protocol::h2::{ErrorCode, Heads, Tag};
use crate::runtime::driver::Driver;
use crate::session::back::trunk::may_repeat_once;
use crate::session::back::upstream::Link;
use crate::session::engine::Engine;
use crate::session::exchange::Outcome;
use crate::session::exchange::body::Body;
use crate::session::front::backlog::BACKLOG_BYTES_MAX;
use crate::session::front::client::Phase;
use crate::session::front::multiplex::OUT_BYTES_MAX;
use crate::session::ids::{ExchangeId, UpstreamId};
use crate::session::transport::{Lane, Transport};
use crate::telemetry::names::Counter;

/// Longer responses get a wider window.
const SHORT_BYTES_MAX: u64 = 64 * 1024;

/// With more streams than this none of a client's gets a wider window.
const LONG_LANES_MAX: usize = 4;

/// A stream's number, and the lane that it was opened for.
type Named = (u32, Tag);

impl<D: Driver> Engine<D> {
    /// Gives an exchange a lane on a connection that has room, and sends its head if that is open.
    ///
    /// # Errors
    /// None: a lane needs nothing of the system.
    pub(super) fn open_lane_to_backend(
        &mut self,
        trunk: UpstreamId,
        exchange: ExchangeId,
    ) -> io::Result<()> {
        let lane = Transport::Lane(Box::new(Lane {
            connection: trunk,
            id: 0,
            blocked: false,
            finished: false,
            received: false,
            trailers_out: Vec::new(),
            trailers_in: Vec::new(),
        }));
        let backend = self.upstreams[trunk].backend.clone();
        let id = self.insert_upstream(lane, None, &backend, Link::Waiting)?;
        self.upstreams[id].exchange = Some(exchange);
        self.exchanges[exchange].upstream = Some(id);
        let is_open = self.upstreams[trunk].link == Link::Trunk;
        if let Some(trunk) = self.upstreams[trunk].trunk.as_mut() {
            trunk.lanes.push(id);
            let cluster = &self.exchanges[exchange].cluster;
            if !std::rc::Rc::ptr_eq(&trunk.cluster, cluster) {
                trunk.cluster = cluster.clone();
            }
        }
        if is_open {
            self.upstreams[trunk].deadline.clear();
            self.begin_lane(id);
        }
        Ok(())
    }

    /// Opens the stream by sending the head.
    pub(super) fn begin_lane(&mut self, id: UpstreamId) {
        let (Some(trunk_index), Some(number)) = (self.trunk_of(id), self.upstreams[id].exchange)
        else {
            return;
        };
        let exchange = &self.exchanges[number];
        let ends = exchange.request_done() && exchange.upgrade.is_none();
        let scheme = match exchange.cluster.tls {
            Some(_) => "https",
            None => "http",
        };
        let Some(trunk) = self.upstreams[trunk_index].trunk.as_mut() else {
            return;
        };
        if exchange.upgrade.is_some() && !trunk.h2.takes_extended_connect() {
            self.metrics.add(Counter::Rejected501Total, 1);
            return self.fail_exchange(number, 501, Outcome::UpgradeRefused);
        }
        trunk.out(&mut self.pool);
        let (h2, out) = (&mut trunk.h2, &mut trunk.out);
        let tag = id.token();
        let opened = match &exchange.upgrade {
            None => h2.send_request(out, &exchange.head, scheme, tag, ends),
            Some(protocol) => h2.send_handshake(out, &exchange.head, scheme, tag, protocol),
        };
        let Some(stream) = opened else {
            return self.lane_lost(id);
        };
        let met_idle = trunk.gives();
        let upstream = &mut self.upstreams[id];
        upstream.link = Link::Busy;
        upstream.reused = met_idle;
        if let Some(lane) = upstream.stream.lane_mut() {
            lane.id = stream;
            lane.finished = ends;
        }
        self.note_trunk_backlog(id, trunk_index);
        self.queue_trunk(trunk_index);
        self.head_sent(id, number);
    }

    fn find_trunk_lane(
        &self,
        trunk: UpstreamId,
        (stream, tag): Named,
    ) -> Option<(UpstreamId, ExchangeId)> {
        let id = UpstreamId::of(tag)?;
        let upstream = self.upstreams.get(id)?;
        let lane = upstream.stream.lane()?;
        let is_it = lane.connection == trunk && lane.id == stream;
        upstream
            .exchange
            .filter(|_| is_it)
            .map(|exchange| (id, exchange))
    }

    // The way out.

    /// Sends body bytes, or queues what the windows do not allow.
    pub(super) fn trunk_lane_send(&mut self, id: UpstreamId, first: &[u8], second: &[u8]) {
        let upstream = &self.upstreams[id];
        let Some((trunk, stream)) = upstream
            .stream
            .lane()
            .map(|lane| (lane.connection, lane.id))
        else {
            return;
        };
        let ends = self.lane_ends_with_data(id);
        let mut left = (first, second);
        if self.upstreams[id].output.is_empty() {
            if let Some(trunk) = self.upstreams[trunk].trunk.as_mut() {
                trunk.out(&mut self.pool);
                let (h2, out) = (&mut trunk.h2, &mut trunk.out);
                let is_last = ends && second.is_empty();
                left.0 = &first[h2.send_data(out, stream, first, is_last)..];
                if left.0.is_empty() && !second.is_empty() {
                    left.1 = &second[h2.send_data(out, stream, second, ends)..];
                }
            }
        }
        let upstream = &mut self.upstreams[id];
        upstream.output.push(&mut self.pool, left.0);
        upstream.output.push(&mut self.pool, left.1);
        if upstream.output.is_empty() && upstream.shut_when_sent {
            self.finish_lane(id);
        }
        self.note_trunk_backlog(id, trunk);
        self.queue_trunk(trunk);
        self.await_response(id);
    }

    /// Whether the last byte that is sent ends the request, and no trailers do.
    fn lane_ends_with_data(&self, id: UpstreamId) -> bool {
        let upstream = &self.upstreams[id];
        let has_trailers = upstream
            .stream
            .lane()
            .is_some_and(|lane| !lane.trailers_out.is_empty());
        upstream.shut_when_sent && !has_trailers
    }

    /// The request ends with the bytes that are sent next.
    pub(in crate::session) fn trunk_lane_end_after(&mut self, id: UpstreamId, trailers: &[u8]) {
        let upstream = &mut self.upstreams[id];
        upstream.shut_when_sent = true;
        if let Some(lane) = upstream.stream.lane_mut() {
            lane.trailers_out = trailers.to_vec();
        }
    }

    /// The request is over.
    pub(in crate::session) fn trunk_lane_end(&mut self, id: UpstreamId, trailers: &[u8]) {
        self.trunk_lane_end_after(id, trailers);
        self.trunk_lane_send(id, &[], &[]);
    }

    /// Everything has been sent: ends our side of the stream, if the last frame has not.
    fn finish_lane(&mut self, id: UpstreamId) {
        let upstream = &mut self.upstreams[id];
        upstream.shut_when_sent = false;
        let Some(lane) = upstream.stream.lane_mut() else {
            return;
        };
        let (connection, stream) = (lane.connection, lane.id);
        let trailers = std::mem::take(&mut lane.trailers_out);
        if std::mem::replace(&mut lane.finished, true) || trailers.is_empty() {
            return;
        }
        if let Some(trunk) = self.upstreams[connection].trunk.as_mut() {
            trunk.out(&mut self.pool);
            trunk.h2.send_trailers(&mut trunk.out, stream, &trailers);
        }
    }

    /// A window was opened.
    pub(super) fn lane_is_writable(&mut self, trunk_index: UpstreamId, (stream, tag): Named) {
        let Some((id, number)) = self.find_trunk_lane(trunk_index, (stream, tag)) else {
            // Nobody has anything for it, and it would be told again and again.
            if let Some(trunk) = self.upstreams[trunk_index].trunk.as_mut() {
                trunk.h2.reset(stream, ErrorCode::Cancel);
            }
            return;
        };
        let ends = self.lane_ends_with_data(id);
        let mut output = std::mem::take(&mut self.upstreams[id].output);
        let mut sent = 0;
        if let Some(trunk) = self.upstreams[trunk_index].trunk.as_mut() {
            trunk.out(&mut self.pool);
            let (h2, out) = (&mut trunk.h2, &mut trunk.out);
            sent = h2.send_data(out, stream, output.as_slice(), ends);
        }
        output.consume(&mut self.pool, sent);
        let upstream = &mut self.upstreams[id];
        upstream.output = output;
        self.note_trunk_backlog(id, trunk_index);
        self.queue_trunk(trunk_index);
        if !self.upstreams[id].output.is_empty() {
            return self.await_response(id);
        }
        if self.upstreams[id].shut_when_sent {
            if self.exchanges[number].tunnel {
                self.upstreams[id].shut_when_sent = false;
                return self.tunnel_request_sent(number, id);
            }
            self.finish_lane(id);
        }
        if self.upstreams[id].is_flushed() {
            self.lane_has_room(id);
        }
    }

    /// Notes where on its connection a request ends, once all of it is there.
    pub(super) fn note_end_of_lane(&mut self, id: UpstreamId) {
        let upstream = &self.upstreams[id];
        let is_whole = upstream.output.is_empty() && upstream.ends_at.is_none();
        let is_done = |number: ExchangeId| self.exchanges[number].request_done();
        if !is_whole || !upstream.exchange.is_some_and(is_done) {
            return;
        }
        let Some(carrier) = self.trunk_of(id).map(|id| &self.upstreams[id]) else {
            return;
        };
        let Some(trunk) = carrier.trunk.as_ref() else {
            return;
        };
        let end = trunk.sent + (carrier.output.len() + trunk.out.len()) as u64;
        self.upstreams[id].ends_at = Some(end);
    }

    /// More of the request may be taken from its client.
    pub(super) fn lane_has_room(&mut self, id: UpstreamId) {
        if let Some(number) = self.upstreams[id].exchange {
            let client = self.exchanges[number].client;
            self.await_response(id);
            self.await_request_body(client);
            self.wake_client(client);
        }
    }

    fn note_trunk_backlog(&mut self, id: UpstreamId, trunk: UpstreamId) {
        let waiting = self.upstreams[trunk].output.len();
        let Some(trunk) = self.upstreams[trunk].trunk.as_mut() else {
            return;
        };
        let blocked = waiting + trunk.out.len() > BACKLOG_BYTES_MAX;
        trunk.has_blocked |= blocked;
        self.flush_now |= trunk.out.len() > OUT_BYTES_MAX;
        if let Some(lane) = self.upstreams[id].stream.lane_mut() {
            lane.blocked = blocked;
        }
    }

    // The way back.

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
        self.response_arrived(id, number, &mut head, heads.text(), &[]);
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
        let client = &self.clients[self.exchanges[number].client];
        is_long
            && client.stream.lane().is_none_or(|lane| {
                let multiplex = self.clients[lane.connection].multiplex.as_ref();
                multiplex.is_some_and(|multiplex| multiplex.lane_count() <= LONG_LANES_MAX)
            })
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
        if !exchange.tunnel && matches!(exchange.response, Some(Body::UntilClose)) {
            exchange.response = Some(Body::Length(length as u64));
        }
    }

    /// Keeps a response head for a moment if a body is to follow: mostly it is in the same read.
    /// Says whether it is kept.
    pub(in crate::session) fn hold_response_head(
        &mut self,
        id: UpstreamId,
        number: ExchangeId,
        head: &mut Vec<u8>,
    ) -> bool {
        let exchange = &mut self.exchanges[number];
        let (Some(lane), Some(Body::UntilClose)) =
            (self.upstreams[id].stream.lane(), &exchange.response)
        else {
            return false;
        };
        exchange.head = self.pool.take();
        exchange.head.append(head);
        let connection = lane.connection;
        if let Some(trunk) = self.upstreams[connection].trunk.as_mut() {
            trunk.held.push(id);
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
            if exchange.response.is_none() || exchange.head.is_empty() {
                continue;
            }
            let head = std::mem::take(&mut exchange.head);
            let client = exchange.client;
            self.send_client(client, &head, &[]);
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
        if self.clients[exchange.client].phase == Phase::Tunnel {
            if !exchange.response_ended {
                self.tunnel_upstream_ended(id, number);
            }
        } else if exchange.response.is_some() {
            self.response_body_ended(number, &trailers);
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
        } else if code == ErrorCode::RefusedStream && self.may_go_elsewhere(number) {
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

    /// Whether a request that its backend has not looked at can be sent again: all of it is here.
    fn may_go_elsewhere(&self, number: ExchangeId) -> bool {
        let exchange = &self.exchanges[number];
        exchange.response.is_none()
            && exchange.interim_count == 0
            && exchange.record.bytes_in == 0
            && exchange.record.retries < exchange.cluster.entity.retries
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
        self.close_upstream(id);
        self.release_backend(number);
        self.try_backend(number);
    }

    /// The connection never opened, so that any request may go elsewhere.
    pub(super) fn lane_not_connected(&mut self, id: UpstreamId, failure: Outcome) {
        let Some(number) = self.upstreams[id].exchange else {
            return self.close_upstream(id);
        };
        if self.connect_failed(number, failure) {
            self.try_backend(number);
        }
    }

    /// The stream is gone before its end.
    pub(super) fn lane_lost(&mut self, id: UpstreamId) {
        let Some(number) = self.upstreams[id].exchange else {
            return self.close_upstream(id);
        };
        let exchange = &self.exchanges[number];
        if exchange.tunnel {
            self.close_tunnel(number);
        } else if exchange.response.is_some() {
            self.metrics.add(Counter::AbortedByBackendTotal, 1);
            self.fail_exchange(number, 502, Outcome::BackendAborted);
        } else if self.has_met_a_closed_trunk(id)
            && may_repeat_once(exchange)
            && self.may_go_elsewhere(number)
        {
            self.repeat_lane(id, number);
        } else {
            self.upstreams[id].reused = false;
            self.upstream_ended_early(id, number);
        }
    }

    /// Forgets a lane that is over; a stream that is not is reset.
    pub(super) fn trunk_lane_closed(&mut self, id: UpstreamId, lane: &Lane<UpstreamId>) {
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
