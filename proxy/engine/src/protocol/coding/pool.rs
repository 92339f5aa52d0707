//! Encoders, of which there are as many at a time as their memory may be.
//!
//! Rule: whoever gets none sends what he has as it is. A few that are not in use are kept, since making one costs more
//! than a short body. Called by `session/exchange/compressing`.

use super::{Coding, Encoder};

/// Encoders of a coding that are kept while nobody uses them.
const SPARE_MAX: usize = 4;

/// Those of one engine.
#[derive(Default)]
pub struct Encoders {
    /// By [`Coding`].
    spare: [Vec<Encoder>; Coding::ALL.len()],
    /// The memory of those that are in use.
    in_use: usize,
}

impl Encoders {
    /// One for a body; none where the memory of all would be more than `most`.
    pub fn take(&mut self, coding: Coding, most: usize) -> Option<Encoder> {
        if self.in_use + coding.weight() > most {
            return None;
        }
        let spare = self.spare[coding as usize].pop();
        let encoder = spare.or_else(|| Encoder::new(coding))?;
        self.in_use += coding.weight();
        Some(encoder)
    }

    /// Takes one back.
    pub fn give(&mut self, mut encoder: Encoder) {
        let coding = encoder.coding();
        self.in_use -= coding.weight();
        let spare = &mut self.spare[coding as usize];
        if spare.len() < SPARE_MAX && encoder.reset() {
            spare.push(encoder);
        }
    }

    /// The memory of those that are in use.
    #[must_use]
    pub fn in_use_bytes(&self) -> usize {
        self.in_use
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_as_their_memory_may_be() {
        let mut encoders = Encoders::default();
        let most = 2 * Coding::Gzip.weight();
        let first = encoders.take(Coding::Gzip, most).unwrap();
        let second = encoders.take(Coding::Gzip, most).unwrap();
        assert!(encoders.take(Coding::Gzip, most).is_none());
        encoders.give(first);
        assert!(encoders.take(Coding::Zstd, most).is_none());
        let third = encoders.take(Coding::Gzip, most).unwrap();
        encoders.give(second);
        encoders.give(third);
        assert_eq!(encoders.in_use_bytes(), 0);
    }

    #[test]
    fn one_that_was_left_in_the_midst_of_a_body_is_as_good_as_new() {
        for coding in Coding::ALL {
            let mut encoders = Encoders::default();
            let mut made = [Vec::new(), Vec::new()];
            for out in &mut made {
                let mut encoder = encoders.take(coding, usize::MAX).unwrap();
                encoder.write(b"a body", super::super::Then::End, out);
                encoders.give(encoder);
                let mut left = encoders.take(coding, usize::MAX).unwrap();
                left.write(&[7; 100_000], super::super::Then::Wait, &mut Vec::new());
                encoders.give(left);
            }
            assert_eq!(made[0], made[1], "{coding:?}");
        }
    }
}
