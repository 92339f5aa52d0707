//! The server's half of a WebSocket handshake (RFC 6455 §4.2.2), for backends that have none.
//!
//! Over HTTP/2 a handshake proves nothing (RFC 8441 §5); a client of HTTP/1.1 wants its proof all the
//! same. Called by the session where the two meet.

use aws_lc_rs::digest;

use crate::protocol::base64;

/// The value of `Sec-WebSocket-Accept` for the key in a request's head, as `write_request` writes it;
/// `None` without a key.
pub fn websocket_accept(request: &[u8]) -> Option<Vec<u8>> {
    let mut lines = request.split(|&byte| byte == b'\n');
    let key = lines.find_map(|line| {
        let (name, value) = line.split_at_checked(NAME.len())?;
        let is_it = name.eq_ignore_ascii_case(NAME);
        is_it.then(|| value.trim_ascii())
    })?;
    let mut hashing = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    hashing.update(key);
    hashing.update(GUID);
    let mut accept = Vec::new();
    base64::encode(&mut accept, hashing.finish().as_ref());
    Some(accept)
}

const NAME: &[u8] = b"sec-websocket-key:";

/// RFC 6455 §1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_rfc() {
        let request = b"GET /chat HTTP/1.1\r\nHost: a\r\n\
            Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nUpgrade: websocket\r\n\r\n";
        let accept = websocket_accept(request).unwrap();
        assert_eq!(accept, b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(websocket_accept(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"), None);
    }
}
