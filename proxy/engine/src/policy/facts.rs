//! A request as the stages see it.

use std::net::IpAddr;
use std::rc::Rc;

use crate::protocol::h1::{FieldId, RequestHead};
use crate::state::listener::{Listener, ListenerSettings};
use crate::state::named::Named;
use crate::tls::client_identity::ClientIdentity;

use super::HTTPS_PORT;
use super::crowd::InFlight;
use super::meter::Meter;
use super::vault::Vault;

/// What is known of a request and of who sends it, when its head is complete.
pub struct Facts<'a> {
    /// Its head, and the bytes that it was read from.
    pub head: &'a RequestHead,
    /// See `head`.
    pub bytes: &'a [u8],
    /// The listener that it came to.
    pub listener: &'a ListenerSettings,
    /// See `listener`.
    pub listener_name: &'a str,
    /// Who has sent it, as far as the connection tells.
    pub peer: IpAddr,
    /// It came before the handshake was complete.
    pub is_early: bool,
    /// Who its client is by a certificate that it has shown, and that was verified.
    pub client: Option<&'a ClientIdentity>,
    /// As `TLSv1.3`; empty in clear text.
    pub tls_version: &'static str,
    /// Our name for it.
    pub own_id: &'a str,
    /// The frontend that matches it.
    pub frontend_name: &'a str,
    /// See `frontend_name`.
    pub frontend_listeners: &'a [Box<str>],
    /// Who has shown a password that was right.
    pub vault: &'a Vault,
    /// Who has asked how often.
    pub meter: &'a Meter,
    /// How many requests there are.
    pub in_flight: &'a InFlight,
    /// A time that only grows.
    pub now_ns: u64,
    /// All listeners.
    pub listeners: &'a Named<Rc<Listener>>,
}

impl Facts<'_> {
    /// Whether the peer is one of those whose word is taken for their clients.
    fn is_trusted(&self) -> bool {
        self.listener.trusts(self.peer)
    }

    /// Whether its client speaks TLS, with us or with a trusted proxy before us.
    pub fn is_secure(&self) -> bool {
        let was_secure = || {
            self.head
                .values(self.bytes, "x-forwarded-proto")
                .any(|scheme| scheme.eq_ignore_ascii_case(b"https"))
        };
        self.listener.tls.is_some() || (self.is_trusted() && was_secure())
    }

    /// What its client has written before `://`.
    pub fn scheme(&self) -> &'static str {
        match self.is_secure() {
            true => "https",
            false => "http",
        }
    }

    /// The port of the frontend's own listener over TLS, if it has one.
    pub fn secure_port(&self) -> u16 {
        let listeners = self.frontend_listeners.iter();
        listeners
            .filter_map(|name| self.listeners.get(name))
            .find(|listener| listener.settings().tls.is_some())
            .map_or(HTTPS_PORT, |listener| listener.address.port())
    }

    /// Its name: that of a trusted peer if it is harmless, else our own. As the backend gets it.
    pub fn request_id(&self) -> &[u8] {
        let given = self.head.request_id(self.bytes);
        given
            .filter(|_| self.is_trusted())
            .unwrap_or(self.own_id.as_bytes())
    }

    /// See [`client_address`].
    pub fn client_address(&self) -> IpAddr {
        client_address(self.head, self.bytes, self.listener, self.peer)
    }
}

/// Who asks: the last of those in `X-Forwarded-For` who is none of the trusted proxies, if one of these is
/// the peer; or else the peer. What stands before that one is anybody's word (T22).
pub fn client_address(
    head: &RequestHead,
    bytes: &[u8],
    listener: &ListenerSettings,
    peer: IpAddr,
) -> IpAddr {
    if !listener.trusts(peer) {
        return peer;
    }
    let lines = head.fields.iter().rev();
    let told = lines.filter(|field| field.id == FieldId::XForwardedFor && !field.drop);
    let mut client = peer;
    for member in told.flat_map(|field| field.value.of(bytes).rsplit(|byte| *byte == b',')) {
        let text = std::str::from_utf8(member.trim_ascii()).ok();
        let Some(address) = text.and_then(|text| text.parse::<IpAddr>().ok()) else {
            break;
        };
        client = address;
        if !listener.trusts(address) {
            break;
        }
    }
    client
}
