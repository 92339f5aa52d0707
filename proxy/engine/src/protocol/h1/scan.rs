//! The search for the end of a field value: the innermost loop of the parsers.

/// The offset of the first control character other than HTAB from `at` on, or the length: where
/// a field value ends, rightly or not (RFC 9110 §5.5).
#[inline]
pub(super) fn find_control(buf: &[u8], mut at: usize) -> usize {
    loop {
        let rest = buf.get(at..).unwrap_or_default();
        at += find_control_or_tab(rest);
        if buf.get(at) != Some(&b'\t') {
            return at;
        }
        at += 1;
    }
}

#[inline]
fn find_control_or_tab(rest: &[u8]) -> usize {
    let mut at = 0;
    // Sixteen bytes without a branch, which is what the compiler has vector instructions for.
    for block in rest.chunks_exact(16) {
        if block
            .iter()
            .fold(false, |found, &byte| found | is_control(byte))
        {
            break;
        }
        at += block.len();
    }
    let rest = rest.get(at..).unwrap_or_default();
    for word in rest.chunks_exact(8) {
        let found = word
            .first_chunk()
            .map_or(0, |word| control_bits(u64::from_le_bytes(*word)));
        if found != 0 {
            return at + (found.trailing_zeros() / u8::BITS) as usize;
        }
        at += word.len();
    }
    let tail = rest.get(rest.len() & !7..).unwrap_or_default();
    at + tail.iter().take_while(|&&byte| !is_control(byte)).count()
}

#[inline(always)]
fn is_control(byte: u8) -> bool {
    (byte < b' ') | (byte == 0x7f)
}

/// The high bit of each byte of `word` that is a control character. A byte below 0x20 borrows
/// into its high bit, DEL is found as a zero of the difference; the false positives of both tricks
/// lie above the first true one only.
#[inline(always)]
fn control_bits(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let difference = word ^ (ONES * 0x7f);
    let below = word.wrapping_sub(ONES * 0x20) & !word;
    let equal = difference.wrapping_sub(ONES) & !difference;
    (below | equal) & (ONES * 0x80)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t13_a_control_character_is_found_wherever_it_stands() {
        for length in 0..40 {
            for at in 0..length {
                for byte in 0..=255 {
                    let mut buf = vec![b'x'; length];
                    buf[at] = byte;
                    let is_control = byte != b'\t' && byte.is_ascii_control();
                    let expected = if is_control { at } else { length };
                    let found = find_control(&buf, 0);
                    assert_eq!(found, expected, "{byte:#x} at {at} of {length}");
                }
            }
        }
        assert_eq!(find_control(b"\x7f\x80\x20\t", 1), 4);
        assert_eq!(find_control(b"\0", 2), 2);
    }
}
