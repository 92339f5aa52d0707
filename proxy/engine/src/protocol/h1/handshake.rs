//! The server's half of a WebSocket handshake (RFC 6455 §4.2.2), for backends that have none.
//!
//! Over HTTP/2 a handshake proves nothing (RFC 8441 §5); a client of HTTP/1.1 wants its proof all the
//! same. Called by the session where the two meet.

use aws_lc_rs::digest;

use crate::protocol::base64;

/// The value of `Sec-WebSocket-Accept` for that of `Sec-WebSocket-Key`.
#[must_use]
pub fn websocket_accept(key: &[u8]) -> Vec<u8> {
    let mut hashing = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    hashing.update(key);
    hashing.update(GUID);
    let mut accept = Vec::new();
    base64::encode(&mut accept, hashing.finish().as_ref());
    accept
}

/// RFC 6455 §1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_rfc() {
        let accept = websocket_accept(b"dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(accept, b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
