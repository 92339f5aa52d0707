//! Requests in clear text that are sent to the same place over TLS.
//!
//! Rule: what a trusted proxy says that it got over TLS has been there already. The method is kept
//! (308), and the target is the one that was matched, so that nobody is sent anywhere else.

use std::rc::Rc;

use crate::protocol::h1::RequestHead;
use crate::runtime::driver::Driver;
use crate::session::engine::Engine;
use crate::session::front::asker::Asker;
use crate::state::frontend::Frontend;
use crate::state::listener::ListenerSettings;

const HTTPS_PORT: u16 = 443;

impl<D: Driver> Engine<D> {
    pub(super) fn must_redirect(
        &self,
        asker: Asker,
        listener: &Rc<ListenerSettings>,
        head: &RequestHead,
        bytes: &[u8],
        frontend: &Frontend,
    ) -> bool {
        let was_secure = || {
            listener.trusts(self.client_of(asker).peer.ip())
                && head
                    .values(bytes, "x-forwarded-proto")
                    .any(|scheme| scheme.eq_ignore_ascii_case(b"https"))
        };
        frontend.entity().redirect.is_some()
            && listener.tls.is_none()
            && !head.host(bytes).is_empty()
            && !was_secure()
    }

    /// Where it is sent, as a line of the head.
    pub(super) fn location(&self, head: &RequestHead, bytes: &[u8], frontend: &Frontend) -> String {
        let text = |part| String::from_utf8_lossy(part);
        let port = match self.secure_port(frontend) {
            HTTPS_PORT => String::new(),
            port => format!(":{port}"),
        };
        let query = head
            .query(bytes)
            .map_or(String::new(), |query| format!("?{}", text(query)));
        let (host, path) = (text(head.host(bytes)), text(head.path(bytes)));
        format!("Location: https://{host}{port}{path}{query}\r\n")
    }

    /// That of the frontend's own listener over TLS, if it has one.
    fn secure_port(&self, frontend: &Frontend) -> u16 {
        frontend
            .entity()
            .listeners
            .iter()
            .filter_map(|name| self.tables.listeners.get(name))
            .find(|listener| listener.settings().tls.is_some())
            .map_or(HTTPS_PORT, |listener| listener.address.port())
    }
}
