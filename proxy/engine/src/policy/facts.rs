//! A request as the stages see it.

use std::net::IpAddr;
use std::rc::Rc;

use crate::protocol::h1::RequestHead;
use crate::protocol::lines::Lines;
use crate::state::listener::{Listener, ListenerSettings};
use crate::state::named::Named;
use crate::tls::client_identity::ClientIdentity;

use super::HTTPS_PORT;
use super::asking::{Asking, parameter};
use super::guards::jwt::token::Claims;
use super::guards::jwt::whole;
use super::guards::vault::Vault;
use super::limits::in_flight::InFlight;
use super::limits::meter::Meter;
use super::limits::refused::Refused;

/// What is known of a request and of who sends it, when its head is complete.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    /// Its head, and the bytes that it was read from.
    pub head: &'a RequestHead,
    /// See `head`.
    pub bytes: &'a [u8],
    /// What those have said of it who have let it pass, as lines of its head: behind them it is known, and of these
    /// names nothing else is in the head.
    pub said: Lines<'a>,
    /// What its tokens say, the outermost first; as above.
    pub claims: &'a [Claims],
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
    pub own_id: &'a [u8],
    /// The frontend that matches it.
    pub frontend_name: &'a str,
    /// See `frontend_name`.
    pub frontend_listeners: &'a [Box<str>],
    /// Who has shown a password that was right.
    pub vault: &'a Vault,
    /// Tokens whose signatures were right.
    pub tokens: &'a Vault,
    /// Who has asked how often.
    pub meter: &'a Meter,
    /// Who has asked too often.
    pub refused: &'a Refused,
    /// How many requests there are.
    pub in_flight: &'a InFlight,
    /// A time that only grows.
    pub now_ns: u64,
    /// Microseconds since 1970.
    pub unix_us: u64,
    /// All listeners.
    pub listeners: &'a Named<Rc<Listener>>,
}

impl Facts<'_> {
    /// Whether the peer is one of those whose word is taken for their clients.
    pub(super) fn is_trusted(&self) -> bool {
        self.listener.trusts(self.peer)
    }

    /// Whether its client speaks TLS, with us or with a trusted proxy before us.
    pub fn is_secure(&self) -> bool {
        let said = |scheme: &[u8]| scheme.eq_ignore_ascii_case(b"https");
        let was_secure = || {
            let (head, bytes) = (self.head, self.bytes);
            let mut customary = head.values(bytes, "x-forwarded-proto").peekable();
            match customary.peek() {
                Some(_) => customary.any(said),
                None => head
                    .values(bytes, "forwarded")
                    .flat_map(|line| line.split(|&byte| byte == b','))
                    .filter_map(|element| parameter(element, b"proto"))
                    .any(said),
            }
        };
        self.listener.entity.tls.is_some() || (self.is_trusted() && was_secure())
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
            .find(|listener| listener.settings().entity.tls.is_some())
            .map_or(HTTPS_PORT, |listener| listener.address.port())
    }

    /// Its name: that of a trusted peer if it is harmless, else our own. As the backend gets it.
    pub fn request_id(&self) -> &[u8] {
        let given = self.head.request_id(self.bytes);
        given.filter(|_| self.is_trusted()).unwrap_or(self.own_id)
    }

    /// The values of a header, as its client says them or those who know who that is.
    pub fn values<'b>(&'b self, name: &'b str) -> impl Iterator<Item = &'b [u8]> {
        let said = self.said.values(name);
        self.head.values(self.bytes, name).chain(said)
    }

    /// What a token says of something, as text; of several the nearest to the frontend.
    pub fn claim(&self, name: &str) -> Option<String> {
        let mut said = self.claims.iter().rev().filter_map(|it| it.get(name));
        said.find_map(whole)
    }

    /// Who asks.
    pub fn asking(&self) -> Asking {
        Asking::of(self.head, self.bytes, self.listener, self.peer)
    }
}
