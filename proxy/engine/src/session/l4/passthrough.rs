//! TLS that is not ours to end: connections that are passed on by the name in their first message.
//!
//! Rule: the first message is only looked at. If a frontend with `passthrough` has its name, bytes pass
//! unread from the very first one, in an exchange that is a tunnel from its beginning; otherwise the
//! handshake finds the message where it was. The more specific hostname decides which of the two, and
//! between equals passing on. By the same look a handshake is chosen whose sessions may bring early data.

use std::io;
use std::rc::Rc;

use crate::protocol::hello::{self, HELLO_BYTES_MAX, Sight};
use crate::runtime::driver::Driver;
use crate::session::engine::Engine;
use crate::session::front::client::Phase;
use crate::session::ids::ClientId;
use crate::session::l4::opening::Opening;
use crate::state::frontend::Frontend;
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
                Some(frontend) => self.pass_unread(id, frontend, Opening::Tls(&name)),
                None if self.passes_bytes(id) => {
                    self.clients[id].stream.keep_name(&name);
                    self.terminate(id);
                }
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
}
