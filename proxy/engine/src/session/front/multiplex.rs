//! Connections that carry many requests: HTTP/2 from clients.
//!
//! Rule: here is what concerns the connection as a whole: its beginning, its rest, its end, and that frames of
//! all streams are collected and leave in one write at the end of the turn. `h2` takes it apart into streams,
//! each of which asks for itself (`stream`), and may be served by another generation than its neighbours.

use std::rc::Rc;

use crate::protocol::h1::Slashes;
use crate::protocol::h2::{Connection, ErrorCode, Settings};
use crate::runtime::buffer::BufferPool;
use crate::runtime::driver::Driver;
use crate::session::engine::Engine;
use crate::session::front::client::Phase;
use crate::session::front::ending::LEAVE_MS;
use crate::session::ids::{ClientId, Fate, Owner, RESET_STREAMS, StreamId};
use crate::state::listener::{Listener, ListenerSettings};
use crate::telemetry::names::Counter;

/// Frames that are as much as this are worth a write of their own.
pub(in crate::session) const OUT_BYTES_MAX: usize = 64 * 1024;

/// The rest of a header block has to come within this time (T08).
const HEAD_REST_MS_MAX: u64 = 5000;

/// What a connection knows of its streams.
pub(in crate::session) struct Multiplex {
    pub(in crate::session) h2: Connection,
    /// Those of its streams that are served.
    pub(in crate::session) streams: Vec<StreamId>,
    /// Frames for the end of the turn.
    pub(in crate::session) out: Vec<u8>,
    /// It is in the list of those to be flushed.
    pub(in crate::session) queued: bool,
    /// Streams wait for the backlog to shrink; see `backlog`.
    pub(in crate::session) has_blocked: bool,
    /// The connection's deadline is that of a header block.
    awaits_head: bool,
    /// The client has been told that we are about to leave.
    leaves: bool,
    /// How paths are read.
    pub(super) slashes: Slashes,
}

impl Multiplex {
    fn new(listener: &ListenerSettings) -> Self {
        let settings = Settings {
            head_limits: listener.head_limits,
            ..Settings::default()
        };
        Self {
            h2: Connection::server(&settings),
            streams: Vec::new(),
            out: Vec::new(),
            queued: false,
            has_blocked: false,
            awaits_head: false,
            leaves: false,
            slashes: listener.slashes,
        }
    }

    /// How many streams it has that are served.
    pub(in crate::session) fn stream_count(&self) -> usize {
        self.streams.len()
    }

    /// Whether it may have no more of them.
    pub(super) fn is_full(&self) -> bool {
        self.streams.len() >= self.h2.streams_max()
    }

    /// Takes one more; the deadline of the connection has been cleared for it.
    pub(super) fn opened(&mut self, stream: StreamId) {
        self.streams.push(stream);
        self.awaits_head = false;
    }

    /// Whether something is open: a stream that is not served waits to be reset.
    fn is_busy(&self) -> bool {
        self.h2.stream_count() > 0 || !self.streams.is_empty()
    }

    pub(in crate::session) fn out(&mut self, pool: &mut BufferPool) -> &mut Vec<u8> {
        if self.out.capacity() == 0 {
            self.out = pool.take();
        }
        &mut self.out
    }
}

/// How long a client has for an answer before it is told that the rest of its request is not wanted.
const RESET_DELAY_MS: u64 = 20;

/// Beyond so many it is told at once.
const ANSWERED_EARLY_MAX: usize = 4096;

/// A stream whose answer has gone while its request was still coming.
pub(in crate::session) struct AnsweredEarly {
    connection: ClientId,
    stream: u32,
    at_ms: u64,
}

impl<D: Driver> Engine<D> {
    /// The client has chosen HTTP/2.
    pub(super) fn begin_multiplex(&mut self, id: ClientId) {
        let listener = self.clients[id].listener.settings();
        let client = &mut self.clients[id];
        client.phase = Phase::Multiplexed;
        client.multiplex = Some(Box::new(Multiplex::new(&listener)));
        self.metrics.add(Counter::Http2ConnectionsTotal, 1);
        self.await_streams(id);
        self.queue_multiplexed(id);
    }

    /// Sends the frames of this turn, of every connection that has some.
    pub(in crate::session) fn flush_multiplexed(&mut self) {
        self.flush_now = false;
        let unflushed = std::mem::take(&mut self.unflushed);
        for &token in &unflushed {
            self.at_work = token;
            match Owner::of(token) {
                Owner::Upstream(id) if self.upstreams.contains(id) => self.flush_shared_frames(id),
                Owner::Client(id) => {
                    let Some(client) = self.clients.get_mut(id) else {
                        continue;
                    };
                    if let Some(multiplex) = client.multiplex.as_mut() {
                        multiplex.queued = false;
                    }
                    // Nothing is done for it afterwards.
                    let _ = self.flush_frames(id);
                }
                _ => {}
            }
        }
        let mut unflushed = unflushed;
        unflushed.clear();
        // Sending may have made room for more frames, which leave in the next turn.
        if self.unflushed.is_empty() {
            self.unflushed = unflushed;
        }
    }

    /// Sends the frames of a connection; closes it behind the last of one that leaves.
    fn flush_frames(&mut self, id: ClientId) -> Fate {
        let Some(multiplex) = self.clients[id].multiplex.as_mut() else {
            return Fate::Lives;
        };
        multiplex.out(&mut self.pool);
        multiplex.h2.flush(&mut multiplex.out);
        let drained = multiplex.h2.is_drained() && multiplex.streams.is_empty();
        let out = std::mem::take(&mut multiplex.out);
        let lives = out.is_empty() || self.send_client(id, &out, &[]).lives();
        self.pool.give(out);
        if lives && self.clients[id].is_flushed() {
            self.frames_flushed(id);
        }
        if drained && self.clients.contains(id) {
            self.clients[id].multiplex = None;
            self.close_client_when_sent(id);
        }
        self.clients.fate_of(id)
    }

    pub(super) fn queue_multiplexed(&mut self, id: ClientId) {
        let client = &mut self.clients[id];
        let token = id.token();
        if let Some(multiplex) = client.multiplex.as_mut() {
            if !std::mem::replace(&mut multiplex.queued, true) {
                self.unflushed.push(token);
            }
        }
    }

    /// Ends a connection whose peer broke the protocol.
    pub(super) fn multiplex_failed(&mut self, id: ClientId) {
        self.metrics.add(Counter::Http2ErrorsTotal, 1);
        self.lose_streams(id);
        if self.flush_frames(id).lives() {
            self.clients[id].multiplex = None;
            self.close_client_when_sent(id);
        }
    }

    fn lose_streams(&mut self, id: ClientId) {
        while let Some(&stream) = self.clients[id]
            .multiplex
            .as_ref()
            .and_then(|multiplex| multiplex.streams.last())
        {
            self.close_stream(stream);
        }
    }

    /// The connection is being closed: so are its streams.
    pub(super) fn close_streams_of(&mut self, id: ClientId) {
        self.lose_streams(id);
        if let Some(multiplex) = self.clients[id].multiplex.take() {
            self.pool.give(multiplex.out);
        }
    }

    pub(super) fn reset_stream(&mut self, id: ClientId, stream: u32, code: ErrorCode) {
        if let Some(multiplex) = self.clients[id].multiplex.as_mut() {
            multiplex.h2.reset(stream, code);
        }
        self.queue_multiplexed(id);
    }

    /// Ends a stream that is answered, and of whose request the rest is not wanted (RFC 9113 §8.1). Its client is
    /// told a moment later: curl forgets an answer that comes in one piece with the reset (7.88).
    pub(super) fn reset_stream_later(&mut self, connection: ClientId, stream: u32) {
        if self.answered_early.len() >= ANSWERED_EARLY_MAX {
            return self.reset_stream(connection, stream, ErrorCode::NoError);
        }
        if let Some(multiplex) = self.clients[connection].multiplex.as_mut() {
            multiplex.h2.end_unread(stream);
        }
        let at_ms = self.clock.ms() + RESET_DELAY_MS;
        if self.answered_early.is_empty() {
            self.timers.queue_check(RESET_STREAMS, at_ms);
        }
        self.answered_early.push_back(AnsweredEarly {
            connection,
            stream,
            at_ms,
        });
        self.queue_multiplexed(connection);
    }

    /// Tells the clients of those whose moment has passed.
    pub(in crate::session) fn reset_answered(&mut self) {
        let now_ms = self.clock.ms();
        while let Some(next) = self.answered_early.front() {
            if next.at_ms > now_ms {
                self.timers.queue_check(RESET_STREAMS, next.at_ms);
                return;
            }
            let (id, stream) = (next.connection, next.stream);
            self.answered_early.pop_front();
            let client = self.clients.get_mut(id);
            if let Some(multiplex) = client.and_then(|client| client.multiplex.as_mut()) {
                multiplex.h2.tell_unread(stream);
                self.queue_multiplexed(id);
            }
        }
    }

    /// Begins to leave: streams that are open are served to their ends.
    pub(in crate::session) fn leave_multiplexed(&mut self, listener: &Rc<Listener>) {
        let concerned: Vec<ClientId> = self
            .clients
            .iter()
            .filter(|(_, client)| client.multiplex.is_some())
            .filter(|(_, client)| Rc::ptr_eq(&client.listener, listener))
            .map(|(id, _)| id)
            .collect();
        for id in concerned {
            if let Some(multiplex) = self.clients[id].multiplex.as_mut() {
                multiplex.leaves = true;
                multiplex.h2.shut_down();
            }
            self.queue_multiplexed(id);
        }
    }

    /// Nothing has come within the time: neither a stream, nor the rest of a header block.
    pub(in crate::session) fn multiplex_late(&mut self, id: ClientId) {
        let Some(multiplex) = self.clients[id].multiplex.as_mut() else {
            return self.close_client(id);
        };
        if multiplex.awaits_head {
            self.metrics.add(Counter::TimeoutsTotal, 1);
            multiplex.h2.go_away(ErrorCode::EnhanceYourCalm);
            return self.multiplex_failed(id);
        }
        if !multiplex.leaves {
            return self.leave_idle_multiplexed(id);
        }
        multiplex.h2.go_away(ErrorCode::NoError);
        if self.flush_frames(id).lives() {
            self.close_client(id);
        }
    }

    /// Begins to leave a connection without a stream: one that is on its way is served (RFC 9113 §6.8),
    /// and who does not answer within the time for that is left.
    pub(in crate::session) fn leave_idle_multiplexed(&mut self, id: ClientId) {
        self.unlink_idle(id);
        let client = &mut self.clients[id];
        if let Some(multiplex) = client.multiplex.as_mut() {
            multiplex.leaves = true;
            multiplex.h2.shut_down();
        }
        client.set_deadline(&mut self.timers, id, self.clock.ms() + LEAVE_MS);
        self.queue_multiplexed(id);
    }

    /// Forgets a stream that is over.
    pub(super) fn stream_closed(&mut self, id: ClientId, stream: StreamId) {
        if let Some(multiplex) = self.clients[id].multiplex.as_mut() {
            multiplex.streams.retain(|&other| other != stream);
        }
        self.queue_multiplexed(id);
        self.rest_if_idle(id);
    }

    /// Without a stream it is an idle connection like any other.
    pub(super) fn rest_if_idle(&mut self, id: ClientId) {
        let client = &self.clients[id];
        let is_idle = client
            .multiplex
            .as_ref()
            .is_some_and(|multiplex| !multiplex.is_busy());
        if is_idle {
            self.await_streams(id);
        }
    }

    fn await_streams(&mut self, id: ClientId) {
        let client = &mut self.clients[id];
        let closing = self.stopping || client.listener.draining.get();
        let limit = client.listener.settings().entity.timeouts.keep_alive;
        client.served = true;
        if let Some(multiplex) = client.multiplex.as_mut() {
            multiplex.h2.shrink();
            if closing || multiplex.leaves {
                return self.leave_idle_multiplexed(id);
            }
        }
        client.set_deadline(&mut self.timers, id, self.clock.ms() + limit);
        self.unlink_idle(id);
        self.link_idle(id);
    }

    /// Another deadline has been in the place of a header block's.
    pub(super) fn watch_head_anew(&mut self, id: ClientId) {
        if let Some(multiplex) = self.clients[id].multiplex.as_mut() {
            multiplex.awaits_head = false;
        }
        self.watch_head(id);
    }

    /// Sets the time for the rest of a header block.
    pub(super) fn watch_head(&mut self, id: ClientId) {
        let client = &mut self.clients[id];
        let Some(multiplex) = client.multiplex.as_mut() else {
            return;
        };
        let pending = multiplex.h2.head_pending();
        if pending == multiplex.awaits_head {
            return;
        }
        multiplex.awaits_head = pending;
        let is_busy = multiplex.is_busy();
        if pending {
            let limit = client.listener.settings().entity.timeouts.request_head;
            let at_ms = self.clock.ms() + limit.min(HEAD_REST_MS_MAX);
            client.set_deadline(&mut self.timers, id, at_ms);
            self.unlink_idle(id);
        } else if is_busy {
            client.clear_deadline(&mut self.timers, id);
        } else {
            self.await_streams(id);
        }
    }
}
