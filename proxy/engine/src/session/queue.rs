//! Whose turn it is: connections with work left over, handshakes and large transfers, which take much.
//!
//! Rule: what was left over comes once a turn, only as much as there was. Large transfers take turns by
//! bytes: one read each, round and round, and so many bytes in a turn of the loop; so those beside them
//! that have little to say wait for no more than that, however many they are. A handshake costs as much as
//! hundreds of requests, so that those of a turn get so much time together, and the rest waits for the
//! next one, first come, first served; while too many wait, new connections do so in the kernel's queue.
//! Whoever has a request meanwhile waits for no more than [`HANDSHAKES_US_PER_TURN`] and the one that is
//! being made. Called by the loop, and by who drives a connection (`client`, `upstream`).

use crate::runtime::driver::{Driver, Token};
use crate::session::back::upstream::Link;
use crate::session::engine::Engine;
use crate::session::front::client::Phase;
use crate::session::ids::{ClientId, Owner, UpstreamId};

/// Time for handshakes in one turn. One that has been begun is not interrupted.
const HANDSHAKES_US_PER_TURN: u64 = 1000;

/// Handshakes that wait beyond which no connection over TLS is accepted.
const HANDSHAKES_WAITING_MAX: usize = 256;

/// Bytes that large transfers may bring, or be sent of what waited, in one turn: some 200 µs of it. Whoever exceeds
/// it may have passed on as much as [`plain`](super::plain) says.
const BULK_BYTES_PER_TURN: usize = 512 * 1024;

/// Large transfers that get their turn in one of the loop, at most.
const BULK_DRIVES_PER_TURN: usize = 64;

/// Who brings less at once is not in a hurry, and has not been.
const BULK_READ_BYTES_MIN: usize = 16 * 1024;

/// A transfer is large from here on.
const BULK_BYTES_MIN: usize = 128 * 1024;

/// What a connection has brought in reads that were worth it, one after the other.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bulk(u32);

impl Bulk {
    /// Takes note of a read.
    #[inline]
    pub(super) fn brought(&mut self, bytes: usize) {
        self.0 = match bytes < BULK_READ_BYTES_MIN {
            true => 0,
            false => self
                .0
                .saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX)),
        };
    }

    /// Whether it is a large transfer, which waits for its turn.
    #[inline]
    pub(super) fn is_large(self) -> bool {
        self.0 as usize >= BULK_BYTES_MIN
    }
}

impl<D: Driver> Engine<D> {
    /// What is left over of former turns.
    pub(super) fn drive_left_over(&mut self, count: usize) {
        for _ in 0..count {
            let Some(token) = self.ready.pop_front() else {
                return;
            };
            self.drive(token);
        }
    }

    /// A turn's share of the large transfers.
    pub(super) fn drive_bulk(&mut self) {
        self.bulk_bytes = 0;
        // Round and round while there is time; some may have nothing to read.
        for _ in 0..BULK_DRIVES_PER_TURN {
            if self.bulk_bytes >= BULK_BYTES_PER_TURN {
                return;
            }
            let Some(token) = self.bulk.pop_front() else {
                return;
            };
            self.drive(token);
        }
    }

    /// Puts the sending of much that waits off, to the client's turn.
    pub(super) fn puts_client_flush_off(&mut self, id: ClientId) -> bool {
        let client = &mut self.clients[id];
        if client.output.len() < BULK_READ_BYTES_MIN {
            return false;
        }
        client.flush_waits = true;
        if !std::mem::replace(&mut client.queued, true) {
            self.bulk.push_back(id.token());
        }
        true
    }

    /// See [`Engine::puts_client_flush_off`], of an upload.
    pub(super) fn puts_upstream_flush_off(&mut self, id: UpstreamId) -> bool {
        let upstream = &mut self.upstreams[id];
        if upstream.output.len() < BULK_READ_BYTES_MIN {
            return false;
        }
        upstream.flush_waits = true;
        if !std::mem::replace(&mut upstream.queued, true) {
            self.bulk.push_back(id.token());
        }
        true
    }

    /// Queues a connection to be driven.
    pub(super) fn queue(&mut self, token: Token, bulk: Bulk) {
        match bulk.is_large() {
            true => self.bulk.push_back(token),
            false => self.ready.push_back(token),
        }
    }

    /// A turn's share of the handshakes.
    pub(super) fn drive_handshakes(&mut self) {
        if self.handshakes.is_empty() {
            return;
        }
        let until_us = self.clock.us_now() + HANDSHAKES_US_PER_TURN;
        self.shakes_hands = true;
        for _ in 0..self.handshakes.len() {
            let Some(token) = self.handshakes.pop_front() else {
                break;
            };
            self.drive(token);
            if self.clock.us_now() >= until_us {
                break;
            }
        }
        self.shakes_hands = false;
    }

    fn drive(&mut self, token: Token) {
        self.at_work = token;
        match Owner::of(token) {
            Owner::Client(id) => {
                let Some(client) = self.clients.get_mut(id) else {
                    return;
                };
                client.queued = false;
                let flushes = std::mem::take(&mut client.flush_waits) && !client.is_flushed();
                if !flushes || self.flush_client(id).lives() {
                    self.drive_client(id);
                }
            }
            Owner::Stream(id) => {
                if let Some(stream) = self.streams.get_mut(id) {
                    stream.queued = false;
                    self.drive_stream(id);
                }
            }
            Owner::Upstream(id) => {
                let Some(upstream) = self.upstreams.get_mut(id) else {
                    return;
                };
                upstream.queued = false;
                if std::mem::take(&mut upstream.flush_waits) && !upstream.is_flushed() {
                    self.flush_upstream(id);
                }
                if self.upstreams.contains(id) {
                    self.drive_upstream(id);
                }
            }
            Owner::BackStream(id) => {
                if let Some(stream) = self.back_streams.get_mut(id) {
                    stream.queued = false;
                    self.drive_back_stream(id);
                }
            }
            Owner::Call(id) => self.drive_call(id),
            Owner::Engine | Owner::Listener(_) | Owner::Exchange(_) | Owner::Nobody => {}
        }
    }

    /// Whether so many handshakes wait that there should be no more of them.
    pub(super) fn has_hands_full(&self) -> bool {
        self.handshakes.len() >= HANDSHAKES_WAITING_MAX
    }

    /// Puts a handshake of a client off, unless it is its turn.
    pub(super) fn puts_client_off(&mut self, id: ClientId) -> bool {
        let client = &mut self.clients[id];
        if self.shakes_hands || !matches!(client.phase, Phase::Handshake | Phase::Hello) {
            return false;
        }
        if !std::mem::replace(&mut client.queued, true) {
            self.handshakes.push_back(id.token());
        }
        true
    }

    /// Puts a handshake with a backend off, unless it is its turn.
    pub(super) fn puts_upstream_off(&mut self, id: UpstreamId) -> bool {
        let upstream = &mut self.upstreams[id];
        if self.shakes_hands || upstream.link != Link::Securing {
            return false;
        }
        if !std::mem::replace(&mut upstream.queued, true) {
            self.handshakes.push_back(id.token());
        }
        true
    }
}
