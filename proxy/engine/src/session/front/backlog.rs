//! What waits for the socket of a connection that carries many requests, and who waits for that.
//!
//! Rule: beyond [`BACKLOG_BYTES_MAX`] nothing is made that such a connection would have to carry. Its
//! frames are not read, since each may be a request that we answer ourselves, and its streams are told to
//! wait, those too that have yet to begin their responses. When the socket has taken everything, streams
//! go on in the order of their priorities, and what was not read is read. Called by `multiplex` and `stream_out`.

use crate::runtime::driver::Driver;
use crate::session::engine::Engine;
use crate::session::front::asker::Asker;
use crate::session::front::multiplex::OUT_BYTES_MAX;
use crate::session::ids::{ClientId, StreamId};

/// Bytes waiting for the socket beyond which streams are told to wait: one must not fill the memory
/// with what the other ones' reader does not take.
pub(in crate::session) const BACKLOG_BYTES_MAX: usize = 256 * 1024;

impl<D: Driver> Engine<D> {
    /// Whether a connection has enough to send.
    pub(super) fn is_backed_up(&self, id: ClientId) -> bool {
        let client = &self.clients[id];
        let frames = client.multiplex.as_ref().map_or(0, |it| it.out.len());
        client.output.len() + client.stream.unsent_bytes() + frames > BACKLOG_BYTES_MAX
    }

    /// Marks the streams of a connection that has enough to send.
    pub(super) fn note_backlog(&mut self, id: StreamId, connection: ClientId) {
        let is_backed_up = self.is_backed_up(connection);
        let Some(multiplex) = self.clients[connection].multiplex.as_mut() else {
            return;
        };
        self.flush_now |= multiplex.out.len() > OUT_BYTES_MAX;
        let was_backed_up = multiplex.has_blocked;
        multiplex.has_blocked |= is_backed_up;
        if was_backed_up || !is_backed_up {
            self.streams[id].blocked = was_backed_up;
            return;
        }
        let streams = std::mem::take(&mut multiplex.streams);
        for &stream in &streams {
            self.streams[stream].blocked = true;
            // Who still waits for a backend goes on waiting for it.
            let exchange = self.streams[stream].exchange;
            if exchange.is_some_and(|it| self.exchanges[it].reply.has_begun()) {
                self.await_write(Asker::Stream(stream), false);
            }
        }
        if let Some(multiplex) = self.clients[connection].multiplex.as_mut() {
            multiplex.streams = streams;
        }
    }

    /// The socket took the frames of this turn at once, which those who wait for it do not know.
    pub(super) fn frames_flushed(&mut self, id: ClientId) {
        let client = &self.clients[id];
        let input_waits = client.input_waits || client.readable;
        if client.multiplex.as_ref().is_some_and(|it| it.has_blocked) {
            self.multiplex_flushed(id);
        }
        if input_waits && self.clients.contains(id) {
            self.wake_client(id);
        }
    }

    /// The socket has taken everything: streams that waited for that go on.
    pub(super) fn multiplex_flushed(&mut self, id: ClientId) {
        self.clients[id].clear_deadline(&mut self.timers, id);
        let Some(multiplex) = self.clients[id].multiplex.as_mut() else {
            return;
        };
        if std::mem::take(&mut multiplex.has_blocked) {
            for stream in self.streams_in_order(id) {
                if !self.unblock_stream(id, stream) {
                    break;
                }
            }
        }
        if self.clients.contains(id) {
            self.rest_if_idle(id);
            self.watch_head_anew(id);
        }
    }

    /// Lets a stream go on; `false` once there is enough to send again, and the rest has to wait.
    fn unblock_stream(&mut self, id: ClientId, stream: StreamId) -> bool {
        // One that was told before may have ended this one, or all of them.
        let Some((_, number)) = self.place_of(stream) else {
            return true;
        };
        let Some(multiplex) = self.clients[id].multiplex.as_mut() else {
            return false;
        };
        if multiplex.out.len() > BACKLOG_BYTES_MAX {
            multiplex.has_blocked = true;
            return false;
        }
        let asking = &mut self.streams[stream];
        let was_blocked = std::mem::take(&mut asking.blocked);
        if !was_blocked || !asking.output.is_empty() {
            return true;
        }
        if !asking.write.is_awaited() {
            self.wake_backend_of(stream);
            return true;
        }
        multiplex.h2.had_turn(number);
        self.stream_flushed(stream, true);
        true
    }

    /// Its response had not begun: it may have come meanwhile, but no time begins anew.
    fn wake_backend_of(&mut self, stream: StreamId) {
        let exchange = self.streams[stream].exchange;
        if let Some(carrier) = exchange.and_then(|it| self.exchanges[it].carrier()) {
            self.wake_carrier(carrier);
        }
    }

    /// The streams of a connection, as what they have is to be sent.
    fn streams_in_order(&mut self, id: ClientId) -> Vec<StreamId> {
        let Some(multiplex) = self.clients[id].multiplex.as_mut() else {
            return Vec::new();
        };
        let mut placed: Vec<_> = multiplex
            .streams
            .iter()
            .map(|&stream| (multiplex.h2.place(self.streams[stream].number), stream))
            .collect();
        placed.sort_unstable();
        placed.into_iter().map(|(_, stream)| stream).collect()
    }
}
