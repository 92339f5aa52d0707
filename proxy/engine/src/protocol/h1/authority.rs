//! The authority of a request: the one host that is matched, logged and forwarded (T18).
//!
//! Stricter than RFC 3986 §3.2.2: a name is made of letters, digits, `-`, `.` and `_`. The other
//! characters of `reg-name` are valid in no DNS name, and `,` `;` `%` and their like are where
//! two readers come to differ.

use std::io::Write;
use std::net::Ipv6Addr;

use super::Span;
use super::Text;
use super::error::Reject;

/// `host [":" port]`, normalised: lower case, no trailing dot, no empty port.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Authority {
    pub(super) text: Text,
    /// The length of the host in `text`; the brackets of an IPv6 address belong to it.
    pub(super) host_length: usize,
    pub(super) port: Option<u16>,
}

impl Authority {
    pub(super) fn host<'a>(&self, buf: &'a [u8], scratch: &'a [u8]) -> &'a [u8] {
        let text = self.text.of(buf, scratch);
        text.get(..self.host_length).unwrap_or(text)
    }

    /// Whether both mean the same place, a port that is left out being that of the scheme.
    pub(super) fn is_same(&self, other: &Self, port: u16, buf: &[u8], scratch: &[u8]) -> bool {
        self.host(buf, scratch) == other.host(buf, scratch)
            && self.port.unwrap_or(port) == other.port.unwrap_or(port)
    }
}

/// Parses the authority at `span` of `buf`; what has to be rewritten is appended to `scratch`.
pub(super) fn parse_authority(
    buf: &[u8],
    span: Span,
    scratch: &mut Vec<u8>,
) -> Result<Authority, Reject> {
    let raw = span.of(buf);
    if raw.first() == Some(&b'[') {
        return parse_ipv6(raw, scratch);
    }
    let mut host_length = 0;
    let mut kinds = 0;
    let mut adjacent = 0;
    // As if a dot came before: an empty label is refused at the start as well.
    let mut before = DOT;
    for &byte in raw {
        let kind = HOST[usize::from(byte)];
        if kind == NO_HOST {
            break;
        }
        kinds |= kind;
        adjacent |= kind & before;
        before = kind;
        host_length += 1;
    }
    if adjacent & DOT != 0 {
        return Err(Reject::InvalidHost);
    }
    let (host, rest) = raw.split_at(host_length);
    let host = host.strip_suffix(b".").unwrap_or(host);
    if host.is_empty() || host.len() > HOST_BYTES_MAX {
        return Err(Reject::InvalidHost);
    }
    let port = parse_port(rest)?;
    if kinds & UPPER == 0 && host.len() == host_length && is_normal_port(rest) {
        return Ok(Authority {
            text: Text::Received(span),
            host_length,
            port,
        });
    }
    let start = scratch.len();
    scratch.extend(host.iter().map(u8::to_ascii_lowercase));
    Ok(finish(scratch, start, port))
}

/// `"[" IPv6address "]"`; zones (RFC 6874) and future versions have no place in `Host`.
fn parse_ipv6(raw: &[u8], scratch: &mut Vec<u8>) -> Result<Authority, Reject> {
    let close = memchr::memchr(b']', raw).ok_or(Reject::InvalidHost)?;
    let inner = raw.get(1..close).unwrap_or_default();
    let rest = raw.get(close + 1..).unwrap_or_default();
    let address: Ipv6Addr = std::str::from_utf8(inner)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or(Reject::InvalidHost)?;
    let port = parse_port(rest)?;
    let start = scratch.len();
    // One spelling for each address (RFC 5952). Writing to a Vec cannot fail.
    let _ = write!(scratch, "[{address}]");
    Ok(finish(scratch, start, port))
}

fn finish(scratch: &mut Vec<u8>, start: usize, port: Option<u16>) -> Authority {
    let host_length = scratch.len() - start;
    if let Some(port) = port {
        scratch.push(b':');
        scratch.extend_from_slice(itoa::Buffer::new().format(port).as_bytes());
    }
    Authority {
        text: Text::Rewritten(Span::new(start, scratch.len())),
        host_length,
        port,
    }
}

/// Parses `[":" *DIGIT]` (RFC 3986 §3.2.3); an empty port is no port.
fn parse_port(rest: &[u8]) -> Result<Option<u16>, Reject> {
    let digits = match rest.split_first() {
        None => return Ok(None),
        Some((b':', digits)) => digits,
        Some(_) => return Err(Reject::InvalidHost),
    };
    if digits.len() > PORT_DIGITS_MAX {
        return Err(Reject::InvalidHost);
    }
    if digits.is_empty() {
        return Ok(None);
    }
    let mut port: u32 = 0;
    for byte in digits {
        if !byte.is_ascii_digit() {
            return Err(Reject::InvalidHost);
        }
        port = port * 10 + u32::from(byte - b'0');
    }
    match u16::try_from(port) {
        Ok(port) => Ok(Some(port)),
        Err(_) => Err(Reject::InvalidHost),
    }
}

fn is_normal_port(rest: &[u8]) -> bool {
    match rest {
        [] | [b':', b'0'] => true,
        [b':', first, ..] => *first != b'0',
        _ => false,
    }
}

/// Bytes of the longest name (RFC 1035 §2.3.4, as text without the trailing dot).
const HOST_BYTES_MAX: usize = 253;

/// 65535 has five.
pub(super) const PORT_DIGITS_MAX: usize = 5;

/// A byte that ends the host; only a colon may.
const NO_HOST: u8 = 0;
const LOWER: u8 = 1;
const UPPER: u8 = 2;
const DOT: u8 = 4;

static HOST: [u8; 256] = {
    let mut table = [NO_HOST; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = match byte as u8 {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => LOWER,
            b'A'..=b'Z' => UPPER,
            b'.' => DOT,
            _ => NO_HOST,
        };
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(raw: &str) -> Result<(String, String, Option<u16>), Reject> {
        let mut scratch = Vec::new();
        let buf = raw.as_bytes();
        let parsed = parse_authority(buf, Span::new(0, buf.len()), &mut scratch)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let whole = text(parsed.text.of(buf, &scratch));
        Ok((whole, text(parsed.host(buf, &scratch)), parsed.port))
    }

    #[test]
    fn t18_a_host_has_one_spelling() {
        for (raw, whole, host, port) in [
            ("a", "a", "a", None),
            (
                "shop.example:8080",
                "shop.example:8080",
                "shop.example",
                Some(8080),
            ),
            ("Shop.EXAMPLE", "shop.example", "shop.example", None),
            ("shop.example.", "shop.example", "shop.example", None),
            (
                "shop.example.:80",
                "shop.example:80",
                "shop.example",
                Some(80),
            ),
            ("a:", "a", "a", None),
            ("a:0", "a:0", "a", Some(0)),
            ("a:00080", "a:80", "a", Some(80)),
            (
                "192.0.2.1:65535",
                "192.0.2.1:65535",
                "192.0.2.1",
                Some(65535),
            ),
            ("[::1]", "[::1]", "[::1]", None),
            ("[0:0::0:1]:443", "[::1]:443", "[::1]", Some(443)),
            ("[2001:DB8::1]:", "[2001:db8::1]", "[2001:db8::1]", None),
        ] {
            assert_eq!(
                parse(raw),
                Ok((whole.to_owned(), host.to_owned(), port)),
                "{raw:?}"
            );
        }
    }

    #[test]
    fn t18_anything_else_is_refused() {
        for raw in [
            "",
            ".",
            "..",
            ".a",
            "a..b",
            "a..",
            ":80",
            "a:b",
            "a:65536",
            "a:000080",
            "a:-1",
            "a:+80",
            "a:80:80",
            "user@a",
            "user:pw@a",
            "a/b",
            "a b",
            "a,b",
            "a%41",
            "a\\b",
            "a?b",
            "a#b",
            "[::1",
            "::1",
            "[::1]80",
            "[::1%25eth0]",
            "[v1.a]",
            "[]",
            "[1.2.3.4]",
            "a[::1]",
            "ä",
        ] {
            assert_eq!(parse(raw), Err(Reject::InvalidHost), "{raw:?}");
        }
        assert!(parse(&"a".repeat(253)).is_ok());
        assert!(parse(&"a".repeat(254)).is_err());
    }
}
