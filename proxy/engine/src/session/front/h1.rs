//! Requests in HTTP/1.1: a head off the front of what has come.
//!
//! Rule: bytes that were parsed in vain are not parsed again for each byte that follows. What a head means
//! is said in `exchange::request`, in whatever version it came. Called by `client` between two requests.

use crate::protocol::h1::request;
use crate::protocol::h1::{RequestBody, is_worth_parsing};
use crate::protocol::h2;
use crate::runtime::driver::Driver;
use crate::session::engine::Engine;
use crate::session::exchange::record::Glimpse;
use crate::session::front::asker::Asker;
use crate::session::front::client::Phase;
use crate::session::ids::ClientId;
use crate::state::listener::ListenerSettings;

impl<D: Driver> Engine<D> {
    /// Takes a request head from the front of the input; 0 when it is not complete yet.
    pub(super) fn request_input(&mut self, id: ClientId, data: &[u8]) -> usize {
        let listener = self.clients[id].listener.settings();
        if listener.entity.h2c && !self.clients[id].served {
            match h2::is_preface(data) {
                Some(false) => {}
                None => {
                    self.await_rest_of_head(id, &listener);
                    return 0;
                }
                Some(true) => {
                    self.begin_multiplex(id);
                    return self.multiplex_input(id, data);
                }
            }
        }
        // Bytes that were parsed in vain before and still wait: a byte at a time must not cost a
        // parse each.
        let seen = self.clients[id].input.len();
        if seen < data.len() && !is_worth_parsing(data, seen, &listener.head_limits) {
            self.await_rest_of_head(id, &listener);
            return 0;
        }
        let mut head = std::mem::take(&mut self.request_head);
        head.slashes = listener.slashes;
        let consumed = match request::parse(data, &listener.head_limits, &mut head) {
            Ok(None) => {
                self.await_rest_of_head(id, &listener);
                0
            }
            Ok(Some(length)) => {
                if !listener.trusts(self.clients[id].peer.ip()) {
                    head.drop_forwarding_fields();
                }
                if !listener.entity.underscores_in_headers {
                    head.drop_underscores(&data[..length]);
                }
                self.unlink_idle(id);
                self.clients[id].deadline.clear();
                self.body_at_hand = length < data.len();
                self.clients[id].says_last = !head.keep_alive
                    && matches!(head.body, RequestBody::None | RequestBody::Length(0))
                    && head.upgrade(data).is_none();
                let asker = Asker::Connection(id);
                self.request_arrived(asker, &listener, &mut head, &data[..length]);
                self.body_at_hand = false;
                length
            }
            Err(reject) => {
                self.unlink_idle(id);
                self.reject_request(
                    Asker::Connection(id),
                    reject,
                    &Glimpse::of_head(&head, data),
                );
                data.len()
            }
        };
        self.request_head = head;
        consumed
    }

    fn await_rest_of_head(&mut self, id: ClientId, listener: &ListenerSettings) {
        let client = &mut self.clients[id];
        if client.phase == Phase::ExpectHead {
            return;
        }
        client.phase = Phase::ExpectHead;
        let limit = listener.entity.timeouts.request_head;
        self.await_client_for(id, limit);
        self.unlink_idle(id);
    }
}
