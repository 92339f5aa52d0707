//! Invariant: bytes are refused, wait for more, or are a preamble that ends within them; and then every
//! shorter part waits, and nothing behind it changes what it says.

use _engine::protocol::proxy;
use _engine::protocol::proxy::PREAMBLE_BYTES_MAX;

use crate::Behaviour;
use crate::Target;

/// The target.
pub const TARGET: Target = Target {
    name: "proxy",
    check,
    tokens: TOKENS,
};

/// Checks the invariant.
pub fn check(input: &[u8]) -> Behaviour {
    let preamble = match proxy::parse(input) {
        Err(error) => return Behaviour::of(vec![error.as_str()]),
        Ok(None) => {
            assert!(input.len() < PREAMBLE_BYTES_MAX);
            return Behaviour::of(vec!["waits"]);
        }
        Ok(Some(preamble)) => preamble,
    };
    assert!(preamble.length <= input.len().min(PREAMBLE_BYTES_MAX));
    let whole = &input[..preamble.length];
    for length in super::arrivals(preamble.length - 1) {
        assert_eq!(proxy::parse(&whole[..length]), Ok(None));
    }
    assert_eq!(proxy::parse(whole), Ok(Some(preamble)));
    Behaviour::of(vec![match preamble.source {
        None => "nobody",
        Some(source) if source.is_ipv4() => "IPv4",
        Some(_) => "IPv6",
    }])
}

const TOKENS: &[&str] = &[
    "PROXY ",
    "TCP4 ",
    "TCP6 ",
    "UNKNOWN",
    "192.0.2.7 ",
    "2001:db8::7 ",
    "56324 ",
    "443",
    "\r\n",
    "\r\n\r\n\0\r\nQUIT\n",
    "\x20",
    "\x21",
    "\x11",
    "\x31",
    "\0\x0c",
    "\0\x24",
    "\x03\0\x04abcd",
    "\0\0\0\0\0\0\0\0\0\0\0\0",
];
