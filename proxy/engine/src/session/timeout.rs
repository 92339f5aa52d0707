//! What happens when a deadline passes.

use crate::runtime::driver::{Driver, Token};
use crate::runtime::socket;
use crate::session::back::upstream::Link;
use crate::session::engine::Engine;
use crate::session::exchange::Outcome;
use crate::session::exchange::record::Attempt;
use crate::session::front::client::Phase;
use crate::session::token::{self, Owner};
use crate::telemetry::names::{Counter, Field};

impl<D: Driver> Engine<D> {
    /// Acts on every deadline that has passed.
    pub(super) fn run_timers(&mut self) {
        let now_ms = self.clock.ms();
        while let Some(due) = self.timers.poll_due(now_ms) {
            self.at_work = due;
            match token::parts(due) {
                (Owner::Client, index) => self.check_client(due, index, now_ms),
                (Owner::Upstream, index) => self.check_upstream(due, index, now_ms),
                (Owner::Engine, _) if due == token::FLUSH_LOG => self.flush_log(),
                (Owner::Engine, _) if due == token::CHECK_DRAINS => self.check_drains(),
                (Owner::Engine, _) if due == token::RESUME_ACCEPT => self.resume_accepting(),
                _ => {}
            }
        }
    }

    fn check_client(&mut self, due: Token, index: usize, now_ms: u64) {
        if self.find_client(due, index).is_none() {
            return;
        }
        let client = &mut self.clients[index];
        if !self.timers.check(&mut client.deadline, due, now_ms) {
            return;
        }
        client.deadline.clear();
        if client.write.is_due(now_ms) && !client.is_flushed() {
            return self.look_at_write(index);
        }
        client.clear_deadline(&mut self.timers);
        match client.phase {
            Phase::Preamble => self.preamble_failed(index),
            Phase::Hello | Phase::Handshake => self.handshake_failed(index, None),
            Phase::Multiplexed => self.multiplex_late(index),
            // A kept-alive connection nobody used: no fault of anybody.
            Phase::Idle | Phase::Lingering => self.close_client(index),
            Phase::ExpectHead => {
                self.metrics.add(Counter::TimeoutsTotal, 1);
                self.metrics.add(Counter::Rejected408Total, 1);
                self.record_rejected(index, 408, "request_head_timeout", &Attempt::default());
                let words = self.words_now(index, None);
                self.send_error(index, 408, &words, false, false);
            }
            Phase::InExchange => self.request_body_late(index),
            Phase::Tunnel => {}
        }
    }

    fn request_body_late(&mut self, index: usize) {
        let Some(number) = self.clients[index].exchange else {
            return;
        };
        if self.exchanges[number as usize].request_done() {
            return;
        }
        self.metrics.add(Counter::TimeoutsTotal, 1);
        self.metrics.add(Counter::Rejected408Total, 1);
        self.exchanges[number as usize].keep_alive = false;
        self.fail_exchange(number, 408, Outcome::RequestTimeout);
    }

    /// Whether a response that is late is not late yet: the time for its head begins when the backend
    /// has taken the request's last byte, and the kernel may hold megabytes of it for a slow one. Looked
    /// at only now, so that it costs nothing while responses are in time.
    fn is_still_taking(&mut self, index: usize, number: u32) -> bool {
        let upstream = &self.upstreams[index];
        let exchange = &self.exchanges[number as usize];
        if upstream.link != Link::Busy || exchange.tunnel || exchange.response.is_some() {
            return false;
        }
        if upstream.stream.lane().is_some() {
            return self.is_still_carried(index, number);
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
        let upstream = &mut self.upstreams[index];
        upstream.unacknowledged = sending.unacknowledged;
        if left == 0 {
            return false;
        }
        let token = upstream.token;
        self.timers
            .set(&mut upstream.deadline, token, self.clock.ms() + left);
        true
    }

    /// The same for one of many requests on a connection: what is acknowledged may be another's, so that
    /// it is looked at how far the connection has come.
    fn is_still_carried(&mut self, index: usize, number: u32) -> bool {
        let upstream = &self.upstreams[index];
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
        let limit = self.exchanges[number as usize]
            .cluster
            .entity
            .timeouts
            .response_head;
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
        let upstream = &mut self.upstreams[index];
        upstream.unacknowledged = if is_carried { taken as u32 } else { 0 };
        if left == 0 {
            return false;
        }
        let token = upstream.token;
        self.timers
            .set(&mut upstream.deadline, token, self.clock.ms() + left);
        true
    }

    fn response_late(&mut self, index: usize, number: u32) {
        self.metrics.add(Counter::GatewayTimeout504Total, 1);
        self.doubt_trunk_of(index);
        self.fail_exchange(number, 504, Outcome::ResponseTimeout);
    }

    fn check_upstream(&mut self, due: Token, index: usize, now_ms: u64) {
        if self.find_upstream(due, index).is_none() {
            return;
        }
        let upstream = &mut self.upstreams[index];
        if !self.timers.check(&mut upstream.deadline, due, now_ms) {
            return;
        }
        upstream.deadline.clear();
        if upstream.trunk.is_some() {
            return self.trunk_late(index);
        }
        let Some(number) = upstream.exchange else {
            return self.close_upstream(index);
        };
        let (slot, link) = (upstream.backend.slot.id(), upstream.link);
        if self.is_still_taking(index, number) {
            return;
        }
        // Its response has come, and it is the client who does not take it.
        let upstream = &self.upstreams[index];
        let has_come = upstream.readable || !upstream.input.is_empty();
        if has_come && link == Link::Busy && !self.upstream_wants_input(index) {
            return self.await_response(index);
        }
        self.metrics.add(Counter::TimeoutsTotal, 1);
        self.metrics.slot_add(slot, Field::Timeouts, 1);
        if matches!(link, Link::Connecting | Link::Securing) {
            if self.connect_failed(number, Outcome::ConnectTimeout) {
                self.try_backend(number);
            }
        } else if self.exchanges[number as usize].tunnel {
            self.close_tunnel(number);
        } else {
            self.response_late(index, number);
        }
    }
}
