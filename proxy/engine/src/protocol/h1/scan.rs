//! The search for a byte that ends something: the innermost loops of the parsers.
//!
//! The searches in fields judge a block of sixteen bytes at a time (`block`), the one in queries a word of eight,
//! without a branch for each byte. What is wanted is the first byte only, so that the tricks with words may report
//! false ones above it; what they must never do is to miss one. Tests compare each with its definition.

mod block;

use block::Block;

/// The offset of the first control character other than HTAB from `at` on, or the length: where
/// a field value ends, rightly or not (RFC 9110 §5.5).
#[inline]
pub(in crate::protocol) fn find_control(buf: &[u8], at: usize) -> usize {
    find_by_blocks(buf, at, block::controls, block::is_control)
}

/// The offset of the first byte from `at` on that is no letter, digit or `-`, or the length:
/// nearly all field names end there.
#[inline]
pub(super) fn find_uncommon(buf: &[u8], at: usize) -> usize {
    find_by_blocks(buf, at, block::uncommon, block::is_uncommon)
}

/// The offset of the first byte from `at` on for which `is_stop` holds, which `stops` says of a block, or the length.
#[inline(always)]
fn find_by_blocks(
    buf: &[u8],
    mut at: usize,
    stops: impl Fn(&Block) -> u32,
    is_stop: impl Fn(u8) -> bool,
) -> usize {
    while let Some(block) = buf.get(at..).and_then(<[u8]>::first_chunk) {
        let found = stops(block);
        if found != 0 {
            return at + found.trailing_zeros() as usize;
        }
        at += block::LENGTH;
    }
    let Some(left) = buf.len().checked_sub(at) else {
        return at;
    };
    // What is left of less than a block ends the last one.
    if let Some(block) = buf.last_chunk() {
        let found = stops(block) >> (block::LENGTH - left);
        return at + left.min(found.trailing_zeros() as usize);
    }
    let rest = buf.get(at..).unwrap_or_default();
    at + rest.iter().position(|&byte| is_stop(byte)).unwrap_or(left)
}

/// The offset of the first byte from `at` on that no query may hold, or not without an escape, or
/// the length: of visible ASCII `"`, `#`, `<`, `>`, `\`, `^`, a backtick and the braces and the bar.
#[inline]
pub(super) fn find_unplain_in_query(buf: &[u8], at: usize) -> usize {
    at + find(
        buf.get(at..).unwrap_or_default(),
        is_unplain_in_query,
        |word| {
            // Neighbours that differ in one bit are told at once: `"` `#`, `<` `>`, `\` `^`.
            let ascii = word & (ONES * 0x7f);
            word | below(word, b'!')
                | equal(word & !ONES, b'"')
                | equal(word & !(ONES * 2), b'<')
                | equal(word & !(ONES * 2), b'\\')
                | equal(word, b'`')
                | between(ascii, b'{', b'}')
                | equal(word, 0x7f)
        },
    )
}

fn is_unplain_in_query(byte: u8) -> bool {
    !byte.is_ascii_graphic()
        || matches!(
            byte,
            b'"' | b'#' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{'..=b'}'
        )
}

/// The offset of the first byte for which `is_stop` holds, or the length. `stops` says the same
/// of a word in the high bits of its bytes, and may be wrong above the first one.
#[inline(always)]
fn find(rest: &[u8], is_stop: impl Fn(u8) -> bool, stops: impl Fn(u64) -> u64) -> usize {
    let mut at = 0;
    let mut words = rest.chunks_exact(8);
    for bytes in words.by_ref() {
        let word = bytes
            .first_chunk()
            .map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let found = stops(word) & HIGHS;
        if found != 0 {
            return at + (found.trailing_zeros() / u8::BITS) as usize;
        }
        at += bytes.len();
    }
    let tail = words.remainder();
    at + tail
        .iter()
        .position(|&byte| is_stop(byte))
        .unwrap_or(tail.len())
}

/// The bytes below `limit`, which is 0x80 at most: they borrow into their high bit.
#[inline(always)]
fn below(word: u64, limit: u8) -> u64 {
    word.wrapping_sub(ONES * u64::from(limit)) & !word
}

/// The bytes that are `byte`: those whose difference is 0 borrow into their high bit.
#[inline(always)]
fn equal(word: u64, byte: u8) -> u64 {
    below(word ^ (ONES * u64::from(byte)), 1)
}

/// The bytes from `first` to `last`, exactly; all bytes and both bounds are ASCII.
#[inline(always)]
fn between(word: u64, first: u8, last: u8) -> u64 {
    let from_first = word + ONES * u64::from(0x80 - first);
    let after_last = word + ONES * u64::from(0x7f - last);
    from_first & !after_last
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = ONES * 0x80;

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares a search with its definition, for every pair of neighbours, since the word tricks
    /// borrow from one byte to the next, at each place that a block treats in its own way.
    fn check(found: impl Fn(&[u8], usize) -> usize, is_stop: impl Fn(u8) -> bool) {
        for (length, at) in [(8, 3), (9, 7), (26, 15), (26, 20)] {
            let mut buf = vec![b'x'; length];
            for pair in 0..=u16::MAX {
                buf[at..at + 2].copy_from_slice(&pair.to_be_bytes());
                let expected = buf.iter().position(|&byte| is_stop(byte));
                assert_eq!(found(&buf, 0), expected.unwrap_or(length), "{buf:?}");
            }
        }
        assert_eq!(found(b"\0xxx", 1), 4);
        assert_eq!(found(b"xx", 3), 3);
    }

    #[test]
    fn t13_a_control_character_is_found_wherever_it_stands() {
        check(find_control, |byte| {
            (byte < b' ' && byte != b'\t') || byte == 0x7f
        });
    }

    #[test]
    fn t13_the_end_of_a_name_is_found_wherever_it_stands() {
        check(find_uncommon, |byte| {
            !byte.is_ascii_alphanumeric() && byte != b'-'
        });
    }

    #[test]
    fn t18_the_end_of_a_query_is_found_wherever_it_stands() {
        check(find_unplain_in_query, |byte| {
            !(b'!'..=b'~').contains(&byte) || b"\"#<>\\^`{|}".contains(&byte)
        });
    }
}
