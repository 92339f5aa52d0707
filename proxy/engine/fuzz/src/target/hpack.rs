//! Invariant: header blocks are refused, or decoded to lines, without a panic and within bounds; and
//! those lines, encoded anew, are decoded to the same ones.

use _engine::protocol::h2::hpack::Decoder;
use _engine::protocol::h2::hpack::Encoder;
use _engine::protocol::h2::hpack::HpackError;
use _engine::protocol::h2::hpack::Policy;
use _engine::protocol::h2::hpack::TABLE_BYTES_MAX;

use crate::Behaviour;
use crate::Target;

/// The target.
pub const TARGET: Target = Target {
    name: "hpack",
    check,
    tokens: TOKENS,
};

/// Checks the invariant: every block is led by its length in one byte.
pub fn check(input: &[u8]) -> Behaviour {
    let mut decoder = Decoder::default();
    let mut encoder = Encoder::default();
    let mut again = Decoder::default();
    let mut behaviours = Vec::new();
    let mut rest = input;
    while let Some((&length, after)) = rest.split_first() {
        let (block, after) = after.split_at(usize::from(length).min(after.len()));
        rest = after;
        let lines = match decode(&mut decoder, block) {
            Ok(lines) => lines,
            Err(error) => {
                behaviours.push(error.as_str());
                break;
            }
        };
        if length % 16 == 7 {
            encoder.set_peer_size_max(usize::from(length) * 20);
        }
        let policy = [Policy::Repeated, Policy::Once, Policy::Never][usize::from(length % 3)];
        let mut encoded = Vec::new();
        encoder.begin(&mut encoded);
        for (name, value) in &lines {
            encoder.field(&mut encoded, name, value, policy);
        }
        assert_eq!(decode(&mut again, &encoded), Ok(lines));
        behaviours.push(if encoded.len() < block.len() {
            "shorter"
        } else {
            "longer"
        });
    }
    Behaviour::of(behaviours)
}

type Lines = Vec<(Vec<u8>, Vec<u8>)>;

fn decode(decoder: &mut Decoder, block: &[u8]) -> Result<Lines, HpackError> {
    let mut text = Vec::new();
    let mut lines = Vec::new();
    let mut rest = block;
    decoder.begin();
    loop {
        let start = text.len();
        let before = rest.len();
        let Some(line) = decoder.next(&mut rest, &mut text)? else {
            assert!(rest.is_empty());
            return Ok(lines);
        };
        assert!(rest.len() < before && line.name_start == start);
        assert_eq!(text[line.name_end..line.value_start()], *b": ");
        assert_eq!(text[line.value_end..], *b"\r\n");
        let bytes = text.len() - start;
        assert!(bytes <= 2 * TABLE_BYTES_MAX + (before - rest.len()) * 2 + 4);
        lines.push((
            text[line.name_start..line.name_end].to_vec(),
            text[line.value_start()..line.value_end].to_vec(),
        ));
    }
}

const TOKENS: &[&str] = &[
    "\x01\x20",
    "\x20",
    "\x3f\x00",
    "\x3f\x61\x1f",
    "\x40\x01a\x01b",
    "\x41\x01b",
    "\x00\x01a\x01b",
    "\x10\x01a\x01b",
    "\x0f\x21\x01a",
    "\x7f\x00",
    "\x7f\x7f",
    "\x04\x08/a/b?c=d",
    "\x0f\x0d\x015",
    "custom-key",
    "\0",
];
