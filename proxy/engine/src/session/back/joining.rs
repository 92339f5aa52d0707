//! Who shares a connection to a backend: one that has room, or a new one, whose beginning they wait for.
//!
//! Rule: a connection takes requests when its backend has told its settings, and allows a stream. Until then they
//! wait by tickets (`exchange::waiting`), within the time of a connect; nothing of them has been sent, so that they
//! may go elsewhere, and what does not speak HTTP/2 is a backend that cannot be reached. Called by `connect`, and by
//! `h2` when the settings have come.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use crate::protocol::tls::Machine;
use crate::runtime::driver::Driver;
use crate::session::back::shared::Shared;
use crate::session::back::upstream::{Link, Upstream};
use crate::session::engine::Engine;
use crate::session::exchange::Exchange;
use crate::session::exchange::waiting::Wanted;
use crate::session::ids::{ExchangeId, TicketId, UpstreamId};
use crate::telemetry::names::{Counter, Field};
use crate::upstream::Backend;

/// Whether an exchange may go on a connection. That the backend has closed it may not be known yet: a
/// request that could not be sent again is worth a look at the socket.
fn takes(upstream: &Upstream, exchange: &Exchange) -> bool {
    let Some(shared) = upstream.shared.as_ref() else {
        return false;
    };
    let same_policy = match (&exchange.cluster.tls, &upstream.tls) {
        (Some(wanted), Some(had)) => Arc::ptr_eq(wanted, had),
        (None, None) => true,
        _ => false,
    };
    let is_idle = upstream.link == Link::Shared && shared.streams.is_empty();
    same_policy
        && shared.has_room(upstream.link)
        && (!is_idle || exchange.may_repeat_once() || upstream.stream.is_quiet())
}

impl<D: Driver> Engine<D> {
    /// Gives an exchange a stream of a connection to its backend, of a new one if none has room.
    ///
    /// # Errors
    /// When no connection can be begun.
    pub(super) fn join_shared(
        &mut self,
        exchange: ExchangeId,
        backend: &Rc<Backend>,
    ) -> io::Result<()> {
        let entry = &self.exchanges[exchange];
        let found = backend.shared.borrow().iter().find_map(|&token| {
            let id = UpstreamId::of(token)?;
            let upstream = self.upstreams.get(id)?;
            takes(upstream, entry).then_some(id)
        });
        if let Some(connection) = found {
            self.metrics.add(Counter::UpstreamReusesTotal, 1);
            self.metrics.slot_add(backend.slot(), Field::Reuses, 1);
            match self.upstreams[connection].link {
                Link::Shared => {
                    backend.probe_ended();
                    self.open_back_stream(connection, exchange);
                }
                _ => self.wait_for_stream(connection, exchange),
            }
            return Ok(());
        }
        let cluster = entry.cluster.clone();
        let connection = self.open_upstream(&cluster, backend)?;
        let upstream = &mut self.upstreams[connection];
        upstream.shared = Some(Box::new(Shared::new(cluster, self.clock.ms())));
        backend.shared.borrow_mut().push(connection.token());
        self.wait_for_stream(connection, exchange);
        self.greet(connection);
        Ok(())
    }

    fn wait_for_stream(&mut self, connection: UpstreamId, exchange: ExchangeId) {
        let ticket = self.wait(exchange, Wanted::StreamOf(connection));
        if let Some(shared) = self.upstreams[connection].shared.as_mut() {
            shared.waiting.push_back(ticket);
            shared.note_cluster(&self.exchanges[exchange].cluster);
        }
    }

    /// Whoever had this ticket waits no more.
    pub(in crate::session) fn stop_waiting_for(
        &mut self,
        connection: UpstreamId,
        ticket: TicketId,
    ) {
        let upstream = self.upstreams.get_mut(connection);
        if let Some(shared) = upstream.and_then(|it| it.shared.as_mut()) {
            shared.waiting.retain(|&other| other != ticket);
            self.rest_shared(connection);
        }
    }

    /// Sends the first bytes on a socket that may still be connecting.
    pub(super) fn greet(&mut self, id: UpstreamId) {
        let upstream = &mut self.upstreams[id];
        let Some(shared) = upstream.shared.as_mut() else {
            return;
        };
        let begun = match upstream.tls.is_some() {
            true => upstream.stream.begin(&mut self.tls, &mut self.pool, &[]),
            false => {
                shared.out(&mut self.pool);
                shared.h2.flush(&mut shared.out);
                let sent = upstream
                    .stream
                    .send(&mut self.tls, &mut self.pool, &shared.out, &[]);
                sent.map(|sent| {
                    shared.sent += sent as u64;
                    upstream.output.push(&mut self.pool, &shared.out[sent..]);
                    shared.out.clear();
                })
            }
        };
        match begun {
            Ok(()) if upstream.tls.is_some() => upstream.link = Link::Securing,
            Ok(()) => upstream.link = Link::Greeting,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.shared_lost(id),
        }
    }

    /// Bytes of a handshake have come.
    pub(super) fn greet_secured(&mut self, id: UpstreamId) {
        let upstream = &mut self.upstreams[id];
        if !upstream.stream.has_just_opened() {
            return;
        }
        upstream.link = Link::Greeting;
        if upstream.stream.tls().and_then(Machine::alpn) != Some(b"h2") {
            return self.shared_lost(id);
        }
        self.queue_shared(id);
    }

    /// The backend has told its settings: those who waited for that go. One that takes no request yet
    /// may say otherwise as long as a connect may last.
    pub(super) fn shared_may_open(&mut self, id: UpstreamId) {
        let upstream = &mut self.upstreams[id];
        let takes = upstream.shared.as_ref().map(|shared| shared.h2.can_open());
        if upstream.link != Link::Greeting || takes.is_none_or(|count| count == 0) {
            return;
        }
        upstream.link = Link::Shared;
        upstream.deadline.clear();
        self.count_connected(id);
        while let Some(ticket) = self.next_waiting(id) {
            let Some(exchange) = self.resume(ticket) else {
                continue;
            };
            let shared = self.upstreams[id].shared.as_ref();
            if shared.is_some_and(|it| it.h2.can_open() > 0) {
                self.open_back_stream(id, exchange);
            } else {
                self.try_elsewhere(exchange);
            }
        }
    }

    fn next_waiting(&mut self, id: UpstreamId) -> Option<TicketId> {
        let upstream = self.upstreams.get_mut(id)?;
        upstream.shared.as_mut()?.waiting.pop_front()
    }
}
