//! Requests in clear text that are sent to the same place over TLS.
//!
//! Rule: what a trusted proxy says that it got over TLS has been there already. The method is kept
//! (308), and the target is the one that was matched, so that nobody is sent anywhere else.

use std::rc::Rc;

use crate::protocol::h1::RequestHead;
use crate::runtime::driver::Driver;
use crate::session::engine::Engine;
use crate::session::exchange::Outcome;
use crate::session::exchange::record::Record;
use crate::session::exchange::refuse::Answer;
use crate::session::ids::ClientId;
use crate::state::frontend::Frontend;
use crate::state::listener::ListenerSettings;
use crate::telemetry::names::Counter;

const HTTPS_PORT: u16 = 443;

impl<D: Driver> Engine<D> {
    pub(super) fn must_redirect(
        &self,
        id: ClientId,
        listener: &Rc<ListenerSettings>,
        head: &RequestHead,
        bytes: &[u8],
        frontend: &Frontend,
    ) -> bool {
        let was_secure = || {
            listener.trusts(self.clients[id].peer.ip())
                && head
                    .values(bytes, "x-forwarded-proto")
                    .any(|scheme| scheme.eq_ignore_ascii_case(b"https"))
        };
        frontend.entity().redirect.is_some()
            && listener.tls.is_none()
            && !head.host(bytes).is_empty()
            && !was_secure()
    }

    pub(super) fn redirect(
        &mut self,
        id: ClientId,
        head: &RequestHead,
        bytes: &[u8],
        frontend: &Frontend,
        record: Record,
    ) {
        let text = |part| String::from_utf8_lossy(part);
        let port = match self.secure_port(frontend) {
            HTTPS_PORT => String::new(),
            port => format!(":{port}"),
        };
        let query = head
            .query(bytes)
            .map_or(String::new(), |query| format!("?{}", text(query)));
        let (host, path) = (text(head.host(bytes)), text(head.path(bytes)));
        let location = format!("Location: https://{host}{port}{path}{query}\r\n");
        self.metrics.add(Counter::RequestsTotal, 1);
        self.metrics.add(Counter::RequestsServedTotal, 1);
        let answer = Answer {
            status: 308,
            outcome: Outcome::Redirected,
            line: Some(location.into()),
            body: None,
        };
        self.answer_request(id, head, bytes, record, answer);
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
