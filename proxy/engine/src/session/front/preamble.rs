//! What a load balancer says before the client's first byte: the PROXY protocol.
//!
//! Rule: whoever is in `proxy_protocol` of the listener has to begin with a preamble, and nobody
//! else may; so it is decided by the address alone whether the first bytes are one, and no client can
//! say that it is somebody else. The bytes are looked at in the socket's buffer and taken only when
//! the preamble is whole: what follows it is found by TLS or HTTP as if it had never been there.

use std::io;

use crate::protocol::proxy::{self, PREAMBLE_BYTES_MAX};
use crate::runtime::driver::Driver;
use crate::session::engine::Engine;
use crate::session::front::client::Phase;
use crate::session::ids::ClientId;
use crate::telemetry::names::Counter;

impl<D: Driver> Engine<D> {
    /// A preamble has the time of a request head, and gives way like any connection without a request.
    pub(super) fn await_preamble(&mut self, id: ClientId) {
        self.await_opening(id, Phase::Preamble);
    }

    /// Looks at what has come. The client may be gone afterwards.
    pub(super) fn read_preamble(&mut self, id: ClientId, receive: &mut [u8]) {
        let client = &mut self.clients[id];
        let count = match client.stream.peek(&mut receive[..PREAMBLE_BYTES_MAX]) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                client.readable = false;
                return;
            }
            Err(error) if self.left_silently(id, &error) => return self.close_client(id),
            Err(_) => return self.preamble_failed(id),
        };
        client.heard |= count > 0;
        match proxy::parse(&receive[..count]) {
            Ok(Some(preamble)) => {
                if client
                    .stream
                    .discard(&mut receive[..preamble.length])
                    .is_err()
                {
                    return self.preamble_failed(id);
                }
                client.peer = preamble.source.unwrap_or(client.peer);
                self.unlink_idle(id);
                self.open_client(id);
            }
            // The rest will never come.
            Ok(None) if !client.heard && count == 0 => self.close_client(id),
            Ok(None) if count == 0 || client.hangup => self.preamble_failed(id),
            Ok(None) => client.readable = false,
            Err(_) => self.preamble_failed(id),
        }
    }

    /// Nothing can be answered: it is not even known to whom.
    pub(in crate::session) fn preamble_failed(&mut self, id: ClientId) {
        self.metrics.add(Counter::ProxyProtocolErrorsTotal, 1);
        self.close_client(id);
    }
}
