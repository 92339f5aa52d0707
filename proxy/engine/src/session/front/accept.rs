//! The door: accepting connections, and what happens when the house is full.
//!
//! Rule: a fresh client is served as long as any kept-alive connection is idle, the longest idle one
//! gives way. Only when every connection has a request in flight is a newcomer refused: at once, by
//! a 503, and counted. HAProxy lets it hang in the backlog there.

use std::io;
use std::rc::Rc;

use crate::runtime::driver::Driver;
use crate::runtime::socket;
use crate::session::engine::Engine;
use crate::session::front::asker::Asker;
use crate::session::front::client::Phase;
use crate::session::ids::{ClientId, RESUME_ACCEPT};
use crate::session::plain::Plain;
use crate::session::transport::Transport;
use crate::state::listener::Listener;
use crate::telemetry::names::Counter;

/// Connections accepted of one listener in one turn, at most, in quarters as [`Listener::accepts`] is.
const ACCEPTS_PER_TURN_MAX: u32 = 4 * 64;
/// Refused connections that are held until they have read their 503; more are just closed.
const REFUSED_MAX: usize = 256;
/// Pause after descriptors ran out and nothing could be evicted.
const ACCEPT_PAUSE_MS: u64 = 100;
/// Idle connections that give way to one that comes: one, but where a limit has been lowered.
const EVICTIONS_PER_CLIENT_MAX: u32 = 8;

impl<D: Driver> Engine<D> {
    /// Accepts what waits at a listener, a turn's share of it: as many as there were when nobody was left
    /// last, and a quarter more each time that they came. To hear that nobody else is there costs a call as
    /// well, which would be every second one where connections come one by one; whoever is left behind is
    /// told of by the next turn.
    pub(in crate::session) fn accept_clients(&mut self, listener: &Rc<Listener>) {
        let quarters = listener.accepts.get();
        for accepted in 0..quarters / 4 {
            if self.has_hands_full() && listener.settings().tls.is_some() {
                return;
            }
            if !self.accept_client(listener) {
                return listener.accepts.set(4 * accepted.max(1));
            }
        }
        let more = quarters + (quarters / 4).max(1);
        listener.accepts.set(more.min(ACCEPTS_PER_TURN_MAX));
    }

    /// Accepts everything that waits at a listener that is about to close, so that nobody who got
    /// through the handshake is reset.
    pub(in crate::session) fn accept_rest(&mut self, listener: &Rc<Listener>) {
        while self.accept_client(listener) {}
    }

    fn accept_client(&mut self, listener: &Rc<Listener>) -> bool {
        let Some(fd) = listener.raw_socket() else {
            return false;
        };
        let (stream, peer) = match socket::accept(fd) {
            Ok(accepted) => accepted,
            Err(error) => return self.accept_failed(listener, &error),
        };
        self.metrics.add(Counter::ConnectionsAcceptedTotal, 1);
        let admitted = self.make_room(listener);
        if !admitted {
            self.metrics.add(Counter::RefusedConnectionsTotal, 1);
            if self.refused_now >= REFUSED_MAX {
                return true;
            }
            self.refused_now += 1;
        }
        let settings = listener.settings();
        let stream = match &settings.tls {
            // There are no words for that.
            None if !admitted && settings.entity.protocol.is_bytes() => {
                self.refused_now -= 1;
                return true;
            }
            None => Transport::Plain(Plain::new(stream)),
            // A 503 would cost a handshake, which is what there is no room for.
            Some(_) if !admitted => {
                self.refused_now -= 1;
                return true;
            }
            Some(tls) => match Transport::accept_tls(stream, tls.usual.clone()) {
                Ok(stream) => stream,
                Err(_) => return true,
            },
        };
        match self.insert_client(stream, peer, listener.clone(), !admitted) {
            Some(id) if admitted && listener.settings().introduces(peer.ip()) => {
                self.await_preamble(id);
            }
            Some(id) if admitted => self.open_client(id),
            Some(id) => self.turn_away(Asker::Connection(id)),
            None if !admitted => self.refused_now -= 1,
            None => {}
        }
        true
    }

    /// What comes is the client's own: a handshake or a request.
    pub(super) fn open_client(&mut self, id: ClientId) {
        let client = &self.clients[id];
        let is_bytes = client.listener.settings().entity.protocol.is_bytes();
        if client.stream.tls().is_none() && is_bytes {
            self.open_bytes(id);
        } else if client.stream.tls().is_none() {
            self.await_request(id);
        } else if is_bytes || client.listener.routes.depend_on_hello() {
            self.await_opening(id, Phase::Hello);
        } else {
            self.await_opening(id, Phase::Handshake);
        }
    }

    /// What comes before the first request has the time of a request head, and the connection gives way
    /// like any without a request.
    pub(in crate::session) fn await_opening(&mut self, id: ClientId, phase: Phase) {
        let client = &mut self.clients[id];
        client.phase = phase;
        let limit = client.listener.settings().entity.timeouts.request_head;
        self.await_client_for(id, limit);
        self.link_idle(id);
    }

    /// Whether so much waits for peers that nothing more is begun.
    pub(in crate::session) fn is_short_of_memory(&self) -> bool {
        self.pool.queued_bytes() as u64 >= self.tables.settings.max_buffered_bytes
    }

    /// Whether it is time to read in small pieces: what is read may have to wait.
    pub(in crate::session) fn is_saving_memory(&self) -> bool {
        self.pool.queued_bytes() as u64 >= self.tables.settings.max_buffered_bytes / 2
    }

    /// Whether one more connection is admitted, if need be in place of an idle one: of several, where a limit has
    /// been lowered, so that it is come to.
    fn make_room(&mut self, listener: &Rc<Listener>) -> bool {
        let most = listener.settings().entity.limits.connections;
        for _ in 0..EVICTIONS_PER_CLIENT_MAX {
            if listener.connections.get() < most {
                break;
            }
            if !self.evict_idle(listener) {
                return false;
            }
        }
        for _ in 0..EVICTIONS_PER_CLIENT_MAX {
            let admitted = self.clients.len() - self.refused_now;
            if admitted < self.tables.settings.max_connections as usize {
                break;
            }
            if !self.evict_idle_anywhere(listener) {
                return false;
            }
        }
        true
    }

    /// Evicts at the same listener first, then at any.
    fn evict_idle_anywhere(&mut self, first: &Rc<Listener>) -> bool {
        if self.evict_idle(first) {
            return true;
        }
        let others: Vec<_> = self.tables.running.listeners.values().cloned().collect();
        others.iter().any(|listener| self.evict_idle(listener))
    }

    /// Says whether to go on accepting.
    fn accept_failed(&mut self, listener: &Rc<Listener>, error: &io::Error) -> bool {
        match error.raw_os_error() {
            Some(libc::EAGAIN) => false,
            // accept(2): errors of the new connection itself; the next one may be fine.
            Some(
                libc::ECONNABORTED
                | libc::EINTR
                | libc::EPROTO
                | libc::ENETDOWN
                | libc::ENOPROTOOPT
                | libc::EHOSTDOWN
                | libc::EHOSTUNREACH
                | libc::ENETUNREACH,
            ) => true,
            _ => {
                self.metrics.add(Counter::AcceptErrorsTotal, 1);
                // Out of descriptors or memory: an idle connection gives way, or accepting pauses
                // (the listener stays readable and would spin the loop).
                if !self.evict_idle_anywhere(listener) && !self.accept_paused {
                    self.pause_accepting();
                }
                false
            }
        }
    }

    fn pause_accepting(&mut self) {
        self.accept_paused = true;
        self.accepting.clear();
        for listener in self.tables.running.listeners.values() {
            if let Some(fd) = listener.raw_socket() {
                let _ = self.driver.unwatch(fd);
            }
        }
        self.timers
            .queue_check(RESUME_ACCEPT, self.clock.ms() + ACCEPT_PAUSE_MS);
    }

    pub(in crate::session) fn resume_accepting(&mut self) {
        self.accept_paused = false;
        let listeners: Vec<_> = self.tables.running.listeners.values().cloned().collect();
        for listener in listeners {
            self.watch_listener(&listener);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;
    use crate::runtime::socket::duplicate;
    use crate::session::testing::{Door, engine_with_clients};

    fn connect(listener: &Listener, count: usize) -> Vec<TcpStream> {
        (0..count)
            .map(|_| TcpStream::connect(listener.address).unwrap())
            .collect()
    }

    #[test]
    fn connections_send_at_once_as_their_listener_does() {
        let Door {
            mut engine,
            listener,
            ..
        } = engine_with_clients(0);
        engine.watch_listener(&listener);
        let _peers = connect(&listener, 1);
        engine.accept_clients(&listener);
        let (_, client) = engine.clients.iter().next().unwrap();
        let copy = duplicate(client.stream.raw().unwrap()).unwrap();
        assert!(TcpStream::from(copy).nodelay().unwrap());
    }

    #[test]
    fn a_turn_accepts_about_as_many_as_come_and_leaves_nobody_behind() {
        let Door {
            mut engine,
            listener,
            ..
        } = engine_with_clients(0);
        let mut accepted_in_turns = |peers: Vec<TcpStream>, turns: usize| {
            let before = engine.metrics.get(Counter::ConnectionsAcceptedTotal);
            for _ in 0..turns {
                engine.accept_clients(&listener);
            }
            drop(peers);
            engine.metrics.get(Counter::ConnectionsAcceptedTotal) - before
        };
        // One by one: most turns ask for no more than there is.
        for _ in 0..20 {
            assert_eq!(accepted_in_turns(connect(&listener, 1), 1), 1);
            assert!(listener.accepts.get() <= 8);
        }
        // A crowd: the share grows with each turn that does not see its end, and is forgotten.
        assert_eq!(accepted_in_turns(connect(&listener, 48), 16), 48);
        assert_eq!(accepted_in_turns(Vec::new(), 1), 0);
        assert_eq!(listener.accepts.get(), 4);
    }

    #[test]
    fn a_pause_leaves_nothing_behind() {
        let Door {
            mut engine,
            listener,
            ..
        } = engine_with_clients(1);
        engine.watch_listener(&listener);
        let held = Rc::strong_count(&listener);
        for _ in 0..3 {
            engine.pause_accepting();
            // A commit in between must not watch it before its time.
            engine.watch_listener(&listener);
            assert!(engine.accepting.is_empty());
            engine.resume_accepting();
            assert_eq!(engine.accepting.len(), 1);
            assert_eq!(Rc::strong_count(&listener), held);
        }
        assert_eq!(engine.metrics.get(Counter::AcceptErrorsTotal), 0);
    }
}
