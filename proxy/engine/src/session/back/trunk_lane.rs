//! The way of one request on a connection to a backend that carries many; see `trunk`.
//!
//! Rule: a lane looks to an exchange like an upstream connection of its own; only here is it known
//! that it is not. Bytes that its client does not take yet wait in the lane, as many as its window
//! allows, and in no other lane's way.

use std::io;

use crate::protocol::h2::{ErrorCode, Tag};
use crate::runtime::driver::Driver;
use crate::session::back::upstream::Link;
use crate::session::engine::Engine;
use crate::session::exchange::Outcome;
use crate::session::front::backlog::BACKLOG_BYTES_MAX;
use crate::session::front::multiplex::OUT_BYTES_MAX;
use crate::session::ids::{ExchangeId, UpstreamId};
use crate::session::transport::{Lane, Transport};
use crate::telemetry::names::Counter;

/// A stream's number, and the lane that it was opened for.
pub(super) type Named = (u32, Tag);

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
        self.carry(exchange, id);
        let is_open = self.upstreams[trunk].link == Link::Trunk;
        if let Some(trunk) = self.upstreams[trunk].trunk.as_mut() {
            trunk.lanes.push(id);
            let cluster = &self.exchanges[exchange].cluster;
            if !std::sync::Arc::ptr_eq(&trunk.cluster, cluster) {
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

    pub(super) fn find_trunk_lane(
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
    pub(super) fn trunk_lane_end_after(&mut self, id: UpstreamId, trailers: &[u8]) {
        let upstream = &mut self.upstreams[id];
        upstream.shut_when_sent = true;
        if let Some(lane) = upstream.stream.lane_mut() {
            lane.trailers_out = trailers.to_vec();
        }
    }

    /// The request is over.
    pub(super) fn trunk_lane_end(&mut self, id: UpstreamId, trailers: &[u8]) {
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
            if self.exchanges[number].reply.is_tunnel() {
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
            let asker = self.exchanges[number].asker;
            self.await_response(id);
            self.await_request_body(number);
            self.wake_asker(asker);
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
}
