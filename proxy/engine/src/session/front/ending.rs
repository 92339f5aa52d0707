//! The end of a response and of a client's connection: on to the next request, or closed in good order.
//!
//! Rule: whoever closes a connection at once knows what became of its exchange and has said so. A connection that
//! ends in order is read on for a moment, so that our last words are not lost (RFC 9112 §9.6). Called by who
//! has answered, and by whoever finds that there is nobody any more.

use crate::runtime::driver::Driver;
use crate::session::engine::Engine;
use crate::session::exchange::Outcome;
use crate::session::front::asker::Asker;
use crate::session::front::client::Phase;
use crate::session::ids::ClientId;
use crate::telemetry::names::Counter;

/// How long a closing connection may take to notice.
const LINGER_MS: u64 = 2000;

/// Within this time a client of HTTP/2 that is about to be left has answered that it knows.
pub(super) const LEAVE_MS: u64 = 1000;

impl<D: Driver> Engine<D> {
    /// Closes a connection that has sent its last request and got its last response.
    pub(super) fn close_if_ended(&mut self, id: ClientId) {
        let Some(client) = self.clients.get(id) else {
            return;
        };
        let between = matches!(client.phase, Phase::Idle | Phase::ExpectHead);
        if client.ended && between && !client.input_waits && client.is_flushed() {
            self.close_client_when_sent(id);
        }
    }

    /// A response is complete: on to the next request, or to the end.
    pub(super) fn end_client_response(&mut self, id: ClientId, keep_alive: bool) {
        if !keep_alive {
            return self.close_client_when_sent(id);
        }
        self.clients[id].served = true;
        self.await_next_request(id);
        self.wake_client(id);
    }

    /// Waits for a request as soon as everything is sent.
    pub(super) fn await_next_request(&mut self, id: ClientId) {
        if self.clients[id].is_flushed() {
            self.await_request(id);
        } else {
            self.clients[id].phase = Phase::Idle;
            self.await_write(Asker::Connection(id), false);
        }
    }

    /// Begins to leave a connection without a request. The next one may be on its way: what comes within some time
    /// is answered, and told that it was the last. Behind that there is time left to listen.
    pub(in crate::session) fn leave_idle_client(&mut self, id: ClientId) {
        self.unlink_idle(id);
        let settings = &self.tables.settings;
        let most = settings.drain_timeout.saturating_sub(LINGER_MS);
        let limit = settings.drain_idle_timeout.min(most.max(LEAVE_MS));
        self.await_client_for(id, limit);
    }

    /// Nothing has come: ends our side, and listens to what crosses that, which a close would answer by a reset.
    /// Whoever needs the place may have it.
    pub(in crate::session) fn end_idle_client(&mut self, id: ClientId) {
        if !self.clients[id].stream.is_quiet() {
            // It is here, and its turn has not come: a timer may be told before what the kernel has.
            return self.hear_idle_client(id);
        }
        self.close_client_when_sent(id);
        if self.clients.contains(id) {
            self.link_idle(id);
        }
    }

    /// Reads what has come at the very end. Where that is no request, nor the beginning of one, time runs again.
    fn hear_idle_client(&mut self, id: ClientId) {
        self.clients[id].readable = true;
        self.await_client_for(id, LEAVE_MS);
        self.wake_client(id);
    }

    /// Closes after what is queued has gone, and after the peer has had time to read it.
    pub(in crate::session) fn close_client_when_sent(&mut self, id: ClientId) {
        self.unlink_idle(id);
        self.clients[id].close_when_sent = true;
        if self.clients[id].is_flushed() {
            self.linger_client(id);
        }
    }

    pub(super) fn linger_client(&mut self, id: ClientId) {
        let client = &mut self.clients[id];
        if client.has_said_all() {
            return self.close_client(id);
        }
        client.phase = Phase::Lingering;
        client.input.clear(&mut self.pool);
        client.stream.shutdown_write(&mut self.tls);
        self.await_client_for(id, LINGER_MS);
        self.wake_client(id);
    }

    /// The connection failed or the peer left: everything that hangs on it ends.
    pub(in crate::session) fn client_lost(&mut self, id: ClientId) {
        self.close_client(id);
    }

    /// Closes at once. The exchange, if any, should have been ended by somebody who knows why.
    pub(in crate::session) fn close_client(&mut self, id: ClientId) {
        if let Some(exchange) = self.clients[id].exchange {
            self.abandon_exchange(exchange, Outcome::ClientAborted);
        }
        self.close_streams_of(id);
        self.unlink_idle(id);
        let Some(mut client) = self.clients.remove(id) else {
            return;
        };
        self.timers.remove(&mut client.deadline);
        client.input.clear(&mut self.pool);
        client.output.clear(&mut self.pool);
        client.stream.release(&mut self.pool);
        self.metrics.sub(Counter::ConnectionsNow, 1);
        if client.refused {
            self.refused_now -= 1;
        } else {
            client
                .listener
                .connections
                .set(client.listener.connections.get() - 1);
        }
    }
}
