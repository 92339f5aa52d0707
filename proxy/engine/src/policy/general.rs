//! The stages that every frontend has: a look each, at what the head and its connection are.

use super::facts::Facts;
use super::merged::Merged;
use super::{Reason, Verdict};
use crate::protocol::h1::{RequestBody, Version};
use crate::state::entity::Frontend;

/// What a client is told whose version of WebSocket is not carried (RFC 6455 §4.4, RFC 9110 §15.5.22).
const WEBSOCKET_VERSION: [(&str, &str); 3] = [
    ("Sec-WebSocket-Version", "13"),
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
];

/// What a client is told whose TRACE is refused (RFC 9110 §15.5.6): nobody but the backend knows better.
const ALLOW: [(&str, &str); 1] = [("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")];

/// Early data that must not be, TRACE that nobody has asked for, and bodies that are known to be too long.
#[inline]
pub fn at_the_door(frontend: &Frontend, merged: Option<&Merged>, facts: &Facts<'_>) -> Verdict {
    if facts.is_early && !may_be_repeated(frontend, facts) {
        return Verdict::answer(425, Reason::TooEarly);
    }
    if is_unasked_trace(frontend, facts) {
        return Verdict::with_lines(405, Reason::Trace, &ALLOW);
    }
    let RequestBody::Length(length) = facts.head.body else {
        return Verdict::Continue;
    };
    let of_listener = facts.listener.entity.limits.body_bytes;
    let said = merged.and_then(|merged| merged.bounds()?.body_bytes);
    match of_listener.into_iter().chain(said).min() {
        Some(limit) if length > limit => Verdict::answer(413, Reason::TooLarge),
        _ => Verdict::Continue,
    }
}

/// Whether a backend would send a request back as it has got it (RFC 9110 §9.3.8): with what its client must not see,
/// such as fields that the proxy sets, or what a script in a browser may not read of its own. A frontend that names the
/// method takes it.
#[inline]
fn is_unasked_trace(frontend: &Frontend, facts: &Facts<'_>) -> bool {
    let is_trace = facts.head.method(facts.bytes) == b"TRACE";
    is_trace && frontend.few().is_none_or(|few| few.methods.is_empty())
}

/// Whether nothing comes of a request that may be somebody else's repetition (RFC 8470 §3): the client of
/// any other asks again as soon as the handshake is complete.
#[cold]
fn may_be_repeated(frontend: &Frontend, facts: &Facts<'_>) -> bool {
    let head = facts.head;
    frontend.early_data
        && matches!(head.method(facts.bytes), b"GET" | b"HEAD" | b"OPTIONS")
        && matches!(head.body, RequestBody::None | RequestBody::Length(0))
        && head.upgrade(facts.bytes).is_none()
}

/// Protocols that may not be switched to. Over HTTP/1.1 a handshake that is not passed on is an ordinary
/// request; in a stream it has no other reading (RFC 8441 §4).
#[inline]
pub fn switching(frontend: &Frontend, facts: &Facts<'_>) -> Verdict {
    let head = facts.head;
    if head.wants_other_websocket && frontend.passes_on(b"websocket") {
        return Verdict::with_lines(426, Reason::WebSocketVersion, &WEBSOCKET_VERSION);
    }
    if head.version != Version::Http2 {
        return Verdict::Continue;
    }
    let is_refused = head
        .upgrade(facts.bytes)
        .is_some_and(|protocol| !frontend.passes_on(protocol));
    if is_refused || head.wants_other_websocket {
        return Verdict::answer(501, Reason::UpgradeRefused);
    }
    Verdict::Continue
}
