//! What sixteen bytes hold, as a bit for each of them: by vectors on x86-64, which has SSE2 whatever the machine, and
//! elsewhere by what the compiler makes of the definitions. Used by the searches of `scan`.
//!
//! Invariant of the `unsafe` here: the one pointer is that of a live array of as many bytes as are loaded.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// Bytes that are looked at together.
pub(super) const LENGTH: usize = 16;

/// So many bytes.
pub(super) type Block = [u8; LENGTH];

/// Whether a byte is a control character other than HTAB.
#[inline(always)]
pub(super) fn is_control(byte: u8) -> bool {
    (byte < b' ') & (byte != b'\t') | (byte == 0x7f)
}

/// Whether a byte is no letter, digit or `-`.
#[inline(always)]
pub(super) fn is_uncommon(byte: u8) -> bool {
    !byte.is_ascii_alphanumeric() && byte != b'-'
}

/// Where [`is_control`] holds.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) fn controls(block: &Block) -> u32 {
    // SAFETY: SSE2 is a part of x86-64; for the pointer see above.
    unsafe {
        let bytes = _mm_loadu_si128(block.as_ptr().cast());
        let low = _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x1f)), bytes);
        let tab = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(0x09));
        let delete = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(0x7f));
        _mm_movemask_epi8(_mm_or_si128(_mm_andnot_si128(tab, low), delete)) as u32
    }
}

/// Where [`is_uncommon`] holds.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) fn uncommon(block: &Block) -> u32 {
    // SAFETY: SSE2 is a part of x86-64; for the pointer see above.
    unsafe {
        let bytes = _mm_loadu_si128(block.as_ptr().cast());
        let small = _mm_or_si128(bytes, _mm_set1_epi8(0x20));
        let letter = _mm_sub_epi8(small, _mm_set1_epi8(b'a' as i8));
        let letter = _mm_cmpeq_epi8(_mm_min_epu8(letter, _mm_set1_epi8(25)), letter);
        let digit = _mm_sub_epi8(bytes, _mm_set1_epi8(b'0' as i8));
        let digit = _mm_cmpeq_epi8(_mm_min_epu8(digit, _mm_set1_epi8(9)), digit);
        let dash = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'-' as i8));
        let common = _mm_or_si128(_mm_or_si128(letter, digit), dash);
        !_mm_movemask_epi8(common) as u32 & 0xffff
    }
}

/// Where [`is_control`] holds.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
pub(super) fn controls(block: &Block) -> u32 {
    bits(block, is_control)
}

/// Where [`is_uncommon`] holds.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
pub(super) fn uncommon(block: &Block) -> u32 {
    bits(block, is_uncommon)
}

#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn bits(block: &Block, holds: impl Fn(u8) -> bool) -> u32 {
    let each = block.iter().enumerate();
    each.fold(0, |bits, (place, &byte)| {
        bits | u32::from(holds(byte)) << place
    })
}
