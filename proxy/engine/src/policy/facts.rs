//! A request as the stages see it.

use std::net::IpAddr;

use crate::protocol::h1::RequestHead;
use crate::state::listener::ListenerSettings;

/// What is known of a request and of who sends it, when its head is complete.
pub struct Facts<'a> {
    /// Its head, and the bytes that it was read from.
    pub head: &'a RequestHead,
    /// See `head`.
    pub bytes: &'a [u8],
    /// The listener that it came to.
    pub listener: &'a ListenerSettings,
    /// Who has sent it, as far as the connection tells.
    pub peer: IpAddr,
    /// It came before the handshake was complete.
    pub is_early: bool,
    /// Its client has shown a certificate, which was verified.
    pub has_certificate: bool,
    /// Where the frontend is asked over TLS. Only redirects want to know.
    pub secure_port: &'a dyn Fn() -> u16,
}

impl Facts<'_> {
    /// Whether its client speaks TLS, with us or with a trusted proxy before us.
    pub fn is_secure(&self) -> bool {
        self.listener.tls.is_some() || self.came_secure_to_a_trusted_proxy()
    }

    fn came_secure_to_a_trusted_proxy(&self) -> bool {
        self.listener.trusts(self.peer)
            && self
                .head
                .values(self.bytes, "x-forwarded-proto")
                .any(|scheme| scheme.eq_ignore_ascii_case(b"https"))
    }
}
