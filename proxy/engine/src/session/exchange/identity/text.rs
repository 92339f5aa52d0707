//! Text of a client's IP address without an allocation a request.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

/// Longest text of an IPv6 address, as an IPv4-mapped one.
const IP_TEXT_BYTES_MAX: usize = 45;

/// An IP address as text.
pub(in crate::session::exchange) struct AddressText {
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
                for octet in v4.octets() {
                    let (written, length) = OCTETS[usize::from(octet)];
                    if let Some(room) = text.bytes.get_mut(text.length..text.length + 4) {
                        room.copy_from_slice(&written);
                    }
                    text.length += usize::from(length);
                }
                // Behind the last one stands no dot.
                text.length -= 1;
            }
            IpAddr::V6(v6) => {
                let _ = write!(text, "{v6}");
            }
        }
        text
    }

    pub(in crate::session) fn ip(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// Every octet with a dot behind it, and how long that is.
static OCTETS: [([u8; 4], u8); 256] = {
    let mut table = [([0; 4], 0); 256];
    let mut octet = 0;
    while octet < 256 {
        let digits = [octet / 100, octet / 10 % 10, octet % 10];
        let length = if octet > 99 {
            3
        } else if octet > 9 {
            2
        } else {
            1
        };
        let mut at = 0;
        while at < length {
            table[octet].0[at] = b'0' + digits[3 - length + at] as u8;
            at += 1;
        }
        table[octet].0[length] = b'.';
        table[octet].1 = length as u8 + 1;
        octet += 1;
    }
    table
};

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
        let text = |peer: &str| String::from_utf8(text(peer)).unwrap();
        for octet in 0..=255 {
            assert_eq!(
                text(&format!("{octet}.0.10.{octet}:80")),
                format!("{octet}.0.10.{octet}")
            );
        }
        assert_eq!(text("127.0.0.1:80"), "127.0.0.1");
        assert_eq!(text("255.255.255.255:80"), "255.255.255.255");
        assert_eq!(text("[::ffff:10.0.0.1]:80"), "10.0.0.1");
        assert_eq!(text("[2001:db8::1]:80"), "2001:db8::1");
        let longest = "[1111:2222:3333:4444:5555:6666:7777:8888]:1";
        assert_eq!(text(longest), "1111:2222:3333:4444:5555:6666:7777:8888");
    }
}
