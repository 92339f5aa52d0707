//! Names of requests, by which logs on both sides of us find one again.
//!
//! Rule: nobody needs one that cannot be guessed, and everybody one that is unique: a random start of the process, then
//! a counter. Called by `request` and by `l4::opening`.

/// 128 bits in hexadecimal.
pub(in crate::session) type RequestId = [u8; 32];

/// Of its digits, those that are of the process.
const SEED_DIGITS: usize = 16;

/// Makes them, one behind the other.
pub(in crate::session) struct RequestIds {
    last: RequestId,
}

impl RequestIds {
    /// Those of one process.
    pub(in crate::session) fn new(seed: u64) -> Self {
        let mut last = [b'0'; 32];
        let (digits, _) = last.split_at_mut(SEED_DIGITS);
        for (place, digit) in digits.iter_mut().rev().enumerate() {
            *digit = b"0123456789abcdef"[(seed >> (4 * place) & 15) as usize];
        }
        Self { last }
    }

    /// The next one. Counted as it is written: mostly one digit, instead of all of them from a number.
    #[inline]
    pub(in crate::session) fn next(&mut self) -> RequestId {
        let (_, serial) = self.last.split_at_mut(SEED_DIGITS);
        for digit in serial.iter_mut().rev() {
            *digit = match *digit {
                b'9' => b'a',
                b'f' => b'0',
                digit => digit + 1,
            };
            if *digit != b'0' {
                break;
            }
        }
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_count_behind_the_start_of_their_process() {
        for (seed, from) in [
            (0, 0),
            (0x00c0_ffee_1234_5678, 0xffe),
            (u64::MAX, u64::MAX - 20),
            (1, 0x9999_9999_ffff_fff0),
        ] {
            let mut ids = RequestIds::new(seed);
            let said = format!("{seed:016x}{from:016x}");
            ids.last.copy_from_slice(said.as_bytes());
            for number in 1..=300 {
                let serial = from.wrapping_add(number);
                let expected = format!("{seed:016x}{serial:016x}");
                assert_eq!(ids.next(), expected.as_bytes());
            }
        }
        let first = RequestIds::new(0xab).next();
        assert_eq!(&first, b"00000000000000ab0000000000000001");
    }
}
