//! Who asks, as far as those tell whose word counts: the peer, or whom a trusted proxy names.
//!
//! Called by the stages (`facts`) and by the routing table's view of a request (`session/exchange`).

use std::net::{IpAddr, Ipv6Addr};

use crate::protocol::h1::{FieldId, RequestHead};
use crate::state::listener::ListenerSettings;

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asking {
    /// The nearest to the client of all whose addresses are told: itself, if it is one of them.
    pub told: IpAddr,
    /// Whether that is the client. A trusted proxy may have said something that is no address (`unknown`): then
    /// nobody knows where the request comes from, least of all that it comes from that proxy's network.
    pub is_client: bool,
}

impl Asking {
    /// Of a request: the last of those in `X-Forwarded-For`, or in `Forwarded` where only that is said, who
    /// is none of the trusted proxies, if the peer is one of these; or else the peer. What stands before that
    /// one is anybody's word (T22).
    #[must_use]
    pub fn of(head: &RequestHead, bytes: &[u8], listener: &ListenerSettings, peer: IpAddr) -> Self {
        let mut asking = Self {
            told: peer,
            is_client: true,
        };
        if !listener.trusts(peer) {
            return asking;
        }
        // Empty members are none (RFC 9110 §5.6.1.2).
        let members = |id: FieldId| {
            let lines = head.fields.iter().rev();
            let lines = lines.filter(move |field| field.id == id && !field.drop);
            let members =
                lines.flat_map(|field| field.value.of(bytes).rsplit(|&byte| byte == b','));
            members
                .map(<[u8]>::trim_ascii)
                .filter(|member| !member.is_empty())
        };
        for member in members(FieldId::XForwardedFor) {
            if asking.goes_on(node(member), listener) {
                continue;
            }
            return asking;
        }
        if members(FieldId::XForwardedFor).next().is_none() {
            for member in members(FieldId::Forwarded) {
                if !asking.goes_on(parameter(member, b"for").and_then(node), listener) {
                    break;
                }
            }
        }
        asking
    }

    /// Takes one more hop, nearer to the client: whether there may be another one behind it.
    fn goes_on(&mut self, told: Option<IpAddr>, listener: &ListenerSettings) -> bool {
        match told {
            Some(address) => {
                self.told = address;
                listener.trusts(address)
            }
            None => {
                self.is_client = false;
                false
            }
        }
    }

    /// The client's address, if it is known.
    #[must_use]
    pub fn client(self) -> Option<IpAddr> {
        self.is_client.then_some(self.told)
    }
}

/// The value of a parameter of an element of `Forwarded` (RFC 7239 §4). A quoted one with a comma or a
/// semicolon in it is read as something else, which is no address.
pub fn parameter<'a>(element: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let mut pairs = element.split(|&byte| byte == b';');
    pairs.find_map(|pair| {
        let at = memchr::memchr(b'=', pair)?;
        let (known, value) = (pair.get(..at)?, pair.get(at + 1..)?);
        let is_it = known.trim_ascii().eq_ignore_ascii_case(name);
        is_it.then_some(value.trim_ascii())
    })
}

/// An address with or without a port, in quotes or not: as RFC 7239 §6 has it, and as balancers write it
/// (`192.0.2.1:8080`, `[2001:db8::1]:443`, `2001:db8::1`).
fn node(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let quoted = text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'));
    let text = quoted.unwrap_or(text);
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let address: Ipv6Addr = address.parse().ok()?;
        let is_port = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        return is_port.then_some(IpAddr::V6(address));
    }
    let (address, port) = text.split_once(':')?;
    let address = address.parse().ok()?;
    is_port(port).then_some(IpAddr::V4(address))
}

/// A number, or a name that hides one (RFC 7239 §6.3).
fn is_port(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    text.parse::<u16>().is_ok() || (text.starts_with('_') && text.bytes().all(is_word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_balancers_write_them() {
        let read = [
            ("192.0.2.1", "192.0.2.1"),
            ("192.0.2.1:8080", "192.0.2.1"),
            ("\"192.0.2.1:8080\"", "192.0.2.1"),
            ("192.0.2.1:_hidden", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("\"[2001:db8::1]:443\"", "2001:db8::1"),
        ];
        for (text, wanted) in read {
            assert_eq!(node(text.as_bytes()), wanted.parse().ok(), "{text}");
        }
        for text in [
            "",
            "unknown",
            "_hidden",
            "192.0.2.1:",
            "192.0.2.1:x",
            "192.0.2.1:99999",
            "[192.0.2.1]",
            "[2001:db8::1]443",
            "[2001:db8::1",
            "192.0.2.1 ",
            "\"192.0.2.1",
            "192.0.2",
            "fe80::1%eth0",
        ] {
            assert_eq!(node(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_parameter_is_found_in_any_case_and_place() {
        let element = b" by=_x ; FOR=\"[2001:db8::1]:1\" ;proto=https";
        assert_eq!(
            parameter(element, b"for"),
            Some(&b"\"[2001:db8::1]:1\""[..])
        );
        assert_eq!(parameter(element, b"host"), None);
    }
}
