//! A network in CIDR form, for the question whether a client is a trusted proxy.

use std::net::IpAddr;
use std::net::Ipv6Addr;

/// A network: an address whose host bits are zero, and the length of its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    bits: u128,
    mask: u128,
}

impl Cidr {
    /// Reads `10.0.0.0/8` or `2001:db8::/32`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let expected = || format!("{text:?} is not a network; expected one like 10.0.0.0/8");
        let (address, prefix) = text.split_once('/').ok_or_else(expected)?;
        let address: IpAddr = address.parse().map_err(|_| expected())?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        // `u32::from_str` takes a leading plus sign.
        let digits = prefix.bytes().all(|byte| byte.is_ascii_digit());
        let prefix: u32 = prefix
            .parse()
            .ok()
            .filter(|_| digits)
            .ok_or_else(expected)?;
        if prefix > width {
            return Err(format!("{text:?}: the prefix is longer than {width} bits"));
        }
        // An IPv4 network is the same network inside ::ffff:0:0/96, so that one comparison
        // serves IPv4 clients of IPv4 and of dual-stack sockets alike.
        let mask = u128::MAX.checked_shl(width - prefix).unwrap_or(0);
        let bits = mapped(address);
        if bits & !mask != 0 {
            return Err(format!(
                "{text:?}: bits are set after the prefix of {prefix} bits"
            ));
        }
        Ok(Self { bits, mask })
    }

    /// Whether the network holds this address.
    #[inline]
    pub fn contains(&self, address: IpAddr) -> bool {
        mapped(address) & self.mask == self.bits
    }
}

/// An address as a number, IPv4 in its place in IPv6.
#[inline]
fn mapped(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_ipv6_mapped()),
        IpAddr::V6(address) => u128::from(Ipv6Addr::from(address.octets())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(network: &str, address: &str) -> bool {
        Cidr::parse(network)
            .unwrap()
            .contains(address.parse().unwrap())
    }

    #[test]
    fn holds_what_lies_under_the_prefix() {
        assert!(contains("10.0.0.0/8", "10.255.0.1"));
        assert!(!contains("10.0.0.0/8", "11.0.0.1"));
        assert!(contains("127.0.0.1/32", "127.0.0.1"));
        assert!(!contains("127.0.0.1/32", "127.0.0.2"));
        assert!(contains("2001:db8::/32", "2001:db8:1::1"));
        assert!(!contains("2001:db8::/32", "2001:db9::1"));
        assert!(contains("::/0", "2001:db8::1"));
    }

    #[test]
    fn an_ipv4_network_holds_mapped_clients_and_no_ipv6_ones() {
        assert!(contains("10.0.0.0/8", "::ffff:10.0.0.1"));
        assert!(contains("0.0.0.0/0", "192.0.2.1"));
        assert!(!contains("0.0.0.0/0", "2001:db8::1"));
    }

    #[test]
    fn refuses_what_is_no_network() {
        for text in [
            "",
            "10.0.0.0",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0.0/33",
            "10.0.0.1/8",
            "/8",
        ] {
            assert!(Cidr::parse(text).is_err(), "{text:?}");
        }
    }
}
