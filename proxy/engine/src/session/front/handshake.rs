//! How a TLS handshake with a client ends: in requests, or in nothing.
//!
//! Rule: requests may begin before it is complete, with early data, and then it is not yet known who sends
//! them; `request` asks for that. Called by `client` with what has come, and by `passthrough`.

use std::io;

use crate::protocol::tls::Machine;
use crate::runtime::driver::Driver;
use crate::session::engine::Engine;
use crate::session::front::client::Phase;
use crate::session::ids::{ClientId, Fate};
use crate::telemetry::names::Counter;
use crate::tls::challenges;
use crate::tls::client_identity::ClientIdentity;

impl<D: Driver> Engine<D> {
    /// There will be no connection: for an error of the socket, or of the protocol or for lateness.
    pub(in crate::session) fn handshake_failed(&mut self, id: ClientId, error: Option<&io::Error>) {
        let silently = error.is_some_and(|error| self.left_silently(id, error));
        self.metrics
            .add(Counter::TlsHandshakeErrorsTotal, u64::from(!silently));
        self.close_client(id);
    }

    /// Whether a client has gone before it said anything, as checks of health do: no fault of anybody.
    pub(super) fn left_silently(&self, id: ClientId, error: &io::Error) -> bool {
        !self.clients[id].heard && error.raw_os_error().is_some()
    }

    /// Bytes have come, maybe those of a handshake.
    pub(super) fn handshake_progress(&mut self, id: ClientId) -> Fate {
        let client = &mut self.clients[id];
        let opened = client.stream.has_just_opened();
        let begins = client.phase == Phase::Handshake && (opened || client.stream.is_early());
        if opened {
            self.handshake_complete(id);
        }
        if !begins {
            return Fate::Lives;
        }
        self.begin_protocol(id);
        self.clients.fate_of(id)
    }

    /// It is known who the client is.
    fn handshake_complete(&mut self, id: ClientId) {
        let client = &mut self.clients[id];
        let shown = client.stream.tls().and_then(Machine::peer_certificate);
        client.identity = shown.map(ClientIdentity::of).map(Box::new);
        let resumed = client.stream.tls().is_some_and(Machine::is_resumed);
        self.metrics.add(Counter::TlsHandshakesTotal, 1);
        self.metrics
            .add(Counter::TlsResumptionsTotal, u64::from(resumed));
    }

    /// Requests come in the protocol that was agreed on.
    fn begin_protocol(&mut self, id: ClientId) {
        let client = &self.clients[id];
        self.metrics.add(
            Counter::TlsEarlyDataTotal,
            u64::from(client.stream.is_early()),
        );
        match client.stream.tls().and_then(Machine::alpn) {
            Some(b"h2") => return self.begin_multiplex(id),
            // It has seen what it wanted to see.
            Some(challenges::ALPN) => return self.close_client(id),
            _ if self.passes_bytes(id) => return self.open_bytes(id),
            _ => {}
        }
        self.unlink_idle(id);
        self.await_next_request(id);
    }
}
