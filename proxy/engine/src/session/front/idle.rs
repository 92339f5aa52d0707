//! The idle list of a listener: kept-alive connections without a request, longest idle first.
//!
//! An intrusive doubly linked list through the slab, so that linking and unlinking at every request
//! cost a few stores. Eviction when full takes the longest idle one that really is idle: a client that
//! has just connected, or has just been answered, is about to send its request, or has sent it already.
//!
//! Rule: whoever links need not know whether a connection is in the list. Neighbours have to agree; where
//! they do not, the list is dropped as a whole, and the connections in it end by their own deadlines.

use std::rc::Rc;

use crate::runtime::driver::Driver;
use crate::session::engine::Engine;
use crate::session::front::client::{Client, Phase};
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
    /// Appends a connection as the most recently idle one, wherever in the list it was before.
    pub(super) fn link_idle(&mut self, index: usize) {
        self.unlink_idle(index);
        let listener = self.clients[index].listener.clone();
        let (oldest, youngest) = listener.idle.get();
        let this = index as u32;
        self.clients[index].idle_since_ms = self.clock.ms();
        self.clients[index].older = youngest;
        self.clients[index].younger = NOBODY;
        match self.clients.get_mut(youngest as usize) {
            Some(neighbour) => {
                neighbour.younger = this;
                listener.idle.set((oldest, this));
            }
            None => listener.idle.set((this, this)),
        }
    }

    /// Takes a connection out, if it is in.
    pub(in crate::session) fn unlink_idle(&mut self, index: usize) {
        if !self.is_linked(index) {
            return;
        }
        let client = &mut self.clients[index];
        let (older, younger) = (client.older, client.younger);
        client.older = NOBODY;
        client.younger = NOBODY;
        let listener = client.listener.clone();
        let (mut oldest, mut youngest) = listener.idle.get();
        let this = index as u32;
        let is_older = |it: &&mut Client| it.younger == this;
        let is_younger = |it: &&mut Client| it.older == this;
        if older == NOBODY {
            oldest = younger;
        } else if let Some(it) = self.clients.get_mut(older as usize).filter(is_older) {
            it.younger = younger;
        } else {
            return self.drop_idle_list(&listener);
        }
        if younger == NOBODY {
            youngest = older;
        } else if let Some(it) = self.clients.get_mut(younger as usize).filter(is_younger) {
            it.older = older;
        } else {
            return self.drop_idle_list(&listener);
        }
        listener.idle.set((oldest, youngest));
    }

    /// Nobody is in the list any more: it had become one that leads nowhere.
    fn drop_idle_list(&mut self, listener: &Rc<Listener>) {
        for (_, client) in &mut self.clients {
            if Rc::ptr_eq(&client.listener, listener) {
                client.older = NOBODY;
                client.younger = NOBODY;
            }
        }
        listener.idle.set((NOBODY, NOBODY));
    }

    /// The longest idle connection of a listener.
    pub(in crate::session) fn oldest_idle(&mut self, listener: &Rc<Listener>) -> Option<usize> {
        let (oldest, _) = listener.idle.get();
        if oldest == NOBODY {
            return None;
        }
        if !self.clients.contains(oldest as usize) {
            self.drop_idle_list(listener);
            return None;
        }
        Some(oldest as usize)
    }

    /// Closes the longest idle connection of a listener; `false` if none is idle.
    pub(super) fn evict_idle(&mut self, listener: &Rc<Listener>) -> bool {
        let mut candidate = self.oldest_idle(listener);
        for _ in 0..EVICTION_LOOKS_MAX {
            let Some(index) = candidate else {
                return false;
            };
            if self.is_evictable(index) {
                self.metrics.add(Counter::EvictedIdleTotal, 1);
                self.close_client(index);
                return true;
            }
            let younger = self.clients[index].younger as usize;
            candidate = Some(younger).filter(|&younger| self.clients.contains(younger));
        }
        false
    }

    fn is_evictable(&self, index: usize) -> bool {
        self.rest_ms(index) == 0 && self.clients[index].stream.is_quiet()
    }

    /// For how long the next request of an idle connection may still be on its way.
    pub(in crate::session) fn rest_ms(&self, index: usize) -> u64 {
        let client = &self.clients[index];
        let least_ms = match client.phase {
            Phase::Handshake => HANDSHAKE_IDLE_MS_MIN,
            _ if client.served => KEPT_IDLE_MS_MIN,
            _ => FRESH_IDLE_MS_MIN,
        };
        let idle_ms = self.clock.ms().saturating_sub(client.idle_since_ms);
        least_ms.saturating_sub(idle_ms)
    }

    fn is_linked(&self, index: usize) -> bool {
        let client = &self.clients[index];
        client.older != NOBODY
            || client.younger != NOBODY
            || client.listener.idle.get() == (index as u32, index as u32)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::runtime::epoll::Epoll;
    use crate::session::testing::{Door, engine_with_clients};

    /// The list, the longest idle first; it leads the same way back.
    fn listed(engine: &Engine<Epoll>, listener: &Listener) -> Vec<usize> {
        let (oldest, youngest) = listener.idle.get();
        let mut found = Vec::new();
        let (mut at, mut before) = (oldest, NOBODY);
        while at != NOBODY {
            let client = &engine.clients[at as usize];
            assert_eq!(client.older, before);
            assert!(
                found.len() < engine.clients.len(),
                "it goes round and round"
            );
            found.push(at as usize);
            (before, at) = (at, client.younger);
        }
        assert_eq!(youngest, before);
        found
    }

    /// A record of TLS met a full socket while the connection was idle: it is told twice that
    /// everything has gone.
    #[test]
    fn a_connection_that_is_linked_again_is_in_the_list_once() {
        let Door {
            mut engine,
            listener,
            clients,
            ..
        } = engine_with_clients(3);
        assert_eq!(listed(&engine, &listener), clients);
        for index in clients.clone() {
            engine.client_flushed(index);
            engine.client_flushed(index);
            assert_eq!(listed(&engine, &listener).len(), 3);
        }
        engine.link_idle(clients[0]);
        assert_eq!(
            listed(&engine, &listener),
            [clients[1], clients[2], clients[0]]
        );
        for index in clients {
            engine.close_client(index);
        }
        assert_eq!(listener.idle.get(), (NOBODY, NOBODY));
    }

    /// Its first request may be on the way: a close now would be the answer to it.
    #[test]
    fn who_has_just_connected_is_not_left_at_once() {
        let Door {
            mut engine,
            listener,
            clients,
            // They stay open.
            peers: _peers,
        } = engine_with_clients(2);
        thread::sleep(Duration::from_millis(FRESH_IDLE_MS_MIN + 20));
        engine.clock.tick();
        engine.link_idle(clients[1]);
        engine.begin_shutdown(Duration::from_secs(10));
        assert!(!engine.clients.contains(clients[0]), "it came long ago");
        assert!(engine.clients.contains(clients[1]));
        assert_eq!(listener.idle.get(), (NOBODY, NOBODY), "no longer seen to");
        thread::sleep(Duration::from_millis(FRESH_IDLE_MS_MIN + 20));
        engine.clock.tick();
        engine.run_timers();
        assert!(!engine.clients.contains(clients[1]), "nothing has come");
    }

    #[test]
    fn a_list_that_leads_nowhere_costs_no_worker() {
        for broken in [1_000_000, 0, 1] {
            let Door {
                mut engine,
                listener,
                clients,
                ..
            } = engine_with_clients(3);
            engine.clients[clients[1]].older = broken;
            engine.clients[clients[1]].younger = broken;
            for &index in &clients {
                engine.unlink_idle(index);
                engine.link_idle(index);
            }
            // Some are in no list any more, and all is in order again.
            assert!(!listed(&engine, &listener).is_empty());
            listener.idle.set((1_000_000, 1_000_000));
            assert!(!engine.evict_idle(&listener));
            for index in clients {
                engine.close_client(index);
            }
            assert_eq!(listener.idle.get(), (NOBODY, NOBODY));
        }
    }
}
