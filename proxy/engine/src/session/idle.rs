//! The idle list of a listener: kept-alive connections without a request, longest idle first.
//!
//! An intrusive doubly linked list through the slab, so that linking and unlinking at every request
//! cost a few stores. Eviction when full takes the longest idle one that really is idle: a client that
//! has just connected, or has just been answered, is about to send its request, or has sent it already.

use super::Engine;
use super::client::Phase;
use crate::runtime::driver::Driver;
use crate::state::listener::{Listener, NOBODY};
use crate::telemetry::names::Counter;

/// A client that keeps sending has its next request here within this time.
const KEPT_IDLE_MS_MIN: u64 = 20;
/// The first request comes right behind the connection, over a long way too.
const FRESH_IDLE_MS_MIN: u64 = 250;
/// A handshake goes back and forth before the first request.
const HANDSHAKE_IDLE_MS_MIN: u64 = 1000;
/// How far an eviction looks before it gives up; a newcomer is refused then.
const EVICTION_LOOKS_MAX: usize = 8;

impl<D: Driver> Engine<D> {
    /// Appends a connection as the most recently idle one.
    pub(super) fn link_idle(&mut self, index: usize) {
        let listener = self.clients[index].listener.clone();
        let (oldest, youngest) = listener.idle.get();
        let this = index as u32;
        self.clients[index].idle_since_ms = self.clock.ms();
        debug_assert!(!self.is_linked(index));
        self.clients[index].older = youngest;
        self.clients[index].younger = NOBODY;
        if youngest == NOBODY {
            listener.idle.set((this, this));
        } else {
            self.clients[youngest as usize].younger = this;
            listener.idle.set((oldest, this));
        }
    }

    /// Takes a connection out, if it is in.
    pub(super) fn unlink_idle(&mut self, index: usize) {
        if !self.is_linked(index) {
            return;
        }
        let client = &mut self.clients[index];
        let (older, younger) = (client.older, client.younger);
        client.older = NOBODY;
        client.younger = NOBODY;
        let listener = client.listener.clone();
        let (mut oldest, mut youngest) = listener.idle.get();
        if older == NOBODY {
            oldest = younger;
        } else {
            self.clients[older as usize].younger = younger;
        }
        if younger == NOBODY {
            youngest = older;
        } else {
            self.clients[younger as usize].older = older;
        }
        listener.idle.set((oldest, youngest));
    }

    /// Closes the longest idle connection of a listener; `false` if none is idle.
    pub(super) fn evict_idle(&mut self, listener: &Listener) -> bool {
        let (mut candidate, _) = listener.idle.get();
        for _ in 0..EVICTION_LOOKS_MAX {
            if candidate == NOBODY {
                return false;
            }
            if self.is_evictable(candidate as usize) {
                self.metrics.add(Counter::EvictedIdleTotal, 1);
                self.close_client(candidate as usize);
                return true;
            }
            candidate = self.clients[candidate as usize].younger;
        }
        false
    }

    fn is_evictable(&self, index: usize) -> bool {
        let client = &self.clients[index];
        let least_ms = match client.phase {
            Phase::Handshake => HANDSHAKE_IDLE_MS_MIN,
            _ if client.served => KEPT_IDLE_MS_MIN,
            _ => FRESH_IDLE_MS_MIN,
        };
        let idle_ms = self.clock.ms().saturating_sub(client.idle_since_ms);
        idle_ms >= least_ms && client.stream.is_quiet()
    }

    fn is_linked(&self, index: usize) -> bool {
        let client = &self.clients[index];
        client.older != NOBODY
            || client.younger != NOBODY
            || client.listener.idle.get() == (index as u32, index as u32)
    }
}
