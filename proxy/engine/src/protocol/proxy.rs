//! The PROXY protocol, versions 1 and 2: what a load balancer says of the connection before its
//! first byte, as HAProxy's `proxy-protocol.txt` has it. Called by `session/front/preamble` for what is
//! received, and by `session/back/connect` for what backends are told.
//!
//! Rule: exactly the forms of the specification, and nothing that a strict reader would take for
//! something else. A preamble that cannot become valid any more is refused at its first wrong byte.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;

/// Longest preamble that is taken; a version 2 one may carry extensions, which are passed over.
pub const PREAMBLE_BYTES_MAX: usize = 4096;

/// Longest version 1 preamble, its CRLF included.
const LINE_BYTES_MAX: usize = 107;
const PREFIX: &[u8] = b"PROXY ";
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length.
const FIXED_BYTES: usize = 16;

const VERSION: u8 = 0x20;
const LOCAL: u8 = 0x0;
const PROXY: u8 = 0x1;

const UNSPECIFIED: u8 = 0x00;
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;
const UNIX_STREAM: u8 = 0x31;

/// A whole preamble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preamble {
    /// Its bytes; what comes behind them is the client's.
    pub length: usize,
    /// Who has connected to the load balancer; `None` when it speaks for itself (health checks), or
    /// cannot tell by an IP address.
    pub source: Option<SocketAddr>,
}

/// Appends the preamble of version 1 for a connection from `source` to `destination`.
pub fn write_v1(out: &mut Vec<u8>, source: SocketAddr, destination: SocketAddr) {
    let (source, destination) = same_family(source, destination);
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from, to) = (source.ip(), destination.ip());
    let (from_port, to_port) = (source.port(), destination.port());
    let line = format!("PROXY {family} {from} {to} {from_port} {to_port}\r\n");
    out.extend_from_slice(line.as_bytes());
}

/// Appends the preamble of version 2, without extensions.
pub fn write_v2(out: &mut Vec<u8>, source: SocketAddr, destination: SocketAddr) {
    out.extend_from_slice(SIGNATURE);
    out.push(VERSION | PROXY);
    match same_family(source, destination) {
        (SocketAddr::V4(from), SocketAddr::V4(to)) => {
            out.extend_from_slice(&[TCP4, 0, 12]);
            out.extend_from_slice(&from.ip().octets());
            out.extend_from_slice(&to.ip().octets());
        }
        (from, to) => {
            out.extend_from_slice(&[TCP6, 0, 36]);
            out.extend_from_slice(&v6(from.ip()).octets());
            out.extend_from_slice(&v6(to.ip()).octets());
        }
    }
    out.extend_from_slice(&source.port().to_be_bytes());
    out.extend_from_slice(&destination.port().to_be_bytes());
}

/// Both as IPv4 where both can be, else both as IPv6: a preamble knows one family at a time.
fn same_family(source: SocketAddr, destination: SocketAddr) -> (SocketAddr, SocketAddr) {
    let (from, to) = (source.ip().to_canonical(), destination.ip().to_canonical());
    let (from, to) = match from.is_ipv4() == to.is_ipv4() {
        true => (from, to),
        false => (v6(from).into(), v6(to).into()),
    };
    (
        SocketAddr::new(from, source.port()),
        SocketAddr::new(to, destination.port()),
    )
}

fn v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

/// Why something is no preamble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PreambleError {
    /// Neither version begins like this.
    NoPreamble,
    /// The rest does not follow the specification.
    Malformed,
    /// More bytes than are taken.
    TooLong,
}

impl PreambleError {
    /// A word for logs and tests.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoPreamble => "no preamble",
            Self::Malformed => "malformed",
            Self::TooLong => "too long",
        }
    }
}

/// Reads the preamble at the front of `bytes`; `None` while it is incomplete.
///
/// # Errors
/// As soon as no further byte can make it valid.
pub fn parse(bytes: &[u8]) -> Result<Option<Preamble>, PreambleError> {
    if starts(bytes, SIGNATURE) {
        return version_2(bytes);
    }
    if starts(bytes, PREFIX) {
        return version_1(bytes);
    }
    Err(PreambleError::NoPreamble)
}

/// Whether `bytes` begin with `prefix`, as far as there are any.
fn starts(bytes: &[u8], prefix: &[u8]) -> bool {
    let common = bytes.len().min(prefix.len());
    bytes[..common] == prefix[..common]
}

fn version_1(bytes: &[u8]) -> Result<Option<Preamble>, PreambleError> {
    let window = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
    let Some(end) = memchr::memchr(b'\n', window) else {
        return match window.len() {
            LINE_BYTES_MAX => Err(PreambleError::TooLong),
            _ => Ok(None),
        };
    };
    let line = window[..end]
        .strip_suffix(b"\r")
        .and_then(|line| line.strip_prefix(PREFIX))
        .and_then(|line| std::str::from_utf8(line).ok())
        .ok_or(PreambleError::Malformed)?;
    let source = match line.split_once(' ') {
        // What stands behind UNKNOWN is for nobody.
        None if line == "UNKNOWN" => None,
        Some(("UNKNOWN", _)) => None,
        Some(("TCP4", rest)) => Some(endpoints::<Ipv4Addr>(rest)?),
        Some(("TCP6", rest)) => Some(endpoints::<Ipv6Addr>(rest)?),
        _ => return Err(PreambleError::Malformed),
    };
    Ok(Some(Preamble {
        length: end + 1,
        source,
    }))
}

/// `SOURCE DESTINATION PORT PORT`, one space between any two.
fn endpoints<Address>(text: &str) -> Result<SocketAddr, PreambleError>
where
    Address: FromStr + Into<IpAddr>,
{
    let mut words = text.split(' ');
    let mut word = || words.next().ok_or(PreambleError::Malformed);
    let (source, destination) = (word()?, word()?);
    let (source_port, destination_port) = (word()?, word()?);
    if words.next().is_some() || destination.parse::<Address>().is_err() {
        return Err(PreambleError::Malformed);
    }
    port(destination_port)?;
    let source: Address = source.parse().map_err(|_| PreambleError::Malformed)?;
    Ok(SocketAddr::new(source.into(), port(source_port)?))
}

/// A port in decimal digits, without a sign or a leading zero.
fn port(text: &str) -> Result<u16, PreambleError> {
    let canonical = text == "0" || !text.starts_with(['0', '+']);
    text.parse()
        .ok()
        .filter(|_| canonical)
        .ok_or(PreambleError::Malformed)
}

fn version_2(bytes: &[u8]) -> Result<Option<Preamble>, PreambleError> {
    const COMMANDS: RangeInclusive<u8> = VERSION | LOCAL..=VERSION | PROXY;
    let known = bytes.get(SIGNATURE.len());
    if known.is_some_and(|byte| !COMMANDS.contains(byte)) {
        return Err(PreambleError::Malformed);
    }
    let Some(fixed) = bytes.get(..FIXED_BYTES) else {
        return Ok(None);
    };
    let (command, family) = (fixed[12] & 0x0f, fixed[13]);
    let length = FIXED_BYTES + usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if length > PREAMBLE_BYTES_MAX {
        return Err(PreambleError::TooLong);
    }
    let Some(block) = bytes.get(FIXED_BYTES..length) else {
        return Ok(None);
    };
    let source = match (command, family) {
        (LOCAL, _) | (PROXY, UNSPECIFIED | UNIX_STREAM) => None,
        (PROXY, TCP4) => Some(binary_source::<4>(block)?),
        (PROXY, TCP6) => Some(binary_source::<16>(block)?),
        _ => return Err(PreambleError::Malformed),
    };
    Ok(Some(Preamble { length, source }))
}

/// Source and destination of `N` bytes each, then their ports; extensions may follow.
fn binary_source<const N: usize>(block: &[u8]) -> Result<SocketAddr, PreambleError>
where
    [u8; N]: Into<IpAddr>,
{
    let (Some(source), Some(port)) = (block.first_chunk::<N>(), block.get(2 * N..2 * N + 2)) else {
        return Err(PreambleError::Malformed);
    };
    if block.len() < 2 * N + 4 {
        return Err(PreambleError::Malformed);
    }
    let port = u16::from_be_bytes([port[0], port[1]]);
    Ok(SocketAddr::new((*source).into(), port))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn v2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
        let length = u16::try_from(block.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[command, family], &length, block].concat()
    }

    fn source(bytes: &[u8]) -> Option<SocketAddr> {
        parse(bytes).unwrap().expect("a whole preamble").source
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        for (from, to, line) in [
            (
                "192.0.2.7:5",
                "198.51.100.1:443",
                "PROXY TCP4 192.0.2.7 198.51.100.1 5 443\r\n",
            ),
            (
                "[2001:db8::7]:5",
                "[::1]:80",
                "PROXY TCP6 2001:db8::7 ::1 5 80\r\n",
            ),
            (
                "[::ffff:192.0.2.7]:5",
                "127.0.0.1:80",
                "PROXY TCP4 192.0.2.7 127.0.0.1 5 80\r\n",
            ),
            (
                "192.0.2.7:5",
                "[::1]:80",
                "PROXY TCP6 ::ffff:192.0.2.7 ::1 5 80\r\n",
            ),
        ] {
            let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
            let mut one = Vec::new();
            write_v1(&mut one, from, to);
            assert_eq!(String::from_utf8(one.clone()).unwrap(), line);
            let mut two = Vec::new();
            write_v2(&mut two, from, to);
            assert_eq!(source(&one), source(&two));
            assert_eq!(parse(&two).unwrap().unwrap().length, two.len());
            assert_eq!(source(&two).unwrap().port(), 5);
        }
    }

    #[test]
    fn a_line_names_the_client() {
        let line = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\nGET / HTTP/1.1\r\n";
        let found = parse(line).unwrap().unwrap();
        assert_eq!(found.length, 45);
        assert_eq!(found.source, Some("192.0.2.7:56324".parse().unwrap()));
        let line = b"PROXY TCP6 2001:db8::7 2001:db8::1 1 65535\r\n";
        assert_eq!(source(line), Some("[2001:db8::7]:1".parse().unwrap()));
        assert_eq!(source(b"PROXY UNKNOWN\r\n"), None);
        assert_eq!(source(b"PROXY UNKNOWN ffff:f..f anything 0 0\r\n"), None);
    }

    #[test]
    fn a_block_names_the_client() {
        let four = [192, 0, 2, 7, 198, 51, 100, 1, 0xdc, 4, 1, 0xbb];
        let expected: SocketAddr = "192.0.2.7:56324".parse().unwrap();
        assert_eq!(source(&v2(0x21, TCP4, &four)), Some(expected));
        // Extensions are passed over.
        let extended = [&four[..], &[3, 0, 4, 1, 2, 3, 4]].concat();
        let bytes = v2(0x21, TCP4, &extended);
        let found = parse(&bytes).unwrap().unwrap();
        assert_eq!((found.length, found.source), (bytes.len(), Some(expected)));
        let mut six = [0; 36];
        six[15] = 1;
        six[33] = 80;
        assert_eq!(
            source(&v2(0x21, TCP6, &six)),
            Some("[::1]:80".parse().unwrap())
        );
    }

    #[test]
    fn a_load_balancer_may_speak_for_itself() {
        assert_eq!(source(&v2(0x20, UNSPECIFIED, b"")), None);
        assert_eq!(source(&v2(0x20, TCP4, b"ignored")), None);
        assert_eq!(source(&v2(0x21, UNSPECIFIED, b"")), None);
        assert_eq!(source(&v2(0x21, UNIX_STREAM, &[0; 216])), None);
    }

    #[test]
    fn what_does_not_follow_the_specification_is_refused() {
        for line in [
            "GET / HTTP/1.1\r\n",
            "proxy TCP4 1.2.3.4 1.2.3.4 1 2\r\n",
            "PROXY  TCP4 1.2.3.4 1.2.3.4 1 2\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3 1 2\r\n",
            "PROXY TCP4 ::1 ::1 1 2\r\n",
            "PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n",
            "PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n",
            "PROXY UNKNOWNS\r\n",
            "PROXY \r\n",
        ] {
            assert!(parse(line.as_bytes()).is_err(), "{line:?}");
        }
        for bytes in [
            v2(0x11, TCP4, &[0; 12]),
            v2(0x22, TCP4, &[0; 12]),
            v2(0x21, TCP4, &[0; 11]),
            v2(0x21, TCP6, &[0; 12]),
            v2(0x21, 0x12, &[0; 12]),
            v2(0x21, 0x41, &[0; 12]),
        ] {
            assert_eq!(parse(&bytes), Err(PreambleError::Malformed), "{bytes:?}");
        }
    }

    #[test]
    fn the_length_is_bounded() {
        let endless = format!("PROXY UNKNOWN {}", "x".repeat(93));
        assert_eq!(endless.len(), LINE_BYTES_MAX);
        assert_eq!(parse(endless.as_bytes()), Err(PreambleError::TooLong));
        let longest = v2(0x20, UNSPECIFIED, &[0; PREAMBLE_BYTES_MAX - FIXED_BYTES]);
        assert_eq!(parse(&longest).unwrap().unwrap().length, PREAMBLE_BYTES_MAX);
        let longer = v2(
            0x20,
            UNSPECIFIED,
            &[0; PREAMBLE_BYTES_MAX - FIXED_BYTES + 1],
        );
        assert_eq!(
            parse(&longer[..FIXED_BYTES]),
            Err(PreambleError::TooLong),
            "told by its length, before it has come"
        );
    }

    proptest! {
        /// However it arrives, the outcome is the same, and what is behind it does not matter.
        #[test]
        fn pieces_and_rests_change_nothing(
            source in any::<SocketAddr>(), port in any::<u16>(), binary in any::<bool>(),
            rest in prop::collection::vec(any::<u8>(), 0..64),
        ) {
            let whole = match (source.ip(), binary) {
                (IpAddr::V4(ip), false) =>
                    format!("PROXY TCP4 {ip} 127.0.0.1 {} {port}\r\n", source.port()).into_bytes(),
                (IpAddr::V6(ip), false) =>
                    format!("PROXY TCP6 {ip} ::1 {} {port}\r\n", source.port()).into_bytes(),
                (IpAddr::V4(ip), true) => v2(0x21, TCP4, &[
                    &ip.octets()[..], &[127, 0, 0, 1], &source.port().to_be_bytes(),
                    &port.to_be_bytes()].concat()),
                (IpAddr::V6(ip), true) => v2(0x21, TCP6, &[
                    &ip.octets()[..], &[0; 16], &source.port().to_be_bytes(),
                    &port.to_be_bytes()].concat()),
            };
            let expected = SocketAddr::new(source.ip(), source.port());
            for cut in 0..whole.len() {
                prop_assert_eq!(parse(&whole[..cut]), Ok(None));
            }
            let followed = [&whole[..], &rest].concat();
            let found = Preamble { length: whole.len(), source: Some(expected) };
            prop_assert_eq!(parse(&followed), Ok(Some(found)));
        }
    }
}
