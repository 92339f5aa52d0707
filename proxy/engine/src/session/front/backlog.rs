//! What waits for the socket of a connection that carries many requests, and who waits for that.
//!
//! Rule: beyond [`BACKLOG_BYTES_MAX`] nothing is made that such a connection would have to carry. Its
//! frames are not read, since each may be a request that we answer ourselves, and its lanes are told to
//! wait, those too that have yet to begin their responses. When the socket has taken everything, lanes
//! go on in the order of their priorities, and what was not read is read. Called by `multiplex` and `lane`.

use crate::runtime::driver::Driver;
use crate::session::engine::Engine;
use crate::session::front::multiplex::OUT_BYTES_MAX;
use crate::session::ids::ClientId;

/// Bytes waiting for the socket beyond which lanes are told to wait: one lane must not fill the memory
/// with what another one's reader does not take.
pub(in crate::session) const BACKLOG_BYTES_MAX: usize = 256 * 1024;

impl<D: Driver> Engine<D> {
    /// Whether a connection has enough to send.
    pub(super) fn is_backed_up(&self, id: ClientId) -> bool {
        let client = &self.clients[id];
        let frames = client.multiplex.as_ref().map_or(0, |it| it.out.len());
        client.output.len() + client.stream.unsent_bytes() + frames > BACKLOG_BYTES_MAX
    }

    /// Marks the lanes of a connection that has enough to send.
    pub(super) fn note_backlog(&mut self, id: ClientId, connection: ClientId) {
        let is_backed_up = self.is_backed_up(connection);
        let Some(multiplex) = self.clients[connection].multiplex.as_mut() else {
            return;
        };
        self.flush_now |= multiplex.out.len() > OUT_BYTES_MAX;
        let was_backed_up = multiplex.has_blocked;
        multiplex.has_blocked |= is_backed_up;
        if was_backed_up || !is_backed_up {
            return self.with_lane(id, |lane| lane.blocked = was_backed_up);
        }
        let lanes = std::mem::take(&mut multiplex.lanes);
        for &lane in &lanes {
            self.with_lane(lane, |lane| lane.blocked = true);
            // Who still waits for a backend goes on waiting for it.
            let exchange = self.clients[lane].exchange;
            if exchange.is_some_and(|it| self.exchanges[it].reply.has_begun()) {
                self.await_client_write(lane, false);
            }
        }
        if let Some(multiplex) = self.clients[connection].multiplex.as_mut() {
            multiplex.lanes = lanes;
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

    /// The socket has taken everything: lanes that waited for that go on.
    pub(super) fn multiplex_flushed(&mut self, id: ClientId) {
        self.clients[id].clear_deadline(&mut self.timers, id);
        let Some(multiplex) = self.clients[id].multiplex.as_mut() else {
            return;
        };
        if std::mem::take(&mut multiplex.has_blocked) {
            for lane in self.lanes_in_order(id) {
                // One that was told before may have ended this one.
                let Some((_, stream)) = self.lane_of(lane).filter(|(of, _)| *of == id) else {
                    continue;
                };
                let Some(multiplex) = self.clients[id].multiplex.as_mut() else {
                    return;
                };
                if multiplex.out.len() > BACKLOG_BYTES_MAX {
                    // What comes behind waits once more.
                    multiplex.has_blocked = true;
                    break;
                }
                let mut was_blocked = false;
                self.with_lane(lane, |lane| {
                    was_blocked = std::mem::take(&mut lane.blocked);
                });
                if !was_blocked || !self.clients[lane].output.is_empty() {
                    continue;
                }
                if !self.clients[lane].write.is_awaited() {
                    self.wake_backend_of(lane);
                    continue;
                }
                if let Some(multiplex) = self.clients[id].multiplex.as_mut() {
                    multiplex.h2.had_turn(stream);
                }
                self.lane_flushed(lane, true);
            }
        }
        if self.clients.contains(id) {
            self.rest_if_idle(id);
            self.watch_head_anew(id);
        }
    }

    /// Its response had not begun: it may have come meanwhile, but no time begins anew.
    fn wake_backend_of(&mut self, lane: ClientId) {
        let exchange = self.clients[lane].exchange;
        if let Some(upstream) = exchange.and_then(|it| self.exchanges[it].upstream()) {
            self.wake_upstream(upstream);
        }
    }

    /// The lanes of a connection, as what they have is to be sent.
    fn lanes_in_order(&mut self, id: ClientId) -> Vec<ClientId> {
        let lanes = self.clients[id]
            .multiplex
            .as_ref()
            .map_or_else(Vec::new, |multiplex| multiplex.lanes.clone());
        let mut placed: Vec<_> = lanes
            .into_iter()
            .filter_map(|lane| {
                let (_, stream) = self.lane_of(lane)?;
                let multiplex = self.clients[id].multiplex.as_mut()?;
                Some((multiplex.h2.place(stream), lane))
            })
            .collect();
        placed.sort_unstable();
        placed.into_iter().map(|(_, lane)| lane).collect()
    }
}
