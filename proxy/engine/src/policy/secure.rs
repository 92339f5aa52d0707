//! Requests in clear text that are sent to the same place over TLS.
//!
//! Rule: what a trusted proxy says that it got over TLS has been there already. The method is kept
//! (308), and the target is the one that was matched, so that nobody is sent anywhere else.

use super::facts::Facts;
use super::{HTTPS_PORT, Reason, Verdict};

/// Sends a request there, unless its client is there already, or does not say where it is.
pub(super) fn redirect(facts: &Facts<'_>) -> Verdict {
    let is_nowhere = facts.head.host(facts.bytes).is_empty();
    if is_nowhere || facts.is_secure() {
        return Verdict::Continue;
    }
    Verdict::with_line(308, Reason::Redirected, location(facts))
}

/// Where it is sent, as a line of the head.
fn location(facts: &Facts<'_>) -> String {
    let (head, bytes) = (facts.head, facts.bytes);
    let text = |part| String::from_utf8_lossy(part);
    let port = match (facts.secure_port)() {
        HTTPS_PORT => String::new(),
        port => format!(":{port}"),
    };
    let query = head
        .query(bytes)
        .map_or(String::new(), |query| format!("?{}", text(query)));
    let (host, path) = (text(head.host(bytes)), text(head.path(bytes)));
    format!("Location: https://{host}{port}{path}{query}\r\n")
}
