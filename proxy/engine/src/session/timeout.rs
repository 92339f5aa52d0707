//! What happens when a deadline passes.

use crate::runtime::driver::Driver;
use crate::runtime::socket;
use crate::session::back::upstream::Link;
use crate::session::engine::Engine;
use crate::session::exchange::Outcome;
use crate::session::front::asker::Asker;
use crate::session::front::client::Phase;
use crate::session::ids::{self, ClientId, ExchangeId, Owner, StreamId, UpstreamId};
use crate::telemetry::names::{Counter, Field};

impl<D: Driver> Engine<D> {
    /// Acts on every deadline that has passed.
    pub(super) fn run_timers(&mut self) {
        let now_ms = self.clock.ms();
        while let Some(due) = self.timers.poll_due(now_ms) {
            self.at_work = due;
            match Owner::of(due) {
                Owner::Client(id) => self.check_client(id, now_ms),
                Owner::Stream(id) => self.check_stream(id, now_ms),
                Owner::Upstream(id) => self.check_upstream(id, now_ms),
                Owner::Engine if due == ids::FLUSH_LOG => self.flush_log(),
                Owner::Engine if due == ids::CHECK_DRAINS => self.check_drains(),
                Owner::Engine if due == ids::RESUME_ACCEPT => self.resume_accepting(),
                Owner::Engine | Owner::Listener(_) | Owner::Nobody => {}
            }
        }
    }

    /// Sets the time within which a client must make its next move.
    pub(super) fn await_client_for(&mut self, id: ClientId, limit_ms: u64) {
        let at_ms = self.clock.ms() + limit_ms;
        self.clients[id].set_deadline(&mut self.timers, id, at_ms);
    }

    /// Sets the time within which an upstream must make its next move.
    pub(super) fn await_upstream_for(&mut self, id: UpstreamId, limit_ms: u64) {
        let at_ms = self.clock.ms() + limit_ms;
        let deadline = &mut self.upstreams[id].deadline;
        self.timers.set(deadline, id.token(), at_ms);
    }

    fn check_client(&mut self, id: ClientId, now_ms: u64) {
        let Some(client) = self.clients.get_mut(id) else {
            return;
        };
        if !self.timers.check(&mut client.deadline, id.token(), now_ms) {
            return;
        }
        client.deadline.clear();
        if client.write.is_due(now_ms) && !client.is_flushed() {
            return self.look_at_write(Asker::Connection(id));
        }
        client.clear_deadline(&mut self.timers, id);
        match client.phase {
            Phase::Preamble => self.preamble_failed(id),
            Phase::Hello | Phase::Handshake => self.handshake_failed(id, None),
            Phase::Multiplexed => self.multiplex_late(id),
            // A kept-alive connection nobody used: no fault of anybody.
            Phase::Idle | Phase::Lingering => self.close_client(id),
            Phase::ExpectHead => self.head_is_late(Asker::Connection(id)),
            Phase::InExchange => {
                if let Some(exchange) = client.exchange {
                    self.request_body_late(exchange);
                }
            }
            Phase::Tunnel => {}
        }
    }

    fn check_stream(&mut self, id: StreamId, now_ms: u64) {
        let Some(stream) = self.streams.get_mut(id) else {
            return;
        };
        if !self.timers.check(&mut stream.deadline, id.token(), now_ms) {
            return;
        }
        stream.deadline.clear();
        if stream.write.is_due(now_ms) && !stream.is_flushed() {
            return self.look_at_write(Asker::Stream(id));
        }
        self.clear_asker_deadline(Asker::Stream(id));
        self.stream_late(id);
    }

    /// Whether a response that is late is not late yet: the time for its head begins when the backend
    /// has taken the request's last byte, and the kernel may hold megabytes of it for a slow one. Looked
    /// at only now, so that it costs nothing while responses are in time.
    fn is_still_taking(&mut self, id: UpstreamId, number: ExchangeId) -> bool {
        let upstream = &self.upstreams[id];
        let exchange = &self.exchanges[number];
        if upstream.link != Link::Busy || exchange.reply.has_begun() {
            return false;
        }
        if upstream.stream.lane().is_some() {
            return self.is_still_carried(id, number);
        }
        let Some(sending) = upstream.stream.raw().map(socket::sending) else {
            return false;
        };
        let limit = exchange.cluster.entity.timeouts.response_head;
        let progressed = sending.unacknowledged != upstream.unacknowledged;
        let left = match sending.unacknowledged {
            0 => limit.saturating_sub(sending.acknowledged_ms_ago),
            _ if progressed => limit,
            _ => 0,
        };
        let upstream = &mut self.upstreams[id];
        upstream.unacknowledged = sending.unacknowledged;
        if left == 0 {
            return false;
        }
        self.await_upstream_for(id, left);
        true
    }

    /// The same for one of many requests on a connection: what is acknowledged may be another's, so that
    /// it is looked at how far the connection has come.
    fn is_still_carried(&mut self, id: UpstreamId, number: ExchangeId) -> bool {
        let upstream = &self.upstreams[id];
        let Some(lane) = upstream.stream.lane() else {
            return false;
        };
        let carrier = &self.upstreams[lane.connection];
        let (Some(trunk), Some(socket)) = (carrier.trunk.as_ref(), carrier.stream.raw()) else {
            return false;
        };
        let sending = socket::sending(socket);
        let waiting = carrier.stream.unsent_bytes() as u64 + u64::from(sending.unacknowledged);
        let taken = trunk.sent.saturating_sub(waiting);
        let limit = self.exchanges[number].cluster.entity.timeouts.response_head;
        let progressed = upstream.unacknowledged != taken as u32;
        let was_carried = upstream.unacknowledged != 0;
        let is_carried = lane.blocked || upstream.ends_at.is_some_and(|end| end > taken);
        let left = match is_carried {
            true if progressed => limit,
            true => 0,
            // It has left since it was last looked at.
            false if was_carried => limit,
            // Nothing has been sent since, so that the last acknowledgement was about it.
            false if upstream.ends_at == Some(trunk.sent) => {
                limit.saturating_sub(sending.acknowledged_ms_ago)
            }
            false => 0,
        };
        let upstream = &mut self.upstreams[id];
        upstream.unacknowledged = if is_carried { taken as u32 } else { 0 };
        if left == 0 {
            return false;
        }
        self.await_upstream_for(id, left);
        true
    }

    fn response_late(&mut self, id: UpstreamId, number: ExchangeId) {
        self.metrics.add(Counter::GatewayTimeout504Total, 1);
        self.doubt_trunk_of(id);
        self.fail_exchange(number, 504, Outcome::ResponseTimeout);
    }

    fn check_upstream(&mut self, id: UpstreamId, now_ms: u64) {
        let Some(upstream) = self.upstreams.get_mut(id) else {
            return;
        };
        if !self
            .timers
            .check(&mut upstream.deadline, id.token(), now_ms)
        {
            return;
        }
        upstream.deadline.clear();
        if upstream.trunk.is_some() {
            return self.trunk_late(id);
        }
        let Some(number) = upstream.exchange else {
            return self.close_upstream(id);
        };
        let (slot, link) = (upstream.backend.slot(), upstream.link);
        if self.is_still_taking(id, number) {
            return;
        }
        // Its response has come, and it is the client who does not take it.
        let upstream = &self.upstreams[id];
        let has_come = upstream.readable || !upstream.input.is_empty();
        if has_come && link == Link::Busy && !self.upstream_wants_input(id) {
            return self.await_response(id);
        }
        self.metrics.add(Counter::TimeoutsTotal, 1);
        self.metrics.slot_add(slot, Field::Timeouts, 1);
        if matches!(link, Link::Connecting | Link::Securing) {
            self.connect_failed(number, Outcome::ConnectTimeout);
        } else if self.exchanges[number].reply.is_tunnel() {
            self.close_tunnel(number);
        } else {
            self.response_late(id, number);
        }
    }
}
