//! TLS that is not ours to end: connections that are passed on by the name in their first message.
//!
//! Rule: the first message is only looked at. If a frontend with `passthrough` has its name, bytes pass
//! unread from the very first one, in an exchange that is a tunnel from its beginning; otherwise the
//! handshake finds the message where it was. The more specific hostname decides which of the two, and
//! between equals passing on. By the same look a handshake is chosen whose sessions may bring early data.

use std::io;
use std::rc::Rc;

use crate::policy::merged::Merged;
use crate::protocol::h1::Version;
use crate::protocol::hello::{self, HELLO_BYTES_MAX, Sight};
use crate::runtime::driver::Driver;
use crate::session::engine::Engine;
use crate::session::exchange::body::Body;
use crate::session::exchange::{Exchange, Parties, Reply};
use crate::session::front::asker::Asker;
use crate::session::front::client::Phase;
use crate::session::ids::ClientId;
use crate::state::frontend::Frontend;
use crate::telemetry::names::Counter;
use crate::tls::policy::Agreements;

impl<D: Driver> Engine<D> {
    /// Looks at the first message. The client may be gone afterwards.
    pub(in crate::session) fn read_hello(&mut self, id: ClientId, receive: &mut [u8]) {
        let client = &mut self.clients[id];
        let count = match client.stream.peek(&mut receive[..HELLO_BYTES_MAX]) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                client.readable = false;
                return;
            }
            Err(error) => return self.handshake_failed(id, Some(&error)),
        };
        let ended = count == 0 || client.hangup;
        client.heard |= count > 0;
        match hello::look(&receive[..count]) {
            Sight::Incomplete if !ended => client.readable = false,
            Sight::Named(name) => match self.passthrough_of(id, name.as_bytes()) {
                Some(frontend) => self.begin_passthrough(id, frontend, &name),
                None => {
                    self.allow_early_data(id, name.as_bytes());
                    self.terminate(id);
                }
            },
            Sight::Incomplete | Sight::Nameless => self.terminate(id),
        }
    }

    /// Whatever it is, the handshake has the words to answer it.
    fn terminate(&mut self, id: ClientId) {
        self.unlink_idle(id);
        self.await_opening(id, Phase::Handshake);
    }

    /// Sessions of a host that asks for early data are kept here, one use each, rather than in tickets:
    /// who sends such data again finds nothing to resume (RFC 8446 §8.1).
    fn allow_early_data(&mut self, id: ClientId, name: &[u8]) {
        let client = &mut self.clients[id];
        if !client.listener.routes.may_come_early(name) {
            return;
        }
        let settings = client.listener.settings();
        if let Some(config) = settings.tls.as_ref().and_then(Agreements::early) {
            client.stream.restart_tls(config);
        }
    }

    pub(in crate::session) fn passthrough_of(
        &self,
        id: ClientId,
        name: &[u8],
    ) -> Option<Rc<Frontend>> {
        let listener = &self.clients[id].listener;
        let passed = listener.routes.passthroughs.borrow();
        let ended = listener.routes.frontends.borrow().rank(name);
        let frontend = passed.for_host(name)?;
        (passed.rank(name) >= ended).then(|| frontend.clone())
    }

    /// From here on one generation serves the connection, as it does a request.
    fn begin_passthrough(&mut self, id: ClientId, frontend: Rc<Frontend>, name: &str) {
        let full = self.exchanges.len() >= self.tables.settings.max_requests as usize;
        let (Some(cluster), false) = (
            frontend.cluster().cloned(),
            full || self.is_short_of_memory(),
        ) else {
            self.metrics.add(Counter::RefusedRequestsTotal, 1);
            return self.close_client(id);
        };
        let request_id = self.request_ids.next();
        let record = self.begin_passthrough_record(name, request_id);
        let listener = self.clients[id].listener.settings();
        let access = frontend.merged(&listener).and_then(Merged::access);
        if access.is_some_and(|access| !access.admits(self.clients[id].peer.ip())) {
            self.record_denied(Asker::Connection(id), record, &frontend);
            return self.close_client(id);
        }
        self.unlink_idle(id);
        let client = &mut self.clients[id];
        client.deadline.clear();
        client.phase = Phase::Tunnel;
        client.stream.leave_tls();
        let parties = Parties {
            asker: Asker::Connection(id),
            version: Version::Http11,
            listener,
            frontend,
            cluster,
            tables: &self.tables,
        };
        let mut exchange = Exchange::new(parties, record);
        exchange.request = Body::UntilClose;
        exchange.spare = self.spare_of(&exchange);
        // Nothing of ours can be said on a connection whose keys are not ours.
        exchange.reply = Reply::Tunnel { ended: false };
        self.metrics.add(Counter::PassthroughsTotal, 1);
        self.metrics.add(Counter::TunnelsTotal, 1);
        self.metrics.add(Counter::TunnelsNow, 1);
        let exchange = self.insert_exchange(exchange);
        self.try_backend(exchange);
    }
}
