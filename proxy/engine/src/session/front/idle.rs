//! The idle list of a listener: kept-alive connections without a request, longest idle first.
//!
//! An intrusive doubly linked list through the arena, so that linking and unlinking at every request
//! cost a few stores. Eviction when full takes the longest idle one that really is idle: a client that
//! has just connected, or has just been answered, is about to send its request, or has sent it already.
//!
//! Rule: whoever links need not know whether a connection is in the list. Neighbours have to agree; where
//! they do not, the list is dropped as a whole, and the connections in it end by their own deadlines.

use std::rc::Rc;

use crate::runtime::driver::Driver;
use crate::session::engine::Engine;
use crate::session::front::client::{Client, Phase};
use crate::session::ids::ClientId;
use crate::state::listener::Listener;
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
    pub(super) fn link_idle(&mut self, id: ClientId) {
        self.unlink_idle(id);
        let listener = self.clients[id].listener.clone();
        let (oldest, youngest) = ends_of(&listener);
        let client = &mut self.clients[id];
        client.idle_since_ms = self.clock.ms();
        client.older = youngest;
        client.younger = None;
        match youngest.and_then(|it| self.clients.get_mut(it)) {
            Some(neighbour) => {
                neighbour.younger = Some(id);
                set_ends(&listener, oldest, Some(id));
            }
            None => set_ends(&listener, Some(id), Some(id)),
        }
    }

    /// Takes a connection out, if it is in.
    pub(in crate::session) fn unlink_idle(&mut self, id: ClientId) {
        if !self.is_linked(id) {
            return;
        }
        let client = &mut self.clients[id];
        let (older, younger) = (client.older, client.younger);
        client.older = None;
        client.younger = None;
        let listener = client.listener.clone();
        let (mut oldest, mut youngest) = ends_of(&listener);
        let is_older = |it: &&mut Client| it.younger == Some(id);
        let is_younger = |it: &&mut Client| it.older == Some(id);
        match older {
            None => oldest = younger,
            Some(it) => match self.clients.get_mut(it).filter(is_older) {
                Some(neighbour) => neighbour.younger = younger,
                None => return self.drop_idle_list(&listener),
            },
        }
        match younger {
            None => youngest = older,
            Some(it) => match self.clients.get_mut(it).filter(is_younger) {
                Some(neighbour) => neighbour.older = older,
                None => return self.drop_idle_list(&listener),
            },
        }
        set_ends(&listener, oldest, youngest);
    }

    /// Nobody is in the list any more: it had become one that leads nowhere.
    fn drop_idle_list(&mut self, listener: &Rc<Listener>) {
        for client in self.clients.values_mut() {
            if Rc::ptr_eq(&client.listener, listener) {
                client.older = None;
                client.younger = None;
            }
        }
        set_ends(listener, None, None);
    }

    /// The longest idle connection of a listener.
    pub(in crate::session) fn oldest_idle(&mut self, listener: &Rc<Listener>) -> Option<ClientId> {
        let (oldest, _) = ends_of(listener);
        let is_there = oldest.is_none_or(|it| self.clients.contains(it));
        if !is_there {
            self.drop_idle_list(listener);
        }
        oldest.filter(|_| is_there)
    }

    /// Closes the longest idle connection of a listener; `false` if none is idle.
    pub(super) fn evict_idle(&mut self, listener: &Rc<Listener>) -> bool {
        let mut candidate = self.oldest_idle(listener);
        for _ in 0..EVICTION_LOOKS_MAX {
            let Some(id) = candidate else {
                return false;
            };
            if self.is_evictable(id) {
                self.metrics.add(Counter::EvictedIdleTotal, 1);
                self.close_client(id);
                return true;
            }
            let younger = self.clients[id].younger;
            candidate = younger.filter(|&younger| self.clients.contains(younger));
        }
        false
    }

    fn is_evictable(&self, id: ClientId) -> bool {
        self.rest_ms(id) == 0 && self.clients[id].stream.is_quiet()
    }

    /// For how long the next request of an idle connection may still be on its way.
    fn rest_ms(&self, id: ClientId) -> u64 {
        let client = &self.clients[id];
        let least_ms = match client.phase {
            Phase::Handshake => HANDSHAKE_IDLE_MS_MIN,
            _ if client.served => KEPT_IDLE_MS_MIN,
            _ => FRESH_IDLE_MS_MIN,
        };
        let idle_ms = self.clock.ms().saturating_sub(client.idle_since_ms);
        least_ms.saturating_sub(idle_ms)
    }

    fn is_linked(&self, id: ClientId) -> bool {
        let client = &self.clients[id];
        client.older.is_some()
            || client.younger.is_some()
            || ends_of(&client.listener) == (Some(id), Some(id))
    }
}

/// The longest idle connection of a listener, and the most recently idle one.
fn ends_of(listener: &Listener) -> (Option<ClientId>, Option<ClientId>) {
    let (oldest, youngest) = listener.idle.get();
    (ClientId::of(oldest), ClientId::of(youngest))
}

fn set_ends(listener: &Listener, oldest: Option<ClientId>, youngest: Option<ClientId>) {
    let token = |id: Option<ClientId>| id.map_or(0, ClientId::token);
    listener.idle.set((token(oldest), token(youngest)));
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::runtime::epoll::Epoll;
    use crate::session::front::ending::LEAVE_MS;
    use crate::session::testing::{Door, engine_with_clients};

    /// The list, the longest idle first; it leads the same way back.
    fn listed(engine: &Engine<Epoll>, listener: &Listener) -> Vec<ClientId> {
        let (oldest, youngest) = ends_of(listener);
        let mut found = Vec::new();
        let (mut next, mut before) = (oldest, None);
        while let Some(at) = next {
            let client = &engine.clients[at];
            assert_eq!(client.older, before);
            assert!(
                found.len() < engine.clients.len(),
                "it goes round and round"
            );
            found.push(at);
            (before, next) = (Some(at), client.younger);
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
        for id in clients.clone() {
            engine.client_flushed(id);
            engine.client_flushed(id);
            assert_eq!(listed(&engine, &listener).len(), 3);
        }
        engine.link_idle(clients[0]);
        assert_eq!(
            listed(&engine, &listener),
            [clients[1], clients[2], clients[0]]
        );
        for id in clients {
            engine.close_client(id);
        }
        assert_eq!(listener.idle.get(), (0, 0));
    }

    /// Its next request may be on the way: a close now would be the answer to it.
    #[test]
    fn who_is_idle_is_left_in_good_order() {
        let Door {
            mut engine,
            listener,
            clients,
            mut peers,
        } = engine_with_clients(2);
        engine.begin_shutdown(Duration::from_secs(10));
        assert_eq!(engine.clients.len(), 2);
        assert_eq!(listener.idle.get(), (0, 0), "no longer seen to");
        thread::sleep(Duration::from_millis(LEAVE_MS + 20));
        engine.clock.tick();
        engine.run_timers();
        assert_eq!(engine.clients.len(), 2, "what crosses the end is no fault");
        for peer in &mut peers {
            assert_eq!(peer.read(&mut [0]).unwrap(), 0, "it is told");
        }
        // Who is only listened to gives way to a fresh client.
        thread::sleep(Duration::from_millis(KEPT_IDLE_MS_MIN + FRESH_IDLE_MS_MIN));
        engine.clock.tick();
        assert!(engine.evict_idle(&listener));
        assert!(!engine.clients.contains(clients[0]));
        engine.close_client(clients[1]);
        assert_eq!(listener.idle.get(), (0, 0));
    }

    /// Its time is over in the turn in which its request has come, of which nobody has been told yet.
    #[test]
    fn a_request_that_is_here_is_answered_however_late_it_is() {
        let Door {
            mut engine,
            clients,
            mut peers,
            ..
        } = engine_with_clients(2);
        peers[0]
            .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            .unwrap();
        for &id in &clients {
            engine.await_client_for(id, 0);
        }
        engine.clock.tick();
        engine.run_timers();
        while engine.turn_by_hand().unwrap() {}
        let mut answer = [0; 12];
        peers[0].read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 404");
        assert_eq!(
            peers[1].read(&mut [0]).unwrap(),
            0,
            "who sent nothing is left"
        );
    }

    #[test]
    fn a_list_that_leads_nowhere_costs_no_worker() {
        for broken in [None, Some(0), Some(1)] {
            let Door {
                mut engine,
                listener,
                clients,
                ..
            } = engine_with_clients(3);
            let nobody = engine.clients.vacant().id();
            let broken = broken.map_or(nobody, |at: usize| clients[at]);
            engine.clients[clients[1]].older = Some(broken);
            engine.clients[clients[1]].younger = Some(broken);
            for &id in &clients {
                engine.unlink_idle(id);
                engine.link_idle(id);
            }
            // Some are in no list any more, and all is in order again.
            assert!(!listed(&engine, &listener).is_empty());
            set_ends(&listener, Some(nobody), Some(nobody));
            assert!(!engine.evict_idle(&listener));
            for id in clients {
                engine.close_client(id);
            }
            assert_eq!(listener.idle.get(), (0, 0));
        }
    }
}
