//! What a fault of ours costs: the connection that it was about, never the worker.
//!
//! Rule: invariants that matter are checked where they are relied on, in release builds too; here is the
//! net for those that nobody thought of. A panic ends the turn, the connection whose turn it was is closed
//! with all that hangs on it, and the events that were left are seen to. One that is about no connection,
//! or that comes again while its connection is closed, leaves nothing to rely on: the thread ends with it,
//! and the worker is replaced. Wrapped around the loop, so that it costs a store for each event. Called by
//! the loop.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::protocol::h2::Heads;
use crate::runtime::driver::Driver;
use crate::session::engine::Engine;
use crate::session::engine::RECEIVE_BYTES;
use crate::session::exchange::Outcome;
use crate::session::ids::{ClientId, Owner, UpstreamId};
use crate::telemetry::names::Counter;

impl<D: Driver> Engine<D> {
    /// Does what may go wrong; `None` if it has, and what it was about has been closed.
    pub(super) fn survive<T>(&mut self, what: impl FnOnce(&mut Self) -> T) -> Option<T> {
        let panic = match catch_unwind(AssertUnwindSafe(|| what(self))) {
            Ok(done) => return Some(done),
            Err(panic) => panic,
        };
        let owner = Owner::of(self.at_work);
        if !matches!(
            owner,
            Owner::Client(_)
                | Owner::Stream(_)
                | Owner::Upstream(_)
                | Owner::BackStream(_)
                | Owner::Call(_)
                | Owner::Exchange(_)
        ) {
            resume_unwind(panic);
        }
        self.metrics.add(Counter::MishapsTotal, 1);
        self.find_tools_again();
        // A panic in here is the second one, and nobody stops it.
        match owner {
            Owner::Client(id) if self.clients.contains(id) => self.give_client_up(id),
            // What a stream was about may have left its connection in disorder.
            Owner::Stream(id) if self.streams.contains(id) => {
                self.give_client_up(self.streams[id].connection);
            }
            Owner::Upstream(id) if self.upstreams.contains(id) => self.give_upstream_up(id),
            Owner::BackStream(id) if self.back_streams.contains(id) => {
                self.give_upstream_up(self.back_streams[id].connection);
            }
            Owner::Call(id) => self.end_call(id, Outcome::InternalError),
            Owner::Exchange(id) if self.exchanges.contains(id) => {
                let asker = self.exchanges[id].asker;
                self.abandon_exchange(id, Outcome::InternalError);
                self.cut_asker(asker);
            }
            _ => {}
        }
        None
    }

    /// What was in use is lost, and so is the list of who has frames to send.
    fn find_tools_again(&mut self) {
        if self.receive.len() != RECEIVE_BYTES {
            self.receive = vec![0; RECEIVE_BYTES].into_boxed_slice();
        }
        self.heads = Heads::new(self.request_seed);
        self.shakes_hands = false;
        self.unflushed.clear();
        for (id, client) in self.clients.iter() {
            if client.multiplex.as_ref().is_some_and(|it| it.queued) {
                self.unflushed.push(id.token());
            }
        }
        for (id, upstream) in self.upstreams.iter() {
            if upstream.shared.as_ref().is_some_and(|it| it.queued) {
                self.unflushed.push(id.token());
            }
        }
    }

    fn give_client_up(&mut self, id: ClientId) {
        self.clients[id].stream.reset_on_close();
        if let Some(exchange) = self.clients[id].exchange {
            self.abandon_exchange(exchange, Outcome::InternalError);
        }
        self.close_client(id);
    }

    fn give_upstream_up(&mut self, id: UpstreamId) {
        let upstream = &self.upstreams[id];
        if upstream.shared.is_some() {
            return self.shared_lost(id);
        }
        match upstream.exchange {
            Some(exchange) => {
                let asker = self.exchanges[exchange].asker;
                self.abandon_exchange(exchange, Outcome::InternalError);
                self.cut_asker(asker);
            }
            None => self.close_upstream(id),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;
    use crate::session::testing::{Door, engine_with_clients};

    fn is_open(stream: &mut TcpStream) -> bool {
        stream.set_nonblocking(true).unwrap();
        let mut byte = [0];
        matches!(stream.read(&mut byte), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
    }

    #[test]
    fn a_panic_costs_the_connection_that_it_is_about() {
        let Door {
            mut engine,
            clients,
            mut peers,
            ..
        } = engine_with_clients(3);
        // An exchange that nobody knows: whoever looks for it panics.
        engine.clients[clients[1]].phase = crate::session::front::client::Phase::InExchange;
        engine.clients[clients[1]].exchange = None;
        engine.at_work = clients[1].token();
        let outcome = engine.survive(|engine| {
            engine.receive = Box::default();
            let nobody = engine.exchanges.vacant().id();
            engine.exchanges[nobody].asker
        });
        assert_eq!(outcome, None);
        assert_eq!(engine.receive.len(), RECEIVE_BYTES);
        assert!(!engine.clients.contains(clients[1]));
        assert!(!is_open(&mut peers[1]));
        for at in [0, 2] {
            assert!(is_open(&mut peers[at]));
            peers[at].set_nonblocking(false).unwrap();
            peers[at].write_all(b"GET /\r\n\r\n").unwrap();
            engine.clients[clients[at]].readable = true;
            assert!(
                engine
                    .survive(|engine| engine.drive_client(clients[at]))
                    .is_some()
            );
            let mut answer = [0; 12];
            peers[at].read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"HTTP/1.1 400");
        }
    }

    #[test]
    #[should_panic(expected = "about nobody")]
    fn a_panic_about_no_connection_ends_the_thread() {
        let Door { mut engine, .. } = engine_with_clients(1);
        engine.at_work = crate::session::ids::WAKE;
        let _ = engine.survive(|_| panic!("about nobody"));
    }
}
