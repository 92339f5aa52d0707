//! Listeners with `protocol: tcp` and `tls`: what comes goes to a backend as it is.
//!
//! Rule: a connection goes by who has opened it, and with TLS by the name that was asked for; and its backend
//! is asked for before anything has been said, since there are protocols in which the server speaks first.
//! Called by `accept`, by `preamble` when a load balancer has said who it is, and by `handshake`.

use std::net::IpAddr;
use std::rc::Rc;

use crate::routing::matcher::{HeaderLookup, Request};
use crate::runtime::driver::Driver;
use crate::session::engine::Engine;
use crate::session::front::asker::Asker;
use crate::session::ids::ClientId;
use crate::session::l4::opening::Opening;
use crate::state::frontend::Frontend;

/// Who has opened a connection: all that is known of it.
struct Opened(IpAddr);

impl HeaderLookup for Opened {
    fn any_value(&self, _: &str, _: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        false
    }

    fn client_address(&self) -> Option<IpAddr> {
        Some(self.0)
    }
}

impl<D: Driver> Engine<D> {
    /// Whether nothing is read of what comes at the listener of a client.
    pub(in crate::session) fn passes_bytes(&self, id: ClientId) -> bool {
        let settings = self.clients[id].listener.settings();
        settings.entity.protocol.is_bytes()
    }

    /// Gives a connection to its backend. The client may be gone afterwards.
    pub(in crate::session) fn open_bytes(&mut self, id: ClientId) {
        let name = self.clients[id].stream.take_name();
        let opening = Opening::Bytes(name.as_deref().unwrap_or_default());
        match self.frontend_of_bytes(id, opening.hostname()) {
            Some(frontend) => self.pass_unread(id, frontend, opening),
            None => {
                self.record_nobodys(Asker::Connection(id), opening);
                self.close_client(id);
            }
        }
    }

    fn frontend_of_bytes(&self, id: ClientId, hostname: &str) -> Option<Rc<Frontend>> {
        let client = &self.clients[id];
        let request = Request {
            host: hostname.as_bytes(),
            path: b"/",
            query: None,
            method: b"",
            headers: &Opened(client.peer.ip()),
        };
        let frontends = client.listener.routes.frontends.borrow();
        frontends.lookup(&request).cloned()
    }
}
