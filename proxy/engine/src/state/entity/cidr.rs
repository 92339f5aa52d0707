//! Networks in CIDR form, for the question whether a client is in one: a trusted proxy, or one who may come.

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

/// Many networks, as the ranges that they cover together: looked up by halving.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    /// First and last address of each, in order, none touching the next.
    ranges: Box<[(u128, u128)]>,
}

impl Networks {
    /// Reads some networks.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let mut ranges = Vec::new();
        for text in texts {
            let network = Cidr::parse(text)?;
            ranges.push((network.bits, network.bits | !network.mask));
        }
        ranges.sort_unstable();
        let mut joined: Vec<(u128, u128)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match joined.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => {
                    before.1 = before.1.max(last);
                }
                _ => joined.push((first, last)),
            }
        }
        Ok(Self {
            ranges: joined.into(),
        })
    }

    /// Whether one of them holds this address.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = mapped(address);
        let behind = self.ranges.partition_point(|(first, _)| *first <= address);
        behind
            .checked_sub(1)
            .is_some_and(|at| address <= self.ranges[at].1)
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
    use proptest::prelude::*;

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

    proptest! {
        #[test]
        fn many_hold_what_one_of_them_holds(
            networks in proptest::collection::vec((any::<[u8; 4]>(), 0u32..=32), 0..6),
            sixes in proptest::collection::vec((any::<[u8; 16]>(), 0u32..=128), 0..3),
            others in proptest::collection::vec(any::<[u8; 4]>(), 4),
        ) {
            let mut texts = Vec::new();
            let mut asked: Vec<IpAddr> = others.iter().map(|bytes| (*bytes).into()).collect();
            for (bytes, prefix) in &networks {
                let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
                let bits = u32::from_be_bytes(*bytes) & mask;
                texts.push(format!("{}/{prefix}", std::net::Ipv4Addr::from(bits)));
                let last = bits | !mask;
                let near = [bits, bits.wrapping_sub(1), last, last.wrapping_add(1)];
                asked.extend(near.map(|bits| IpAddr::from(std::net::Ipv4Addr::from(bits))));
            }
            for (bytes, prefix) in &sixes {
                let mask = u128::MAX.checked_shl(128 - prefix).unwrap_or(0);
                let bits = u128::from_be_bytes(*bytes) & mask;
                texts.push(format!("{}/{prefix}", Ipv6Addr::from(bits)));
                let near = [bits, bits.wrapping_sub(1), (bits | !mask).wrapping_add(1)];
                asked.extend(near.map(|bits| IpAddr::from(Ipv6Addr::from(bits))));
            }
            let all = Networks::parse(texts.iter().map(String::as_str)).unwrap();
            for address in asked {
                let by_one = texts.iter().any(|text| Cidr::parse(text).unwrap().contains(address));
                prop_assert_eq!(all.contains(address), by_one, "{} in {:?}", address, texts);
            }
        }
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
