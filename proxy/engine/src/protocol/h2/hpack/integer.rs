//! Integers with a prefix (RFC 7541 §5.1).
//!
//! Rule: a value has at most [`CONTINUATION_BYTES_MAX`] bytes behind its prefix, zeros included, so
//! that no integer overflows and none is padded without end (T05).

use super::HpackError;

/// Reads an integer whose prefix is the low `prefix_bits` of the first byte, and moves `input`
/// behind it.
#[inline]
pub(super) fn decode(input: &mut &[u8], prefix_bits: u32) -> Result<usize, HpackError> {
    let Some((&first, rest)) = input.split_first() else {
        return Err(HpackError::Truncated);
    };
    *input = rest;
    let prefix_max = (1usize << prefix_bits) - 1;
    let value = usize::from(first) & prefix_max;
    if value < prefix_max {
        return Ok(value);
    }
    decode_rest(input, value)
}

fn decode_rest(input: &mut &[u8], mut value: usize) -> Result<usize, HpackError> {
    for at in 0..CONTINUATION_BYTES_MAX {
        let Some((&byte, rest)) = input.split_first() else {
            return Err(HpackError::Truncated);
        };
        *input = rest;
        value += usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(HpackError::IntegerTooLarge)
}

/// Appends `value` with a prefix of `prefix_bits`, the bits above it being those of `first`.
#[inline]
pub(super) fn encode(out: &mut Vec<u8>, first: u8, prefix_bits: u32, value: usize) {
    let prefix_max = (1usize << prefix_bits) - 1;
    if value < prefix_max {
        out.push(first | value as u8);
        return;
    }
    out.push(first | prefix_max as u8);
    let mut rest = value - prefix_max;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Values up to 2^28: no length or index of ours comes near.
const CONTINUATION_BYTES_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(prefix_bits: u32, value: usize) -> Vec<u8> {
        let mut out = Vec::new();
        encode(&mut out, 0, prefix_bits, value);
        out
    }

    #[test]
    fn the_examples_of_rfc_7541_c_1() {
        assert_eq!(encoded(5, 10), [0x0a]);
        assert_eq!(encoded(5, 1337), [0x1f, 0x9a, 0x0a]);
        assert_eq!(encoded(8, 42), [0x2a]);
    }

    #[test]
    fn every_value_comes_back() {
        for prefix_bits in 1..=8 {
            for value in (0..2000).chain([16_383, 16_384, (1 << 28) - 1]) {
                let bytes = encoded(prefix_bits, value);
                let mut input = bytes.as_slice();
                assert_eq!(decode(&mut input, prefix_bits), Ok(value));
                assert!(input.is_empty());
            }
        }
    }

    #[test]
    fn t05_an_integer_is_bounded() {
        for (bytes, error) in [
            (&b""[..], HpackError::Truncated),
            (b"\xff", HpackError::Truncated),
            (b"\xff\xff\xff", HpackError::Truncated),
            (b"\xff\x80\x80\x80\x80\x00", HpackError::IntegerTooLarge),
            (b"\xff\xff\xff\xff\xff\x0f", HpackError::IntegerTooLarge),
        ] {
            assert_eq!(decode(&mut &*bytes, 5), Err(error), "{bytes:?}");
        }
    }
}
