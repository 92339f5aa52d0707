//! The way back of a stream: heads, bodies and ends of a lane become frames of its connection.
//!
//! Rule: a lane looks to an exchange like a client of its own; only here is it known that it is not.
//! Called by whoever answers a client, where that client is a lane; see `multiplex`.

use crate::protocol::h2::{ErrorCode, Tag};
use crate::runtime::driver::Driver;
use crate::session::engine::Engine;
use crate::session::exchange::Outcome;
use crate::session::front::client::{Client, Phase};
use crate::session::front::stall::WriteWait;
use crate::session::ids::ClientId;
use crate::session::transport::Lane;

impl<D: Driver> Engine<D> {
    /// Sends a head as HTTP/1.1 has it; `ends` says that nothing follows.
    pub(super) fn lane_head(&mut self, id: ClientId, head: &[u8], ends: bool) {
        let Some((connection, stream)) = self.lane_of(id) else {
            return;
        };
        if let Some(multiplex) = self.clients[connection].multiplex.as_mut() {
            multiplex.out(&mut self.pool);
            multiplex
                .h2
                .send_response_text(&mut multiplex.out, stream, head, ends);
        }
        self.with_lane(id, |lane| lane.finished |= ends);
        self.queue_multiplexed(connection);
    }

    /// Sends body bytes, or queues what the windows do not allow. With `ends` they are the last ones,
    /// and no trailers follow.
    pub(super) fn lane_send(&mut self, id: ClientId, first: &[u8], second: &[u8], ends: bool) {
        let Some((connection, stream)) = self.lane_of(id) else {
            return;
        };
        let mut left = (first, second);
        if self.clients[id].output.is_empty() {
            if let Some(multiplex) = self.clients[connection].multiplex.as_mut() {
                multiplex.out(&mut self.pool);
                let (h2, out) = (&mut multiplex.h2, &mut multiplex.out);
                let is_last = ends && second.is_empty();
                left.0 = &first[h2.send_data(out, stream, first, is_last)..];
                if left.0.is_empty() && !second.is_empty() {
                    left.1 = &second[h2.send_data(out, stream, second, ends)..];
                }
                let finished = ends && left.0.is_empty() && left.1.is_empty();
                self.with_lane(id, |lane| lane.finished |= finished);
            }
        }
        let progressed = left.0.len() + left.1.len() < first.len() + second.len();
        let client = &mut self.clients[id];
        client.output.push(&mut self.pool, left.0);
        client.output.push(&mut self.pool, left.1);
        self.note_backlog(id, connection);
        if !self.clients[id].is_flushed() {
            self.await_client_write(id, progressed);
        }
        self.queue_multiplexed(connection);
    }

    /// Keeps the trailers of a response for its end; nothing for a client that is no lane.
    pub(super) fn lane_trailers(&mut self, id: ClientId, lines: &[u8]) {
        let lines = lines.to_vec();
        self.with_lane(id, |lane| lane.trailers_out = lines);
    }

    /// The response is complete: ends the stream as soon as everything is sent.
    pub(super) fn lane_end(&mut self, id: ClientId) {
        let client = &mut self.clients[id];
        client.close_when_sent = true;
        // What still comes is not wanted.
        client.input.clear(&mut self.pool);
        client.phase = Phase::Idle;
        if !client.output.is_empty() {
            return self.await_client_write(id, false);
        }
        self.end_lane_response(id);
        self.close_lane(id);
    }

    /// Ends our side of a stream.
    pub(super) fn end_lane_response(&mut self, id: ClientId) {
        let Some((connection, stream)) = self.lane_of(id) else {
            return;
        };
        let mut trailers = Vec::new();
        let mut finished = true;
        self.with_lane(id, |lane| {
            trailers = std::mem::take(&mut lane.trailers_out);
            finished = std::mem::replace(&mut lane.finished, true);
        });
        if finished {
            return;
        }
        if let Some(multiplex) = self.clients[connection].multiplex.as_mut() {
            multiplex.out(&mut self.pool);
            multiplex
                .h2
                .send_trailers(&mut multiplex.out, stream, &trailers);
        }
        self.queue_multiplexed(connection);
    }

    /// Sends what a lane has queued, as far as the windows allow; returns how many bytes went.
    pub(super) fn flush_lane(&mut self, id: ClientId) -> usize {
        let Some((connection, stream)) = self.lane_of(id) else {
            return 0;
        };
        let mut output = std::mem::take(&mut self.clients[id].output);
        let mut sent = 0;
        if let Some(multiplex) = self.clients[connection].multiplex.as_mut() {
            multiplex.out(&mut self.pool);
            let (h2, out) = (&mut multiplex.h2, &mut multiplex.out);
            sent = h2.send_data(out, stream, output.as_slice(), false);
        }
        output.consume(&mut self.pool, sent);
        self.clients[id].output = output;
        self.note_backlog(id, connection);
        self.queue_multiplexed(connection);
        self.lane_flushed(id, sent > 0);
        sent
    }

    pub(super) fn lane_flushed(&mut self, id: ClientId, progressed: bool) {
        let client = &mut self.clients[id];
        if !client.is_flushed() {
            return self.await_client_write(id, progressed);
        }
        client.write = WriteWait::default();
        if client.close_when_sent {
            self.lane_end(id);
        } else {
            self.client_flushed(id);
        }
    }

    /// Frees a lane; a stream that is not over is reset. Its exchange should have ended before.
    pub(super) fn close_lane(&mut self, id: ClientId) {
        if let Some(exchange) = self.clients[id].exchange {
            self.abandon_exchange(exchange, Outcome::ClientAborted);
        }
        let Some(mut client) = self.clients.remove(id) else {
            return;
        };
        self.timers.remove(&mut client.deadline);
        client.input.clear(&mut self.pool);
        client.output.clear(&mut self.pool);
        self.lanes_now -= 1;
        let Some(lane) = client.stream.lane() else {
            return;
        };
        let code = match (lane.finished, lane.received) {
            (true, true) => None,
            (true, false) => Some(ErrorCode::NoError),
            (false, _) => Some(ErrorCode::Internal),
        };
        if let Some(code) = code {
            self.reset_stream(lane.connection, lane.id, code);
        }
        self.lane_closed(lane.connection, id);
    }

    /// The lane of a stream, by the name that it was given.
    pub(super) fn find_lane(&self, connection: ClientId, tag: Tag) -> Option<ClientId> {
        let id = ClientId::of(tag)?;
        let lane = self.clients.get(id)?.stream.lane()?;
        (lane.connection == connection).then_some(id)
    }

    pub(super) fn live_lane(&mut self, id: ClientId) -> Option<&mut Client> {
        self.clients
            .get_mut(id)
            .filter(|client| client.stream.lane().is_some())
    }

    pub(in crate::session) fn lane_of(&self, id: ClientId) -> Option<(ClientId, u32)> {
        let lane = self.clients.get(id)?.stream.lane()?;
        Some((lane.connection, lane.id))
    }

    pub(super) fn with_lane(&mut self, id: ClientId, change: impl FnOnce(&mut Lane<ClientId>)) {
        let client = self.clients.get_mut(id);
        if let Some(lane) = client.and_then(|client| client.stream.lane_mut()) {
            change(lane);
        }
    }
}
