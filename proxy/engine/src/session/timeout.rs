//! What happens when a deadline passes.

use crate::runtime::driver::Driver;
use crate::runtime::socket;
use crate::session::back::carrier::Carrier;
use crate::session::back::upstream::Link;
use crate::session::engine::Engine;
use crate::session::exchange::Outcome;
use crate::session::front::asker::Asker;
use crate::session::front::client::Phase;
use crate::session::ids::{self, BackStreamId, ClientId, ExchangeId, Owner, StreamId, UpstreamId};
use crate::state::entity::Failure;
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
                Owner::BackStream(id) => self.check_back_stream(id, now_ms),
                Owner::Call(id) => self.check_call(id, now_ms),
                Owner::Exchange(id) => self.check_exchange(id, now_ms),
                Owner::Engine if due == ids::FLUSH_LOG => self.flush_log(),
                Owner::Engine if due == ids::CHECK_DRAINS => self.check_drains(),
                Owner::Engine if due == ids::RESUME_ACCEPT => self.resume_accepting(),
                Owner::Engine if due == ids::RESET_STREAMS => self.reset_answered(),
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
            Phase::Idle => self.end_idle_client(id),
            Phase::Lingering => self.close_client(id),
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
        let Some(sending) = upstream.stream.raw().map(socket::sending) else {
            return false;
        };
        let limit = exchange.bounds.response_head;
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
    fn is_still_carried(&mut self, id: BackStreamId) -> bool {
        let stream = &self.back_streams[id];
        let exchange = &self.exchanges[stream.exchange];
        let upstream = &self.upstreams[stream.connection];
        let (Some(shared), Some(socket)) = (upstream.shared.as_ref(), upstream.stream.raw()) else {
            return false;
        };
        if exchange.reply.has_begun() {
            return false;
        }
        let sending = socket::sending(socket);
        let waiting = upstream.stream.unsent_bytes() as u64 + u64::from(sending.unacknowledged);
        let taken = shared.sent.saturating_sub(waiting);
        let limit = exchange.bounds.response_head;
        let progressed = stream.carried != taken as u32;
        let was_carried = stream.carried != 0;
        let is_carried = stream.blocked || stream.ends_at.is_some_and(|end| end > taken);
        let left = match is_carried {
            true if progressed => limit,
            true => 0,
            // It has left since it was last looked at.
            false if was_carried => limit,
            // Nothing has been sent since, so that the last acknowledgement was about it.
            false if stream.ends_at == Some(shared.sent) => {
                limit.saturating_sub(sending.acknowledged_ms_ago)
            }
            false => 0,
        };
        self.back_streams[id].carried = if is_carried { taken as u32 } else { 0 };
        if left == 0 {
            return false;
        }
        self.await_carrier_for(Carrier::Stream(id), left);
        true
    }

    fn check_upstream(&mut self, id: UpstreamId, now_ms: u64) {
        let Some(upstream) = self.upstreams.get_mut(id) else {
            return;
        };
        let deadline = &mut upstream.deadline;
        if !self.timers.check(deadline, id.token(), now_ms) {
            return;
        }
        deadline.clear();
        if upstream.shared.is_some() {
            return self.shared_late(id);
        }
        let Some(number) = upstream.exchange else {
            return self.close_upstream(id);
        };
        let link = upstream.link;
        let has_input = upstream.readable || !upstream.input.is_empty();
        if self.is_still_taking(id, number) {
            return;
        }
        let carrier = Carrier::Connection(id);
        if matches!(link, Link::Connecting | Link::Securing) {
            self.count_timeout(carrier);
            self.connect_failed(number, Outcome::ConnectTimeout);
        } else {
            self.carrier_late(carrier, number, has_input);
        }
    }

    fn check_back_stream(&mut self, id: BackStreamId, now_ms: u64) {
        let Some(stream) = self.back_streams.get_mut(id) else {
            return;
        };
        let deadline = &mut stream.deadline;
        if !self.timers.check(deadline, id.token(), now_ms) {
            return;
        }
        deadline.clear();
        let (number, has_input) = (stream.exchange, !stream.input.is_empty());
        if !self.is_still_carried(id) {
            self.carrier_late(Carrier::Stream(id), number, has_input);
        }
    }

    /// Nothing has come by a carrier in time, or what has come waits.
    fn carrier_late(&mut self, carrier: Carrier, number: ExchangeId, has_input: bool) {
        let exchange = &self.exchanges[number];
        // Its response has come, and it is the client who does not take it, or its bandwidth.
        if (has_input || exchange.is_ahead()) && !self.takes_more_of(exchange) {
            return self.await_response(carrier);
        }
        if exchange.reply.is_tunnel() {
            self.count_timeout(carrier);
            return self.close_tunnel(number);
        }
        self.attempt_late(carrier, number);
    }

    /// An answer has not come in time.
    pub(super) fn attempt_late(&mut self, carrier: Carrier, number: ExchangeId) {
        self.count_timeout(carrier);
        if let Carrier::Stream(id) = carrier {
            self.doubt_shared(self.back_streams[id].connection);
        }
        if self.tries_again(number, Failure::Timeout) {
            return;
        }
        self.metrics.add(Counter::GatewayTimeout504Total, 1);
        self.fail_exchange(number, 504, Outcome::ResponseTimeout);
    }

    fn count_timeout(&self, carrier: Carrier) {
        let slot = self.upstreams[self.connection_by(carrier)].backend.slot();
        self.metrics.add(Counter::TimeoutsTotal, 1);
        self.metrics.slot_add(slot, Field::Timeouts, 1);
    }
}
