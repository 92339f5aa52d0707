//! Text of a client's IP address without an allocation a request.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

/// Longest text of an IPv6 address, as an IPv4-mapped one.
const IP_TEXT_BYTES_MAX: usize = 45;

/// An IP address as text.
pub(super) struct AddressText {
    bytes: [u8; IP_TEXT_BYTES_MAX],
    length: usize,
}

impl AddressText {
    /// The IP address of a peer; an IPv4-mapped IPv6 one (a dual-stack socket) as IPv4.
    pub(in crate::session) fn new(peer: SocketAddr) -> Self {
        let mut text = Self {
            bytes: [0; IP_TEXT_BYTES_MAX],
            length: 0,
        };
        // An address always fits. The formatter costs as much as a routing lookup, so that the
        // common case goes without it.
        match peer.ip().to_canonical() {
            IpAddr::V4(v4) => {
                for (position, octet) in v4.octets().into_iter().enumerate() {
                    let _ = text.write_str(if position == 0 { "" } else { "." });
                    let _ = text.write_str(itoa::Buffer::new().format(octet));
                }
            }
            IpAddr::V6(v6) => {
                let _ = write!(text, "{v6}");
            }
        }
        text
    }

    pub(in crate::session) fn ip(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.length]).unwrap_or_default()
    }
}

impl Write for AddressText {
    fn write_str(&mut self, part: &str) -> std::fmt::Result {
        let end = self.length + part.len();
        let room = self
            .bytes
            .get_mut(self.length..end)
            .ok_or(std::fmt::Error)?;
        room.copy_from_slice(part.as_bytes());
        self.length = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        let text = |peer: &str| AddressText::new(peer.parse().unwrap()).ip().to_owned();
        assert_eq!(text("127.0.0.1:80"), "127.0.0.1");
        assert_eq!(text("255.255.255.255:80"), "255.255.255.255");
        assert_eq!(text("[::ffff:10.0.0.1]:80"), "10.0.0.1");
        assert_eq!(text("[2001:db8::1]:80"), "2001:db8::1");
        let longest = "[1111:2222:3333:4444:5555:6666:7777:8888]:1";
        assert_eq!(text(longest), "1111:2222:3333:4444:5555:6666:7777:8888");
    }
}
