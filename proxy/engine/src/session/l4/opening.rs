//! How a connection begins whose bytes pass unread: an exchange that is a tunnel from its beginning.
//!
//! Rule: nothing of ours is ever said on it; what cannot be served is closed, counted and logged. Called by
//! `passthrough` and `bytes`, which know whose it is.

use std::rc::Rc;

use crate::policy::merged::Merged;
use crate::protocol::h1::Version;
use crate::runtime::driver::Driver;
use crate::session::engine::Engine;
use crate::session::exchange::body::Body;
use crate::session::exchange::{Exchange, Parties, Reply};
use crate::session::front::asker::Asker;
use crate::session::front::client::Phase;
use crate::session::ids::ClientId;
use crate::state::frontend::Frontend;
use crate::telemetry::names::Counter;

/// What is known of a connection before its first byte, with the hostname that was asked for, if any was.
#[derive(Clone, Copy)]
pub(in crate::session) enum Opening<'a> {
    /// TLS that is not ours to end.
    Tls(&'a str),
    /// Whatever it is, maybe within TLS that has ended here.
    Bytes(&'a str),
}

impl<'a> Opening<'a> {
    /// The hostname; empty where none was asked for.
    pub(in crate::session) fn hostname(self) -> &'a str {
        match self {
            Self::Tls(hostname) | Self::Bytes(hostname) => hostname,
        }
    }

    /// What passes, as the access log names it.
    pub(in crate::session) fn protocol(self) -> &'static str {
        match self {
            Self::Tls(_) => "TLS",
            Self::Bytes(_) => "TCP",
        }
    }
}

impl Exchange {
    /// Whether bytes pass unread from its beginning, so that they have to be the first on a connection.
    pub(in crate::session) fn passes_unread(&self) -> bool {
        self.frontend.entity().passthrough || self.listener.entity.protocol.is_bytes()
    }
}

impl<D: Driver> Engine<D> {
    /// From here on one generation serves the connection, as it does a request.
    pub(super) fn pass_unread(
        &mut self,
        id: ClientId,
        frontend: Rc<Frontend>,
        opening: Opening<'_>,
    ) {
        let full = self.exchanges.len() >= self.tables.settings.max_requests as usize;
        let (Some(cluster), false) = (
            frontend.cluster().cloned(),
            full || self.is_short_of_memory(),
        ) else {
            self.metrics.add(Counter::RefusedRequestsTotal, 1);
            return self.close_client(id);
        };
        let request_id = self.request_ids.next();
        let record = self.begin_unread_record(opening, request_id);
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
        if matches!(opening, Opening::Tls(_)) {
            client.stream.leave_tls();
        }
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
        exchange.spare = self.spare_of(&exchange, &[]);
        exchange.reply = Reply::Tunnel { ended: false };
        self.metrics.add(Counter::PassthroughsTotal, 1);
        self.metrics.add(Counter::TunnelsTotal, 1);
        self.metrics.add(Counter::TunnelsNow, 1);
        let exchange = self.insert_exchange(exchange);
        self.try_backend(exchange);
    }
}
