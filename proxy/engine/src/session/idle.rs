//! The idle list of a listener: kept-alive connections without a request, longest idle first.
//!
//! An intrusive doubly linked list through the slab, so that linking and unlinking at every request
//! cost a few stores. Eviction when full takes its head.

use super::Engine;
use crate::runtime::driver::Driver;
use crate::state::listener::{Listener, NOBODY};
use crate::telemetry::names::Counter;

impl<D: Driver> Engine<D> {
    /// Appends a connection as the most recently idle one.
    pub(super) fn link_idle(&mut self, index: usize) {
        let listener = self.clients[index].listener.clone();
        let (oldest, youngest) = listener.idle.get();
        let this = index as u32;
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
        let (oldest, _) = listener.idle.get();
        if oldest == NOBODY {
            return false;
        }
        self.metrics.add(Counter::EvictedIdleTotal, 1);
        self.close_client(oldest as usize);
        true
    }

    fn is_linked(&self, index: usize) -> bool {
        let client = &self.clients[index];
        client.older != NOBODY
            || client.younger != NOBODY
            || client.listener.idle.get() == (index as u32, index as u32)
    }
}
