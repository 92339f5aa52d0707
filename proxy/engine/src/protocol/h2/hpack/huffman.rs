//! The Huffman code of HPACK (RFC 7541 §5.2, appendix B).
//!
//! The code is canonical: its lengths alone are given, all tables are computed from them when this
//! is compiled. A look-up takes [`FAST_BITS`] and gives up to two characters, as each waits for the
//! one before; rare characters have longer codes, which are found by length.

use super::HpackError;

/// Appends what `input` encodes.
pub(super) fn decode(input: &[u8], out: &mut Vec<u8>) -> Result<(), HpackError> {
    let start = out.len();
    // The shortest code has five bits, and the last character may be written as a pair.
    out.resize(start + input.len() * 8 / 5 + 2, 0);
    let room = out.get_mut(start..).unwrap_or_default();
    let decoded = decode_into(input, room);
    out.truncate(start + decoded.unwrap_or_default());
    decoded.map(|_| ())
}

fn decode_into(mut rest: &[u8], room: &mut [u8]) -> Result<usize, HpackError> {
    let mut window = Window::default();
    let mut at = 0;
    loop {
        window.refill(&mut rest);
        while window.bits >= FAST_BITS {
            let fast = window.peek();
            if fast.count() == 0 {
                if window.bits < LONGEST_BITS && !rest.is_empty() {
                    break;
                }
                put(room, at, [window.take_long()?, 0]);
                at += 1;
                continue;
            }
            put(room, at, fast.symbols());
            at += fast.count();
            window.skip(fast.bits());
        }
        if rest.is_empty() {
            break;
        }
    }
    // What is left is less than a look-up, and less than a byte of ones at the end of all (§5.2).
    while !window.is_padding() {
        let fast = window.peek();
        let [symbol, _] = fast.symbols();
        let bits = u32::from(LENGTHS[usize::from(symbol)]);
        if fast.count() == 0 || bits > window.bits {
            return Err(HpackError::InvalidHuffman);
        }
        put(room, at, [symbol, 0]);
        at += 1;
        window.skip(bits);
    }
    Ok(at)
}

/// Writes two characters, the second of which may be written over.
#[inline(always)]
fn put(room: &mut [u8], at: usize, symbols: [u8; 2]) {
    if let Some(place) = room.get_mut(at..at + 2) {
        place.copy_from_slice(&symbols);
    }
}

/// The next bits, the first one highest. Below `bits` there are zeros, or what comes next.
#[derive(Default)]
struct Window {
    acc: u64,
    bits: u32,
}

impl Window {
    /// Fills up to 56 bits at least, or to the end.
    #[inline(always)]
    fn refill(&mut self, rest: &mut &[u8]) {
        if let Some(word) = rest.first_chunk::<8>() {
            let bytes = (63 - self.bits) / 8;
            self.acc |= u64::from_be_bytes(*word) >> self.bits;
            self.bits += bytes * 8;
            *rest = rest.get(bytes as usize..).unwrap_or_default();
            return;
        }
        let room = ((64 - self.bits) / 8) as usize;
        let (taken, left) = rest.split_at(room.min(rest.len()));
        let mut word = 0;
        for &byte in taken {
            word = word << 8 | u64::from(byte);
        }
        let bits = taken.len() as u32 * 8;
        if bits > 0 {
            self.acc &= !(u64::MAX >> self.bits);
            self.acc |= word << (64 - bits) >> self.bits;
            self.bits += bits;
        }
        *rest = left;
    }

    #[inline(always)]
    fn peek(&self) -> Fast {
        FAST[(self.acc >> (64 - FAST_BITS)) as usize & (FAST.len() - 1)]
    }

    #[inline(always)]
    fn skip(&mut self, bits: u32) {
        self.acc <<= bits;
        self.bits -= bits;
    }

    /// Whether all is padding: less than a byte of ones.
    fn is_padding(&self) -> bool {
        self.bits < 8 && self.acc | u64::MAX >> self.bits == u64::MAX
    }

    #[cold]
    fn take_long(&mut self) -> Result<u8, HpackError> {
        for length in FAST_BITS + 1..=LONGEST_BITS.min(self.bits) {
            let code = (self.acc >> (64 - length)) as u32;
            let of_length = LONG[length as usize];
            let place = code.wrapping_sub(of_length.first);
            if code >= of_length.first && place < of_length.count {
                let symbol = SORTED[(of_length.offset + place) as usize];
                self.skip(length);
                // The end-of-string symbol never stands in a string (§5.2).
                return u8::try_from(symbol).map_err(|_| HpackError::InvalidHuffman);
            }
        }
        Err(HpackError::InvalidHuffman)
    }
}

/// The bytes that the code of `text` has.
#[inline]
pub(super) fn encoded_length(text: &[u8]) -> usize {
    let bits: usize = text
        .iter()
        .map(|&byte| usize::from(LENGTHS[usize::from(byte)]))
        .sum();
    bits.div_ceil(8)
}

/// Appends the code of `text`.
pub(super) fn encode(text: &[u8], out: &mut Vec<u8>) {
    let mut acc: u64 = 0;
    let mut bits = 0;
    for &byte in text {
        let (code, length) = CODES[usize::from(byte)];
        acc = acc << length | u64::from(code);
        bits += u32::from(length);
        if bits >= 32 {
            bits -= 32;
            out.extend_from_slice(&((acc >> bits) as u32).to_be_bytes());
        }
    }
    let padding = (8 - bits % 8) % 8;
    acc = acc << padding | ((1 << padding) - 1);
    bits += padding;
    let last = (acc << (64 - bits).min(63)).to_be_bytes();
    out.extend_from_slice(last.get(..bits as usize / 8).unwrap_or_default());
}

/// Bits that are looked up at once: two of the most frequent characters, or any but rare ones.
const FAST_BITS: u32 = 11;

const LONGEST_BITS: u32 = 30;

/// Number of symbols: all bytes, and the end of the string.
const SYMBOLS: usize = 257;

/// RFC 7541, appendix B: the bits of each symbol.
static LENGTHS: [u8; SYMBOLS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5,
    5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6,
    6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22,
    23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22,
    21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20,
    22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19,
    21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22,
    22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];

/// The codes of one length.
#[derive(Clone, Copy)]
struct OfLength {
    /// The lowest code.
    first: u32,
    count: u32,
    /// Where its symbol stands in [`SORTED`].
    offset: u32,
}

/// All symbols by code.
static SORTED: [u16; SYMBOLS] = canonical().1;

static LONG: [OfLength; LONGEST_BITS as usize + 1] = canonical().0;

/// Code and length of each symbol.
static CODES: [(u32, u8); SYMBOLS] = {
    let (lengths, sorted) = canonical();
    let mut codes = [(0, 0); SYMBOLS];
    let mut length = 1;
    while length <= LONGEST_BITS as usize {
        let of_length = lengths[length];
        let mut place = 0;
        while place < of_length.count {
            let symbol = sorted[(of_length.offset + place) as usize] as usize;
            codes[symbol] = (of_length.first + place, length as u8);
            place += 1;
        }
        length += 1;
    }
    codes
};

/// What the next [`FAST_BITS`] stand for: one or two symbols, their bits, and how many they are,
/// in one word, since nothing goes on before it is loaded. 0: a longer code.
#[derive(Clone, Copy)]
struct Fast(u32);

impl Fast {
    const fn new(symbols: [u8; 2], bits: u8, count: u8) -> Self {
        Self(u32::from_le_bytes([symbols[0], symbols[1], bits, count]))
    }

    #[inline(always)]
    fn symbols(self) -> [u8; 2] {
        (self.0 as u16).to_le_bytes()
    }

    #[inline(always)]
    fn bits(self) -> u32 {
        self.0 >> 16 & 15
    }

    #[inline(always)]
    fn count(self) -> usize {
        (self.0 >> 24) as usize
    }
}

static FAST: [Fast; 1 << FAST_BITS] = {
    let singles = singles();
    let mut table = [Fast(0); 1 << FAST_BITS];
    let mut at = 0;
    while at < table.len() {
        let (symbol, bits) = singles[at];
        if bits > 0 {
            // What follows has zeros behind it here; only what is within the bits counts.
            let (next, next_bits) = singles[(at << bits) & (table.len() - 1)];
            table[at] = if next_bits > 0 && bits + next_bits <= FAST_BITS as u8 {
                Fast::new([symbol, next], bits + next_bits, 2)
            } else {
                Fast::new([symbol, 0], bits, 1)
            };
        }
        at += 1;
    }
    table
};

/// For all values of [`FAST_BITS`] the first symbol and its bits; 0 for longer codes.
const fn singles() -> [(u8, u8); 1 << FAST_BITS] {
    let mut table = [(0, 0); 1 << FAST_BITS];
    let (lengths, sorted) = canonical();
    let mut next = 0;
    let mut length = 1;
    while length <= FAST_BITS as usize {
        let mut place = 0;
        while place < lengths[length].count {
            let symbol = sorted[(lengths[length].offset + place) as usize] as u8;
            let mut copies = 1 << (FAST_BITS as usize - length);
            while copies > 0 {
                table[next] = (symbol, length as u8);
                next += 1;
                copies -= 1;
            }
            place += 1;
        }
        length += 1;
    }
    table
}

const fn canonical() -> ([OfLength; LONGEST_BITS as usize + 1], [u16; SYMBOLS]) {
    let none = OfLength {
        first: 0,
        count: 0,
        offset: 0,
    };
    let mut lengths = [none; LONGEST_BITS as usize + 1];
    let mut sorted = [0; SYMBOLS];
    let mut code = 0;
    let mut offset = 0;
    let mut length = 1;
    while length <= LONGEST_BITS as usize {
        code <<= 1;
        lengths[length].first = code;
        lengths[length].offset = offset;
        let mut symbol = 0;
        while symbol < SYMBOLS {
            if LENGTHS[symbol] as usize == length {
                sorted[offset as usize] = symbol as u16;
                offset += 1;
                code += 1;
                lengths[length].count += 1;
            }
            symbol += 1;
        }
        length += 1;
    }
    (lengths, sorted)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(text: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        encode(text, &mut out);
        assert_eq!(out.len(), encoded_length(text));
        out
    }

    fn decoded(code: &[u8]) -> Result<Vec<u8>, HpackError> {
        let mut out = b"before".to_vec();
        decode(code, &mut out)?;
        Ok(out.split_off(b"before".len()))
    }

    #[test]
    fn the_codes_of_rfc_7541_appendix_b() {
        for (symbol, code, length) in [
            (0, 0x1ff8, 13),
            (10, 0x3fff_fffc, 30),
            (usize::from(b'0'), 0, 5),
            (usize::from(b'a'), 3, 5),
            (usize::from(b'~'), 0x1ffd, 13),
            (128, 0xf_ffe6, 20),
            (255, 0x3ff_ffee, 26),
            (256, 0x3fff_ffff, 30),
        ] {
            assert_eq!(CODES[symbol], (code, length), "{symbol}");
        }
    }

    #[test]
    fn the_strings_of_rfc_7541_appendix_c() {
        let code = b"\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff";
        assert_eq!(encoded(b"www.example.com"), code);
        assert_eq!(decoded(code).unwrap(), b"www.example.com");
        assert_eq!(encoded(b"no-cache"), b"\xa8\xeb\x10\x64\x9c\xbf");
        assert_eq!(decoded(b"").unwrap(), b"");
    }

    #[test]
    fn t05_padding_is_less_than_a_byte_of_ones() {
        for bad in [
            // "a", then a byte of ones.
            &b"\x1f\xff"[..],
            b"\xff",
            b"\xff\xff\xff\xff",
            // Padding of zeros.
            b"\x18",
            // The end-of-string symbol, then padding.
            b"\xff\xff\xff\xff\xff",
        ] {
            assert_eq!(decoded(bad), Err(HpackError::InvalidHuffman), "{bad:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_string_comes_back(text in proptest::collection::vec(any::<u8>(), 0..100)) {
            prop_assert_eq!(decoded(&encoded(&text)).unwrap(), text);
        }

        #[test]
        fn usual_text_comes_back(text in "[ -~]{0,100}") {
            prop_assert_eq!(decoded(&encoded(text.as_bytes())).unwrap(), text.as_bytes());
        }

        #[test]
        fn what_is_decoded_has_one_code(code in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(text) = decoded(&code) {
                prop_assert_eq!(encoded(&text), code);
            }
        }
    }
}
